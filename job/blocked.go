package job

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// unhandledAfter is how long a ready job waits for a node that handles its kind before it is reported.
const unhandledAfter = time.Minute

// Why a job is [Blocked].
const (
	WhyTurn      = "turn"      // waits for its turn longer than Config.ReportAfter
	WhyOverdue   = "overdue"   // its handler ignores the end of its context past the kind's Grace
	WhyQuiet     = "quiet"     // its handler, on this node, gives no sign of life: see Quiet
	WhyUnhandled = "unhandled" // ready, but no live node has handled its kind for a minute
	WhyPoison    = "poison"    // parked because its node died too often
	WhyHeld      = "held"      // parked by Hold
	WhyParked    = "parked"    // nothing is left that would wake it
	WhyCycle     = "cycle"     // waits for a job that waits for it
)

// Blocked is a job that does not get on, and why.
type Blocked struct {
	Job    *Job
	Why    string
	Since  time.Time
	Holder syncqueue.Item // turn: who holds it; Content is the job, Holder the node, Since when it began
	Line   int            // turn: how many wait for it
	Cycle  []string       // cycle: the ids of the jobs, each of which waits for the next, and the last for the first
}

// blockedMost bounds what Blocked reads of each kind.
const blockedMost = 10_000

// Blocked lists the jobs that do not get on: an empty list is a healthy cluster. It reports and never ends anything. Of handlers
// that are quiet, or wait within [Manager.Wait], only this node's are known. It reads all running and parked jobs, 10 000 at most.
func (m *Manager) Blocked(ctx context.Context) ([]Blocked, error) {
	list, err := m.blockedJobs(ctx)
	if err != nil {
		return nil, err
	}
	infos, err := m.sessions(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := m.unhandled(ctx, infos, dueBatch)
	for i := range rows {
		list = append(list, Blocked{Job: rows[i].public(), Why: WhyUnhandled, Since: rows[i].RunAt})
	}
	return list, err
}

// blockedJobs is Blocked without those that nobody handles.
func (m *Manager) blockedJobs(ctx context.Context) ([]Blocked, error) {
	b := &blockage{m: m}
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		b.list, b.by = nil, map[string]*Row{}
		return b.look(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(b.list, func(x, y Blocked) int {
		return cmp.Or(cmp.Compare(x.Why, y.Why), cmp.Compare(x.Job.Seq, y.Job.Seq))
	})
	return b.list, nil
}

// blockage is one look at it.
type blockage struct {
	m    *Manager
	now  time.Time
	list []Blocked
	by   map[string]*Row // what was read
	rows []*Row          // the same, in order
	wait map[string][]string
}

func (b *blockage) add(r *Row, why string, since time.Time) *Blocked {
	b.list = append(b.list, Blocked{Job: r.public(), Why: why, Since: since})
	return &b.list[len(b.list)-1]
}

func (b *blockage) look(ctx context.Context, tx store.Tx) error {
	b.now, b.rows, b.wait = tx.Now(), nil, map[string][]string{}
	for _, s := range []State{Running, Parked} {
		if err := b.read(ctx, tx, s); err != nil {
			return err
		}
	}
	for _, r := range b.rows {
		if r.State == Running {
			b.running(r)
		} else {
			b.parked(r)
		}
	}
	b.here()
	if err := b.lines(ctx, tx); err != nil {
		return err
	}
	b.cycles()
	return nil
}

// read reads the jobs in one state, parked ones with what they wait for.
func (b *blockage) read(ctx context.Context, tx store.Tx, s State) error {
	q := Query{States: []State{s}, Limit: maxPage}
	for n := 0; n < blockedMost; {
		found, err := b.m.store.List(ctx, tx, Find{Query: &q, Waits: s == Parked, Limit: q.Limit})
		if err != nil {
			return err
		}
		for i := range found.Rows {
			b.note(&found.Rows[i])
		}
		n += len(found.Rows)
		if q.After = found.Next; q.After == "" {
			break
		}
	}
	return nil
}

func (b *blockage) note(r *Row) {
	if b.by[r.ID] == nil {
		b.by[r.ID] = r
		b.rows = append(b.rows, r)
	}
}

func (b *blockage) running(r *Row) {
	grace := defaultHandler().grace
	if k := b.m.kindNamed(r.Kind); k != nil {
		grace = k.opt.grace
	}
	if end := r.RunUntil; !end.IsZero() && b.now.Sub(end) >= grace {
		b.add(r, WhyOverdue, end)
	} else if at := r.CancelAt; !at.IsZero() && b.now.Sub(at) >= grace {
		b.add(r, WhyOverdue, at)
	}
}

func (b *blockage) parked(r *Row) {
	b.wait[r.ID] = r.Joins
	var p parked
	switch {
	case r.Queue == syncqueue.ItemQueue: // a host's, which has taken it
	case r.Flags&Poisoned != 0:
		b.add(r, WhyPoison, r.Updated)
	case r.Flags&Held != 0:
		b.add(r, WhyHeld, r.Updated)
	case len(r.Conditions) == 0 || json.Unmarshal(r.Conditions, &p) != nil:
		b.add(r, WhyParked, r.Updated)
	case len(r.Joins) == 0 && r.WakeAt.IsZero() && !p.listens():
		b.add(r, WhyParked, r.Updated)
	}
}

// listens says that a signal may wake it.
func (p *parked) listens() bool {
	topic := false
	p.Want.each(func(c *cond) { topic = topic || c.Topic != "" })
	return topic
}

// here adds what only this node knows of its own handlers.
func (b *blockage) here() {
	now := b.m.env.Clock.Now()
	for _, r := range b.m.running(func(*run) bool { return true }) {
		row := b.by[r.row.ID]
		if row == nil || row.Epoch != r.row.Epoch {
			continue
		}
		if d := r.quietSince(now); d >= r.kind.opt.quiet {
			b.add(row, WhyQuiet, b.now.Add(-d))
		}
		r.mu.Lock()
		b.wait[r.row.ID] = append(b.wait[r.row.ID], r.more().waitsFor...)
		r.mu.Unlock()
	}
}

// lines adds those that wait for a turn too long, and notes who waits for whom.
func (b *blockage) lines(ctx context.Context, tx store.Tx) error {
	t, ok := b.m.store.(Turner)
	if !ok {
		return nil
	}
	items, err := t.Turns().List(ctx, tx, syncqueue.Filter{Older: 1})
	if err != nil {
		return err
	}
	holders, line := map[syncqueue.Key][]syncqueue.Item{}, map[syncqueue.Key]int{}
	var ids []string
	for _, i := range items {
		if !i.Since.IsZero() {
			holders[i.Key] = append(holders[i.Key], i)
			continue
		}
		line[i.Key]++
		ids = append(ids, i.Content)
	}
	for part := range slices.Chunk(ids, waitChunk) {
		found, err := b.m.store.List(ctx, tx, Find{IDs: part, Limit: len(part)})
		if err != nil {
			return err
		}
		for i := range found.Rows {
			b.note(&found.Rows[i])
		}
	}
	for _, i := range items {
		r := b.by[i.Content]
		if r == nil || r.State != Waiting || !i.Since.IsZero() {
			continue
		}
		for _, h := range holders[i.Key] {
			b.wait[r.ID] = append(b.wait[r.ID], h.Content)
		}
		if b.now.Sub(i.Enqueued) < b.m.cfg.ReportAfter {
			continue
		}
		x := b.add(r, WhyTurn, i.Enqueued)
		x.Line = line[i.Key]
		if hs := holders[i.Key]; len(hs) > 0 {
			x.Holder = hs[0]
		}
	}
	return nil
}

// cycles finds jobs that wait for each other: each cycle once, from its oldest job on.
func (b *blockage) cycles() {
	slices.SortFunc(b.rows, func(x, y *Row) int { return cmp.Compare(x.Seq, y.Seq) })
	done := map[string]bool{} // no new cycle goes through it
	for _, r := range b.rows {
		var path []string
		var walk func(id string) []string
		walk = func(id string) []string {
			if i := slices.Index(path, id); i >= 0 {
				return slices.Clone(path[i:])
			}
			if done[id] {
				return nil
			}
			path = append(path, id)
			for _, next := range b.wait[id] {
				if c := walk(next); c != nil {
					return c
				}
			}
			path = path[:len(path)-1]
			done[id] = true
			return nil
		}
		if c := walk(r.ID); c != nil {
			for _, id := range c {
				done[id] = true
			}
			if first := b.by[c[0]]; first != nil {
				b.add(first, WhyCycle, first.Updated).Cycle = c
			}
		}
	}
}

// sessions are all that are kept; nil: this manager does not know them.
func (m *Manager) sessions(ctx context.Context) (infos []lease.Info, err error) {
	switch {
	case m.session != nil:
		return m.session.List(ctx)
	case m.cfg.DB != nil:
		err = m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			infos, err = m.cfg.DB.Leases().List(ctx, tx)
			return err
		})
	}
	return infos, err
}

// unhandled are the ready jobs that have been due for a minute and whose kind no node has handled for that long, by what is known
// of sessions that are over.
func (m *Manager) unhandled(ctx context.Context, infos []lease.Info, most int) (rows []Row, err error) {
	if m.session == nil && m.cfg.DB == nil {
		return nil, nil
	}
	err = m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		then := tx.Now().Add(-unhandledAfter)
		heard := []string{syncqueue.ItemQueue}
		for _, i := range infos {
			if !i.Named && (i.State != lease.Dead || i.Until.After(then)) {
				heard = append(heard, i.Kinds...)
			}
		}
		slices.Sort(heard)
		found, err := m.store.List(ctx, tx, Find{Due: "unhandled", Before: then, NotKinds: slices.Compact(heard), Limit: most})
		rows = found.Rows
		return err
	})
	return rows, err
}

// attrs are for the log.
func (b *Blocked) attrs() []any {
	as := []any{"job", b.Job.ID, "kind", b.Job.Kind, "why", b.Why, "since", b.Since}
	if b.Why == WhyTurn {
		as = append(as, "holder", b.Holder.Content, "node", b.Holder.Holder, "line", b.Line)
	}
	if b.Why == WhyCycle {
		as = append(as, "cycle", strings.Join(b.Cycle, " "))
	}
	return as
}
