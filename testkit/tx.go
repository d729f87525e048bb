package testkit

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/internal/testkit/sched"
	"github.com/drover-cloud/drover/store"
)

// maxTries is how often InTx runs a function that meets serialization failures.
const maxTries = 10

// tx is a node's view of an open transaction.
type tx struct {
	s      *stores
	inner  store.Tx
	g      *sched.G
	ctx    context.Context
	broken error // the transaction can only roll back
	done   bool
	end    sched.Verdict // of the commit
	events []any         // for observers
}

func (t *tx) Now() time.Time    { return t.inner.Now() }
func (t *tx) Hint(topic string) { t.inner.Hint(topic) }

// of translates a node's transaction into the store's own.
func (s *stores) of(x store.Tx) (*tx, error) {
	t, ok := x.(*tx)
	if !ok || t.s != s {
		return nil, store.ErrForeign
	}
	if t.done {
		return nil, errors.New("testkit: transaction has ended")
	}
	return t, nil
}

// Inner is the transaction of the world's own store behind one of a node's (see [Store]), for a host that writes rows of its own
// in it; x itself if it is none of a node's. What is done by it is no scheduling point: it belongs to the last one before it.
func Inner(x store.Tx) store.Tx {
	if t, ok := x.(*tx); ok {
		return t.inner
	}
	return x
}

// Read is the scheduling point before a read of the host's own, outside of transactions, on the connection that s is of a node's. It
// meets what other operations meet; an error means that there is nothing to read.
func Read(ctx context.Context, s Stores, key string) error {
	own, ok := s.(*stores)
	if !ok {
		return errors.New("testkit: Read: the Store of a Node is wanted")
	}
	_, err := outside(own, ctx, opRead, key, func() (struct{}, error) { return struct{}{}, nil })
	return err
}

type txKey struct{ s *stores }

// InTx is the store's InTx with scheduling points at its beginning and its commit.
func (s *stores) InTx(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	w := s.life.node.w
	if ctx.Value(txKey{s}) != nil { // refused by the store, in its own words
		return w.db.InTx(ctx, fn)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	g := w.s.Self(s.life.p)
	for try := 1; ; try++ {
		err := s.try(ctx, g, fn)
		if !errors.Is(err, errSerialize) || try == maxTries {
			return err
		}
	}
}

// try runs one transaction.
func (s *stores) try(ctx context.Context, g *sched.G, fn func(ctx context.Context, x store.Tx) error) error {
	w, p := s.life.node.w, s.life.p
	begin := p.Yield(g, ctx, opBegin, "", false)
	if begin.Kind == sched.Fail {
		return begin.Err
	}
	t := &tx{s: s, g: g, ctx: ctx}
	err := s.run(t, begin, fn)
	if err == nil {
		w.observe(t)
	}
	w.deliver(s.life, err == nil)
	switch {
	case begin.Kind == sched.DieAfter:
		s.die(opBegin)
		return ErrCrashed
	case err == nil && t.end.Kind == sched.DieAfter:
		s.die(opCommit)
		return ErrCrashed
	}
	if err == nil && t.end.Kind == sched.FailAfter {
		w.s.Result(g, "", t.end.Err)
		err = t.end.Err
	}
	// The node hears of the end when it can.
	switch {
	case s.life.node.cut.any():
		if lost := p.Held(g, ctx, heldStore); lost != nil {
			return lost
		}
	case p.Frozen():
		return errors.Join(err, p.Held(g, nil, heldStore))
	}
	return err
}

// run is a transaction from begin to commit or rollback, which it is whenever the goroutine ends within.
func (s *stores) run(t *tx, begin sched.Verdict, fn func(ctx context.Context, x store.Tx) error) error {
	w := s.life.node.w
	defer func() {
		t.done = true
		w.mu.Lock()
		w.opener, w.open = nil, nil
		w.mu.Unlock()
	}()
	return w.db.InTx(t.ctx, func(ctx context.Context, x store.Tx) error {
		t.inner = x
		w.mu.Lock()
		w.open = t
		w.mu.Unlock()
		if begin.Kind == sched.DieAfter {
			return ErrCrashed
		}
		if err := fn(context.WithValue(ctx, txKey{s}, true), t); err != nil {
			return err
		}
		if t.broken != nil {
			return t.broken
		}
		t.end = s.life.p.Yield(t.g, ctx, opCommit, "", true)
		if t.end.Kind == sched.Fail {
			return t.end.Err
		}
		return nil
	})
}

// die crashes the node after op and ends the caller, unless that is not the node's own.
func (s *stores) die(op string) {
	s.life.node.kill(s.life, "after "+op)
	s.life.node.w.s.Rest() // a goroutine of the node does not return from here
}

// do is one operation within t.
func (t *tx) do(op, key string, f func(x store.Tx) (note string, err error)) error {
	if t.broken != nil {
		return t.broken
	}
	v := t.s.life.p.Yield(t.g, t.ctx, op, key, true)
	if v.Kind == sched.Fail {
		t.broken = v.Err
		return v.Err
	}
	note, err := f(t.inner)
	switch {
	case v.Kind == sched.DieAfter:
		t.s.die(op)
		t.broken = ErrCrashed
		return t.broken
	case v.Kind == sched.FailAfter:
		t.broken, err = v.Err, v.Err
	case t.s.life.node.cut.from:
		t.broken = ErrDown
		err = t.broken
	}
	t.s.life.node.w.s.Result(t.g, note, err)
	return err
}

// saw keeps what observers look at when t has committed.
func (t *tx) saw(event any) {
	if len(t.s.life.node.w.eyes) > 0 {
		t.events = append(t.events, event)
	}
}

// observer checks invariants on what transactions did.
type observer interface {
	committed(t *tx) // between the commit and whatever it wakes; nothing else runs
	look() string    // what is broken, "" if nothing
}

func (w *World) observe(t *tx) {
	for _, o := range w.eyes {
		o.committed(t)
	}
}
