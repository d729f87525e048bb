// Package memory is the store in memory: serializable, and the reference for what every other store must do. Data dies
// with the process.
package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
	members "github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/hub"
)

// Store is ready to use as its zero value. One transaction runs at a time, in order of arrival.
type Store struct {
	Env drover.Env // only Clock is used; nil means real time

	once  sync.Once
	turn  chan struct{} // holds one token: the right to run a transaction
	clock drover.Clock
	last  time.Time // the highest Now given out, guarded by turn
	undo  []undo    // room for the next transaction's, guarded by turn
	hints hub.Hub
	tables
	members *members.Driver
}

// tables are the component's data, guarded by turn; each component's file declares its own part.
type tables struct {
	epoch   int64 // last one handed out
	leases  leaseTables
	jobs    jobTables
	tracker trackerTables
	outbox  outboxTables
	agents  map[string]*agent.Row
	records map[recordKey]*drover.Record
	commits map[string]*kept
}

func (s *Store) init() {
	s.once.Do(func() {
		s.turn = make(chan struct{}, 1)
		s.turn <- struct{}{}
		s.clock = s.Env.Defaults().Clock
		s.newMembers()
		s.jobs.init()
	})
}

// tx is an open transaction, and the ctx of what runs in it: mutators push what undoes them.
type tx struct {
	context.Context
	s     *Store
	now   time.Time
	undo  []undo
	hints []string
	done  bool
}

// Value tells that a ctx is one of a transaction.
func (t *tx) Value(key any) any {
	if key == (inTx{t.s}) {
		return t
	}
	return t.Context.Value(key)
}

func (t *tx) Now() time.Time { return t.now }
func (t *tx) Hint(topic string) {
	if n := len(t.hints); n == 0 || t.hints[n-1] != topic {
		t.hints = append(t.hints, topic)
	}
}

// undo is one step of a rollback: f, or the image of a job's row, −1: the row is new.
type undo struct {
	f     func()
	r     *rec
	image int
}

// nextEpoch is the store-wide counter; a rolled back epoch is not reused.
func (t *tx) nextEpoch() int64 {
	t.s.epoch++
	return t.s.epoch
}

func (t *tx) onRollback(f func()) { t.undo = append(t.undo, undo{f: f}) }

func (t *tx) rollback() {
	for _, u := range slices.Backward(t.undo) {
		switch {
		case u.f != nil:
			u.f()
		case u.image < 0:
			t.s.jobs.forget(u.r)
		default:
			t.restore(u)
		}
	}
	t.s.jobs.settle(nil, nil)
}

// of checks that tx is an open transaction of this store.
func (s *Store) of(x store.Tx) (*tx, error) {
	t, ok := x.(*tx)
	if !ok || t.s != s {
		return nil, store.ErrForeign
	}
	if t.done {
		return nil, errors.New("memory: transaction has ended")
	}
	return t, nil
}

type inTx struct{ s *Store }

// InTx runs fn alone, once: here nothing can conflict. fn's error, panic or Goexit, or an ended ctx, undoes everything it
// did. Transactions do not nest. Waiting for one's turn is waiting on a channel, so that testing/synctest sees it.
func (s *Store) InTx(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	s.init()
	if ctx.Value(inTx{s}) != nil {
		return errors.New("memory: InTx inside InTx")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: not begun: %w", err)
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		return fmt.Errorf("memory: not begun: %w", ctx.Err())
	}
	t := s.begin(ctx)
	committed := false
	defer func() { s.end(t, committed) }()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: not begun: %w", err)
	}
	if err := fn(t, t); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: not committed: %w", err)
	}
	committed = true
	return nil
}

// begin opens a transaction for the holder of the turn. Now never goes backwards.
func (s *Store) begin(ctx context.Context) *tx {
	t := &tx{Context: ctx, s: s, undo: s.undo[:0], now: s.clock.Now().UTC().Truncate(time.Microsecond)}
	if t.now.Before(s.last) {
		t.now = s.last
	}
	s.last = t.now
	return t
}

// end gives the turn on, then sends the hints: whoever they wake finds what was committed.
func (s *Store) end(t *tx, committed bool) {
	t.done = true
	if !committed {
		t.rollback()
	}
	s.jobs.dropImages()
	s.jobs.pack()
	clear(t.undo)
	if s.undo = t.undo; cap(s.undo) > 8192 {
		s.undo = nil
	}
	t.undo = nil
	s.turn <- struct{}{}
	if committed {
		s.hints.Send(t.hints)
	}
}

// Prompt tells components that a transaction neither hangs nor costs much here.
func (s *Store) Prompt() {}

// Notifier wakes sleepers of this process, after commit.
func (s *Store) Notifier() store.Notifier { return &s.hints }
