package testkit

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// stores is a life's view of the world's store: every call is a scheduling point.
type stores struct{ life *life }

func newStores(l *life) *stores { return &stores{l} }

func (s *stores) Jobs() job.Store {
	inner := s.life.node.w.db.Jobs()
	j := jobs{s, inner}
	turns, a := inner.(job.Turner)
	fin, b := inner.(job.Finisher)
	switch {
	case a && b:
		return struct {
			jobs
			turner
			finisher
		}{j, turner{s, turns}, finisher{s, fin}}
	case a:
		return struct {
			jobs
			turner
		}{j, turner{s, turns}}
	case b:
		return struct {
			jobs
			finisher
		}{j, finisher{s, fin}}
	}
	return j
}

func (s *stores) Queues() syncqueue.Store   { return queues{s, s.life.node.w.db.Queues()} }
func (s *stores) Leases() lease.Store       { return leases{s, s.life.node.w.db.Leases()} }
func (s *stores) Ledger() lease.LedgerStore { return ledger{s, s.life.node.w.db.Ledger()} }

// call is an operation that answers an R within a transaction of s.
func call[R any](s *stores, x store.Tx, op, key string, f func(x store.Tx) (R, error), note func(R) string) (r R, err error) {
	t, err := s.of(x)
	if err != nil {
		return r, err
	}
	err = t.do(op, key, func(x store.Tx) (string, error) {
		var err error
		if r, err = f(x); err != nil || note == nil {
			return "", err
		}
		return note(r), nil
	})
	if err != nil {
		var none R
		if t.broken != nil {
			r = none
		}
		return r, err
	}
	return r, nil
}

// group is the key of an operation on several records.
func group[T any](xs []T, id func(T) string) string {
	switch len(xs) {
	case 0:
		return ""
	case 1:
		return id(xs[0])
	}
	return fmt.Sprintf("%s+%d", id(xs[0]), len(xs)-1)
}

func rowID(r job.Row) string     { return r.ID }
func moveID(m job.Move) string   { return m.ID }
func entryID(e job.Entry) string { return e.JobID }
func own(s string) string        { return s }

type jobs struct {
	s *stores
	d job.Store
}

// Events of committed transactions, for observers.
type (
	inserted struct{ rows []job.Row }
	claimed  struct {
		by   job.Claim
		rows []job.Row
	}
	moved struct {
		moves []job.Move
		done  []bool
	}
	policed struct{ rows []syncqueue.PolicyRow }
	// reordered is a key whose line somebody was moved in.
	reordered struct{ key syncqueue.Key }
)

func (j jobs) Insert(ctx context.Context, x store.Tx, rows []job.Row) ([]job.Row, error) {
	return call(j.s, x, "store.jobs.insert", group(rows, rowID), func(in store.Tx) ([]job.Row, error) {
		out, err := j.d.Insert(ctx, in, rows)
		if err == nil {
			x.(*tx).saw(inserted{out})
		}
		return out, err
	}, nil)
}

func (j jobs) List(ctx context.Context, x store.Tx, f job.Find) (job.Found, error) {
	key := group(f.IDs, own)
	if f.Due != "" {
		key = f.Due
	}
	return call(j.s, x, "store.jobs.list", key, func(in store.Tx) (job.Found, error) { return j.d.List(ctx, in, f) },
		func(r job.Found) string { return fmt.Sprintf("rows=%d", len(r.Rows)) })
}

func (j jobs) Claim(ctx context.Context, x store.Tx, c job.Claim) (job.Claimed, error) {
	return call(j.s, x, "store.jobs.claim", c.Session.Node, func(in store.Tx) (job.Claimed, error) {
		out, err := j.d.Claim(ctx, in, c)
		if err == nil && len(out.Rows) > 0 {
			x.(*tx).saw(claimed{c, out.Rows})
		}
		return out, err
	}, func(r job.Claimed) string { return fmt.Sprintf("max=%d ", c.Max) + rowsNote(r.Rows) + askNote(r) })
}

// askNote is what else a claim asks its round to do.
func askNote(r job.Claimed) (s string) {
	for i, on := range []bool{r.More, r.Sweep, r.Due, r.Cancels} {
		if on {
			s += [...]string{" more", " sweep", " due", " cancels"}[i]
		}
	}
	return s
}

func rowsNote(rows []job.Row) string {
	if len(rows) == 0 {
		return "none"
	}
	return fmt.Sprintf("jobs=%s epoch=%d", group(rows, rowID), rows[0].Epoch)
}

func (j jobs) Move(ctx context.Context, x store.Tx, ms []job.Move) ([]bool, error) {
	return call(j.s, x, "store.jobs.move", group(ms, moveID), func(in store.Tx) ([]bool, error) {
		done, err := j.d.Move(ctx, in, ms)
		if err == nil {
			x.(*tx).saw(moved{ms, done})
		}
		return done, err
	}, func(done []bool) string { return movesNote(ms, done) })
}

func movesNote(ms []job.Move, done []bool) string {
	if len(ms) == 0 {
		return "none"
	}
	n := 0
	for _, d := range done {
		if d {
			n++
		}
	}
	return fmt.Sprintf("epoch=%d %s>%s done=%d", ms[0].Epoch, ms[0].From, ms[0].To, n)
}

func (j jobs) Log(ctx context.Context, x store.Tx, es []job.Entry) error {
	_, err := call(j.s, x, "store.jobs.log", group(es, entryID), func(in store.Tx) (struct{}, error) {
		return struct{}{}, j.d.Log(ctx, in, es)
	}, nil)
	return err
}

func (j jobs) Signal(ctx context.Context, x store.Tx, s job.Signal) (job.Signalled, error) {
	key := s.Topic
	if key == "" {
		key = group(s.Ended, own)
	}
	return call(j.s, x, "store.jobs.signal", key, func(in store.Tx) (job.Signalled, error) { return j.d.Signal(ctx, in, s) },
		func(r job.Signalled) string { return fmt.Sprintf("rows=%d reached=%d", len(r.Rows), r.Reached) })
}

func (j jobs) Set(ctx context.Context, x store.Tx, set []job.Setting) ([]string, error) {
	return call(j.s, x, "store.jobs.set", group(set, func(s job.Setting) string { return s.Name }),
		func(in store.Tx) ([]string, error) { return j.d.Set(ctx, in, set) }, nil)
}

type turner struct {
	s *stores
	d job.Turner
}

func (t turner) Turns() syncqueue.Store { return queues{t.s, t.d.Turns()} }

type finisher struct {
	s *stores
	d job.Finisher
}

func (j finisher) Finish(ctx context.Context, x store.Tx, f job.Finish) (job.Finished, error) {
	return call(j.s, x, "store.jobs.finish", group(f.Moves, moveID), func(in store.Tx) (job.Finished, error) {
		out, err := j.d.Finish(ctx, in, f)
		if err == nil {
			x.(*tx).saw(moved{f.Moves, out.Done})
			if len(out.Started) > 0 {
				x.(*tx).saw(claimed{f.Start, out.Started})
			}
		}
		return out, err
	}, func(r job.Finished) string {
		return movesNote(f.Moves, r.Done) + " started=" + rowsNote(r.Started)
	})
}

type queues struct {
	s *stores
	d syncqueue.Store
}

func (q queues) List(ctx context.Context, x store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
	return call(q.s, x, "store.queues.list", f.Key.Kind+" "+f.Key.ID, func(in store.Tx) ([]syncqueue.Item, error) { return q.d.List(ctx, in, f) }, nil)
}

func (q queues) Enter(ctx context.Context, x store.Tx, id string, i syncqueue.Item) (syncqueue.Item, error) {
	return call(q.s, x, "store.queues.enter", i.Key.String(), func(in store.Tx) (syncqueue.Item, error) { return q.d.Enter(ctx, in, id, i) }, nil)
}

func (q queues) Take(ctx context.Context, x store.Tx, t syncqueue.Take) ([]syncqueue.Item, error) {
	return call(q.s, x, "store.queues.take", t.Holder, func(in store.Tx) ([]syncqueue.Item, error) { return q.d.Take(ctx, in, t) }, nil)
}

func (q queues) Release(ctx context.Context, x store.Tx, i syncqueue.Item, back bool) (bool, error) {
	return call(q.s, x, "store.queues.release", strconv.FormatInt(i.Seq, 10), func(in store.Tx) (bool, error) { return q.d.Release(ctx, in, i, back) }, nil)
}

func (q queues) Move(ctx context.Context, x store.Tx, m syncqueue.Move) (syncqueue.Item, error) {
	return call(q.s, x, "store.queues.move", strconv.FormatInt(m.Seq, 10), func(in store.Tx) (syncqueue.Item, error) {
		i, err := q.d.Move(ctx, in, m)
		if err == nil {
			x.(*tx).saw(reordered{i.Key})
		}
		return i, err
	}, nil)
}

func (q queues) Policy(ctx context.Context, x store.Tx, set []syncqueue.PolicyRow) ([]syncqueue.PolicyRow, error) {
	return call(q.s, x, "store.queues.policy", group(set, func(r syncqueue.PolicyRow) string { return r.Kind }),
		func(in store.Tx) ([]syncqueue.PolicyRow, error) {
			all, err := q.d.Policy(ctx, in, set)
			if err == nil {
				x.(*tx).saw(policed{all})
			}
			return all, err
		}, nil)
}

func (q queues) Audit(ctx context.Context, x store.Tx, max int) (int, error) {
	return call(q.s, x, "store.queues.audit", "", func(in store.Tx) (int, error) { return q.d.Audit(ctx, in, max) }, nil)
}

type leases struct {
	s *stores
	d lease.Store
}

type (
	opened struct {
		token lease.Token
		ttl   time.Duration
	}
	renewed struct {
		token lease.Token
		ttl   time.Duration
	}
	closed   struct{ token lease.Token }
	acquired struct {
		holder, token lease.Token
		name          string
	}
	released struct {
		token lease.Token
		name  string
	}
)

func epochNote(t lease.Token) string { return fmt.Sprintf("epoch=%d", t.Epoch) }

func (l leases) Open(ctx context.Context, x store.Tx, i lease.Info, process string, ttl time.Duration) (lease.Token, error) {
	return call(l.s, x, "store.leases.open", i.Name, func(in store.Tx) (lease.Token, error) {
		tok, err := l.d.Open(ctx, in, i, process, ttl)
		if err == nil {
			x.(*tx).saw(opened{tok, ttl})
		}
		return tok, err
	}, epochNote)
}

// act is an operation on a lease that answers nothing.
func (l leases) act(x store.Tx, op, key string, event any, f func(in store.Tx) error) error {
	_, err := call(l.s, x, op, key, func(in store.Tx) (struct{}, error) {
		err := f(in)
		if err == nil {
			x.(*tx).saw(event)
		}
		return struct{}{}, err
	}, nil)
	return err
}

func (l leases) Renew(ctx context.Context, x store.Tx, t lease.Token, i lease.Info, ttl time.Duration) error {
	return l.act(x, "store.leases.renew", t.Node, renewed{t, ttl}, func(in store.Tx) error { return l.d.Renew(ctx, in, t, i, ttl) })
}

func (l leases) Close(ctx context.Context, x store.Tx, t lease.Token) error {
	return l.act(x, "store.leases.close", t.Node, closed{t}, func(in store.Tx) error { return l.d.Close(ctx, in, t) })
}

func (l leases) Sweep(ctx context.Context, x store.Tx, max int) ([]lease.Token, error) {
	return call(l.s, x, "store.leases.sweep", "", func(in store.Tx) ([]lease.Token, error) { return l.d.Sweep(ctx, in, max) },
		func(ts []lease.Token) string { return fmt.Sprintf("dead=%d", len(ts)) })
}

func (l leases) List(ctx context.Context, x store.Tx) ([]lease.Info, error) {
	return call(l.s, x, "store.leases.list", "", func(in store.Tx) ([]lease.Info, error) { return l.d.List(ctx, in) }, nil)
}

func (l leases) Acquire(ctx context.Context, x store.Tx, t lease.Token, name string) (lease.Token, error) {
	return call(l.s, x, "store.leases.acquire", name, func(in store.Tx) (lease.Token, error) {
		tok, err := l.d.Acquire(ctx, in, t, name)
		if err == nil {
			x.(*tx).saw(acquired{t, tok, name})
		}
		return tok, err
	}, epochNote)
}

func (l leases) Release(ctx context.Context, x store.Tx, t lease.Token, name string) error {
	return l.act(x, "store.leases.release", name, released{t, name}, func(in store.Tx) error { return l.d.Release(ctx, in, t, name) })
}

type ledger struct {
	s *stores
	d lease.LedgerStore
}

type took struct {
	epoch int64
	wait  time.Duration
}

func (l ledger) Take(ctx context.Context, x store.Tx, t lease.Token, name string, due time.Time) (int64, time.Duration, error) {
	r, err := call(l.s, x, "store.ledger.take", name, func(in store.Tx) (took, error) {
		epoch, wait, err := l.d.Take(ctx, in, t, name, due)
		return took{epoch, wait}, err
	}, func(r took) string { return fmt.Sprintf("epoch=%d", r.epoch) })
	return r.epoch, r.wait, err
}

func (l ledger) Done(ctx context.Context, x store.Tx, name string, epoch int64, outcome string) error {
	_, err := call(l.s, x, "store.ledger.done", name, func(in store.Tx) (struct{}, error) {
		return struct{}{}, l.d.Done(ctx, in, name, epoch, outcome)
	}, nil)
	return err
}

func (l ledger) Last(ctx context.Context, x store.Tx, name string) (time.Time, error) {
	return call(l.s, x, "store.ledger.last", name, func(in store.Tx) (time.Time, error) { return l.d.Last(ctx, in, name) }, nil)
}
