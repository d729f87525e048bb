package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
)

// outboxTables are guarded by turn.
type outboxTables struct {
	rows   map[string]*outboxRow
	seq    int64
	holder string
	epoch  int64
	until  time.Time
}

type outboxRow struct {
	bus.Row
	died time.Time
}

// Outbox keeps what is sent after commit.
func (s *Store) Outbox() bus.Outbox { return outbox{s} }

type outbox struct{ s *Store }

func (k outbox) Add(_ context.Context, x store.Tx, rows []bus.Row) error {
	t, err := k.s.of(x)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if k.s.outbox.rows[r.ID] != nil {
			continue
		}
		k.s.outbox.seq++
		put(t, &k.s.outbox.rows, r.ID, &outboxRow{Row: bus.Row{ID: r.ID, Order: r.Order, Data: slices.Clone(r.Data), Seq: k.s.outbox.seq, Added: t.now}})
	}
	return nil
}

// sorted are rows in order of Seq.
func (k outbox) sorted(want func(r *outboxRow) bool) (out []*outboxRow) {
	for _, r := range k.s.outbox.rows {
		if want(r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *outboxRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

func (k outbox) Claim(_ context.Context, x store.Tx, c bus.OutboxClaim) (out bus.OutboxClaimed, err error) {
	t, err := k.s.of(x)
	if err != nil {
		return out, err
	}
	dead := k.sorted(func(r *outboxRow) bool { return r.Dead })
	live := k.sorted(func(r *outboxRow) bool { return !r.Dead })
	out.Pending, out.Dead = int64(len(live)), int64(len(dead))
	old := 0
	for _, r := range dead {
		if r.died.Before(t.now.Add(-bus.DeadFor)) && old < 100 {
			old++
			put(t, &k.s.outbox.rows, r.ID, nil)
		}
	}
	if len(live) == 0 {
		return out, nil
	}
	if out.Epoch, out.Wait = k.lead(t, c); out.Wait > 0 {
		return out, nil
	}
	waiting := map[string]bool{}
	for _, r := range live {
		if wait := r.Due.Sub(t.now); wait > 0 {
			waiting[r.Order] = true
			if out.Wait == 0 || wait < out.Wait {
				out.Wait = wait
			}
		}
	}
	for _, r := range live {
		if !waiting[r.Order] && len(out.Rows) < c.Max {
			out.Rows = append(out.Rows, r.copy())
		}
	}
	if len(out.Rows) > 0 {
		out.Wait = 0
	}
	return out, nil
}

func (r *outboxRow) copy() bus.Row {
	c := r.Row
	c.Data = slices.Clone(r.Data)
	return c
}

// lead takes or keeps the relay's claim, or says how long another's lasts.
func (k outbox) lead(t *tx, c bus.OutboxClaim) (int64, time.Duration) {
	o := &k.s.outbox
	left := o.until.Sub(t.now)
	if left > 0 && o.holder != c.Relay {
		return 0, left
	}
	if left > c.TTL/2 {
		return o.epoch, 0
	}
	holder, epoch, until := o.holder, o.epoch, o.until
	t.onRollback(func() { o.holder, o.epoch, o.until = holder, epoch, until })
	if left <= 0 {
		o.epoch++
	}
	o.holder, o.until = c.Relay, t.now.Add(c.TTL)
	return o.epoch, 0
}

func (k outbox) leads(epoch int64) error {
	if k.s.outbox.epoch != epoch {
		return fmt.Errorf("memory: outbox: %w", store.ErrConflict)
	}
	return nil
}

func (k outbox) Done(_ context.Context, x store.Tx, epoch int64, ids []string) error {
	t, err := k.s.of(x)
	if err != nil {
		return err
	}
	if err := k.leads(epoch); err != nil {
		return err
	}
	for _, id := range ids {
		put(t, &k.s.outbox.rows, id, nil)
	}
	return nil
}

func (k outbox) Fail(_ context.Context, x store.Tx, epoch int64, fs []bus.OutboxFailure) error {
	t, err := k.s.of(x)
	if err != nil {
		return err
	}
	if epoch != 0 {
		if err := k.leads(epoch); err != nil {
			return err
		}
	}
	for _, f := range fs {
		old := k.s.outbox.rows[f.ID]
		if epoch == 0 && (old == nil || !old.Dead) {
			return fmt.Errorf("%w: no dead row %s", store.ErrNotFound, f.ID)
		}
		if old == nil {
			continue
		}
		r := *old
		if epoch == 0 {
			r.Dead, r.Due, r.Tries, r.Added = false, time.Time{}, 0, t.now
		} else {
			r.Tries, r.Due, r.Text, r.Dead, r.died = r.Tries+1, t.now.Add(f.Wait), f.Text, f.Dead, t.now
		}
		put(t, &k.s.outbox.rows, f.ID, &r)
	}
	return nil
}

func (k outbox) List(_ context.Context, x store.Tx, dead bool, after int64, limit int) ([]bus.Row, error) {
	if _, err := k.s.of(x); err != nil {
		return nil, err
	}
	rows := k.sorted(func(r *outboxRow) bool { return r.Dead == dead && r.Seq > after })
	out := make([]bus.Row, min(limit, len(rows)))
	for i := range out {
		out[i] = rows[i].copy()
	}
	return out, nil
}
