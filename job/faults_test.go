package job_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// faults decorates the stores of one node.
type faults struct {
	testkit.Stores
	mu     sync.Mutex
	before func(op string) error // an error: nothing happens
	after  func(op string) error // an error: it happened all the same
	frozen chan struct{}         // transactions wait until it is closed
	count  map[string]int
}

func (f *faults) set(change func(*faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *faults) ops(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[op]
}

// down makes every transaction fail, or work again.
func (f *faults) down(yes bool) {
	f.set(func(f *faults) {
		f.before = nil
		if yes {
			f.before = func(string) error { return errors.New("store down") }
		}
	})
}

func (f *faults) call(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = map[string]int{}
	}
	f.count[op]++
	if f.before != nil {
		return f.before(op)
	}
	return nil
}

type opsKey struct{}

func (f *faults) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	f.mu.Lock()
	frozen := f.frozen
	f.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := f.call("begin"); err != nil {
		return err
	}
	ops := &[]string{}
	err := f.Stores.InTx(context.WithValue(ctx, opsKey{}, ops), fn)
	f.mu.Lock()
	after := f.after
	f.mu.Unlock()
	if err != nil || after == nil {
		return err
	}
	for _, op := range *ops {
		if err := after(op); err != nil {
			return err
		}
	}
	return nil
}

func (f *faults) Jobs() job.Store { return &faultyJobs{f.Stores.Jobs(), f} }

type faultyJobs struct {
	job.Store
	f *faults
}

func (j *faultyJobs) op(ctx context.Context, op string) error {
	if ops, ok := ctx.Value(opsKey{}).(*[]string); ok {
		*ops = append(*ops, op)
	}
	return j.f.call(op)
}

func (j *faultyJobs) Insert(ctx context.Context, tx store.Tx, rows []job.Row) ([]job.Row, error) {
	if err := j.op(ctx, "insert"); err != nil {
		return nil, err
	}
	return j.Store.Insert(ctx, tx, rows)
}

func (j *faultyJobs) List(ctx context.Context, tx store.Tx, q job.Find) (job.Found, error) {
	if err := j.op(ctx, "list"); err != nil {
		return job.Found{}, err
	}
	return j.Store.List(ctx, tx, q)
}

func (j *faultyJobs) Claim(ctx context.Context, tx store.Tx, c job.Claim) (job.Claimed, error) {
	op := "claim"
	if c.Max == 0 {
		op = "probe"
	}
	got, err := j.Store.Claim(ctx, tx, c)
	if err == nil {
		err = j.op(ctx, op)
	}
	return got, err
}

func (j *faultyJobs) Move(ctx context.Context, tx store.Tx, ms []job.Move) ([]bool, error) {
	if err := j.op(ctx, "move"); err != nil {
		return nil, err
	}
	return j.Store.Move(ctx, tx, ms)
}

func (j *faultyJobs) Log(ctx context.Context, tx store.Tx, es []job.Entry) error {
	if err := j.op(ctx, "log"); err != nil {
		return err
	}
	return j.Store.Log(ctx, tx, es)
}

func (j *faultyJobs) Signal(ctx context.Context, tx store.Tx, s job.Signal) (job.Signalled, error) {
	if err := j.op(ctx, "signal"); err != nil {
		return job.Signalled{}, err
	}
	return j.Store.Signal(ctx, tx, s)
}

func (j *faultyJobs) Finish(ctx context.Context, tx store.Tx, f job.Finish) (job.Finished, error) {
	if err := j.op(ctx, "finish"); err != nil {
		return job.Finished{}, err
	}
	return j.Store.(job.Finisher).Finish(ctx, tx, f)
}

func (j *faultyJobs) Turns() syncqueue.Store { return j.Store.(job.Turner).Turns() }

// nodeClock is a node's clock, which can be wrong and can stand still.
type nodeClock struct {
	c      drover.Clock
	mu     sync.Mutex
	offset time.Duration
	at     time.Time       // while it stands
	thaw   chan struct{}   // closed when it goes on
	over   <-chan struct{} // the test
}

func (c *nodeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.thaw != nil {
		return c.at
	}
	return c.c.Now().Add(c.offset)
}

func (c *nodeClock) After(d time.Duration) <-chan time.Time {
	inner, out := c.c.After(d), make(chan time.Time, 1)
	c.mu.Lock()
	plain := c.thaw == nil
	c.mu.Unlock()
	if plain {
		return inner
	}
	go func() {
		var t time.Time
		select {
		case t = <-inner:
		case <-c.over:
			return
		}
		c.mu.Lock()
		thaw := c.thaw
		c.mu.Unlock()
		if thaw != nil {
			select {
			case <-thaw:
			case <-c.over:
				return
			}
		}
		out <- t
	}()
	return out
}

// freeze makes the node's transactions wait and its clock stand still.
func (n *node) freeze() {
	n.faults.set(func(f *faults) { f.frozen = make(chan struct{}) })
	n.clock.mu.Lock()
	defer n.clock.mu.Unlock()
	n.clock.at, n.clock.thaw = n.clock.c.Now().Add(n.clock.offset), make(chan struct{})
}

// thawStore lets its transactions go on.
func (n *node) thawStore() {
	n.faults.set(func(f *faults) {
		if f.frozen != nil {
			close(f.frozen)
			f.frozen = nil
		}
	})
}

func (n *node) thawClock() {
	n.clock.mu.Lock()
	defer n.clock.mu.Unlock()
	close(n.clock.thaw)
	n.clock.thaw = nil
}
