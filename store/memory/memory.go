// Package memory is the store in memory: serializable, and the reference for what every other store must do. Data dies
// with the process.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Store is ready to use as its zero value. One transaction runs at a time, in order of arrival.
type Store struct {
	Env drover.Env // only Clock is used; nil means real time

	once  sync.Once
	turn  chan struct{} // holds one token: the right to run a transaction
	clock drover.Clock
	last  time.Time // the highest Now given out, guarded by turn
	hints hub
	tables
}

// tables are the component's data, guarded by turn; each component's file declares its own part.
type tables struct {
	epoch  int64 // last one handed out
	leases leaseTables
}

func (s *Store) init() {
	s.once.Do(func() {
		s.turn = make(chan struct{}, 1)
		s.turn <- struct{}{}
		s.clock = s.Env.Defaults().Clock
	})
}

// tx is an open transaction: mutators push what undoes them.
type tx struct {
	s     *Store
	now   time.Time
	undo  []func()
	hints []string
	done  bool
}

func (t *tx) Now() time.Time    { return t.now }
func (t *tx) Hint(topic string) { t.hints = append(t.hints, topic) }

// nextEpoch is the store-wide counter; a rolled back epoch is not reused.
func (t *tx) nextEpoch() int64 {
	t.s.epoch++
	return t.s.epoch
}

func (t *tx) onRollback(f func()) { t.undo = append(t.undo, f) }

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

// InTx runs fn alone. fn's error or panic, or an ended ctx, undoes everything it did. Transactions do not nest.
func (s *Store) InTx(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) (err error) {
	s.init()
	if ctx.Value(inTx{s}) != nil {
		return errors.New("memory: InTx inside InTx")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t := &tx{s: s, now: s.clock.Now().Round(0).UTC().Truncate(time.Microsecond)}
	if t.now.Before(s.last) {
		t.now = s.last
	}
	s.last = t.now
	committed := false
	defer func() {
		t.done = true
		if !committed {
			for i := len(t.undo) - 1; i >= 0; i-- {
				t.undo[i]()
			}
		}
		s.turn <- struct{}{}
		if committed {
			s.hints.send(t.hints)
		}
	}()
	if err := fn(context.WithValue(ctx, inTx{s}, true), t); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: not committed: %w", err)
	}
	committed = true
	return nil
}

// Notifier wakes sleepers of this process, after commit.
func (s *Store) Notifier() store.Notifier { return &s.hints }

// hub fans hints out to coalescing channels of capacity 1.
type hub struct {
	mu   sync.Mutex
	subs map[string]map[*chan struct{}]struct{}
}

func (h *hub) Wake(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[string]map[*chan struct{}]struct{}{}
	}
	if h.subs[topic] == nil {
		h.subs[topic] = map[*chan struct{}]struct{}{}
	}
	key := &c
	h.subs[topic][key] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs[topic], key)
		if len(h.subs[topic]) == 0 {
			delete(h.subs, topic)
		}
	}
}

func (h *hub) send(topics []string) {
	if len(topics) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range topics {
		for c := range h.subs[t] {
			select {
			case *c <- struct{}{}:
			default:
			}
		}
	}
}
