package syncqueue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

const (
	maxLimit = 1_000_000
	maxPage  = 1000
)

// Queue is the durable kind: turns across the cluster that survive crashes. The turns themselves are taken by package job,
// with its Store and inside its own transactions; a Queue sets limits and shows and checks the lines. Its methods may be
// called from anywhere at any time. Except for bad arguments ([ErrInvalid]) their errors are the store's.
type Queue struct {
	cfg    Config
	filled atomic.Bool
	warned atomic.Bool
	meters meters
}

// Config of a [Queue]. Tx and Store are required.
type Config struct {
	Env   drover.Env
	Tx    store.Runner
	Store Store
	// Policies by Key.Kind only fill kinds that have no stored policy, whose limit is 1: the store owns them, and a
	// stored one that differs wins, with one warning per Queue. (CloudStack lets the newest caller overwrite it.)
	Policies map[string]Policy
}

// New checks cfg. An error is [drover.ErrConfig], or [ErrInvalid] for a bad policy.
func New(cfg Config) (*Queue, error) {
	cfg.Env = cfg.Env.Defaults()
	cfg.Policies = maps.Clone(cfg.Policies)
	switch {
	case cfg.Tx == nil:
		return nil, fmt.Errorf("syncqueue: Config.Tx is required: %w", drover.ErrConfig)
	case cfg.Store == nil:
		return nil, fmt.Errorf("syncqueue: Config.Store is required: %w", drover.ErrConfig)
	}
	for _, kind := range slices.Sorted(maps.Keys(cfg.Policies)) {
		if err := checkPolicy(kind, cfg.Policies[kind].Limit); err != nil {
			return nil, fmt.Errorf("%w (Config.Policies): %w", err, drover.ErrConfig)
		}
	}
	q := &Queue{cfg: cfg}
	if err := q.meters.init(cfg.Env.Meter.Meter(instruments)); err != nil {
		return nil, fmt.Errorf("syncqueue: Config.Env.Meter: %w: %w", err, drover.ErrConfig)
	}
	q.filled.Store(len(cfg.Policies) == 0)
	return q, nil
}

func checkPolicy(kind string, limit int) error {
	if kind == "" {
		return fmt.Errorf("%w: kind is empty", ErrInvalid)
	}
	if err := (Key{Kind: kind}).Validate(); err != nil {
		return err
	}
	if limit < 0 || limit > maxLimit {
		return fmt.Errorf("%w: limit %d of %s, must be 0 (unlimited) to %d", ErrInvalid, limit, kind, maxLimit)
	}
	return nil
}

// in runs f in a transaction, after Fill.
func (q *Queue) in(ctx context.Context, f func(ctx context.Context, tx store.Tx) error) error {
	if err := q.Fill(ctx); err != nil {
		return err
	}
	return q.cfg.Tx.InTx(ctx, f)
}

// Fill stores Config.Policies for the kinds that have none, once. Every method of Queue does so first, and a job.Manager
// before its first keyed submission; a host that submits only in transactions of its own calls it once at its start.
func (q *Queue) Fill(ctx context.Context) error {
	if q.filled.Load() {
		return nil
	}
	var differ []PolicyRow
	err := q.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		rows, err := q.cfg.Store.Policy(ctx, tx, nil)
		if err != nil {
			return err
		}
		var missing []PolicyRow
		missing, differ = q.compare(rows)
		if len(missing) > 0 {
			_, err = q.cfg.Store.Policy(ctx, tx, missing)
		}
		return err
	})
	if err != nil {
		return err
	}
	q.filled.Store(true)
	if len(differ) > 0 && q.warned.CompareAndSwap(false, true) {
		for _, r := range differ {
			q.cfg.Env.Logger.WarnContext(ctx, "limit differs", "component", "syncqueue", "kind", r.Kind,
				"stored", r.Limit, "configured", q.cfg.Policies[r.Kind].Limit)
		}
	}
	return nil
}

// compare finds what rows lack of Config.Policies, and the rows that differ from it.
func (q *Queue) compare(rows []PolicyRow) (missing, differ []PolicyRow) {
	stored := map[string]PolicyRow{}
	for _, r := range rows {
		if r.ID == "" {
			stored[r.Kind] = r
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(q.cfg.Policies)) {
		p := q.cfg.Policies[kind]
		if r, ok := stored[kind]; !ok || r.Limit == Inherit {
			p.Paused = p.Paused || r.Paused
			missing = append(missing, PolicyRow{Kind: kind, Policy: p})
		} else if r.Limit != p.Limit {
			differ = append(differ, r)
		}
	}
	return missing, differ
}

// SetLimit makes n the limit of a kind: how many turns each of its keys has at once, 0 = unlimited, at most 1 000 000.
// Raising it grants as many waiters as fit before it returns; lowering it ends nobody, but no turn is granted while more
// hold one. From unlimited to n, the jobs that are ready, running or parked count as holders.
func (q *Queue) SetLimit(ctx context.Context, kind string, n int) error {
	if err := checkPolicy(kind, n); err != nil {
		return err
	}
	return q.change(ctx, Key{Kind: kind}, func(p *Policy) { p.Limit = n })
}

// SetKeyLimit is SetLimit for one key, which then no longer follows its kind's limit.
func (q *Queue) SetKeyLimit(ctx context.Context, k Key, n int) error {
	if err := checkKey(k); err != nil {
		return err
	}
	if err := checkPolicy(k.Kind, n); err != nil {
		return err
	}
	return q.change(ctx, k, func(p *Policy) { p.Limit = n })
}

// Policies are all stored ones, sorted by kind, then id. Kinds without a row have limit 1; a Limit of [Inherit] is none.
func (q *Queue) Policies(ctx context.Context) (rows []PolicyRow, err error) {
	err = q.in(ctx, func(ctx context.Context, tx store.Tx) error {
		rows, err = q.cfg.Store.Policy(ctx, tx, nil)
		return err
	})
	return rows, err
}

// List is the whole line of a key: holders first, then waiters in their order. A key never used has none. See Page for
// long lines.
func (q *Queue) List(ctx context.Context, k Key) (items []Item, err error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	err = q.in(ctx, func(ctx context.Context, tx store.Tx) error {
		items = nil
		f := Filter{Key: k, Limit: maxPage}
		for {
			page, err := q.cfg.Store.List(ctx, tx, f)
			if err != nil {
				return err
			}
			if items = append(items, page...); len(page) < maxPage {
				return nil
			}
			f.After = page[len(page)-1].Cursor(false)
		}
	})
	return items, err
}

// Page is what Filter selects, at most 1000 items; the last one's Cursor is where the next page begins.
func (q *Queue) Page(ctx context.Context, f Filter) (items []Item, err error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	err = q.in(ctx, func(ctx context.Context, tx store.Tx) error {
		items, err = q.cfg.Store.List(ctx, tx, f)
		return err
	})
	return items, err
}

// Keys are those with a line, sorted; Filter's Kind, After and Limit apply. The next page begins After
// Item{Key: last.Key}.Cursor(true).
func (q *Queue) Keys(ctx context.Context, f Filter) (stats []Stat, err error) {
	f.Keys = true
	if err := f.check(); err != nil {
		return nil, err
	}
	err = q.in(ctx, func(ctx context.Context, tx store.Tx) error {
		items, err := q.cfg.Store.List(ctx, tx, f)
		if err != nil {
			return err
		}
		rows, err := q.cfg.Store.Policy(ctx, tx, nil)
		if err != nil {
			return err
		}
		limits := make(map[Key]int, len(rows))
		for _, r := range rows {
			if r.Limit != Inherit {
				limits[Key{r.Kind, r.ID}] = r.Limit
			}
		}
		stats = make([]Stat, len(items))
		for i, it := range items {
			level, ok := limits[it.Key]
			if !ok {
				if level, ok = limits[Key{Kind: it.Key.Kind}]; !ok {
					level = 1
				}
			}
			stats[i] = Stat{Key: it.Key, Level: level, Running: it.Held, Pending: it.Waiting, Oldest: max(0, tx.Now().Sub(it.Enqueued))}
		}
		return nil
	})
	return stats, err
}

// Blocked are the items that have waited longer than older, each key's behind its holders (Since is not zero), at most 1000
// in all.
func (q *Queue) Blocked(ctx context.Context, older time.Duration) (items []Item, err error) {
	if older <= 0 {
		return nil, fmt.Errorf("%w: older is %v, must be positive", ErrInvalid, older)
	}
	return q.Page(ctx, Filter{Older: older})
}

// Audit looks for lines that nobody will move on and holders that are none, repairs at most 1000 keys and says how many.
// It should find 0, for ever; package job calls it every 60 s.
func (q *Queue) Audit(ctx context.Context) (repaired int, err error) {
	err = q.in(ctx, func(ctx context.Context, tx store.Tx) error {
		repaired, err = q.cfg.Store.Audit(ctx, tx, maxPage)
		return err
	})
	if err == nil && repaired > 0 {
		q.meters.repaired.Add(ctx, int64(repaired))
		q.cfg.Env.Logger.ErrorContext(ctx, "repaired", "component", "syncqueue", "lines", repaired)
	}
	return repaired, err
}
