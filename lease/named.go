package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/store"
)

// Named is a lease on a name ("ha/zone-1", "periodic/gc"), held by a session for as long as that is trusted. It needs no
// renewal of its own. Safe for concurrent use.
type Named struct {
	s      *Session
	inc    *incarnation
	name   string
	token  Token
	unbind func()

	once sync.Once
	held chan struct{}
}

// slot is what an incarnation knows of a name. Guarded by Session.mu.
type slot struct {
	cur       *Named // until its release is known to be stored
	gone      int64  // highest epoch given back here, stored or not
	acquiring int    // calls under way
	led       bool   // a Lead runs on it
}

// Acquire takes the named lease for the present incarnation and never waits for its holder: [ErrHeld] (a *[HeldError])
// if another live session has it. A lease that is ours already is answered as it is, with the epoch it has; whoever releases
// it releases it for all. [ErrLost]: the session is not open. [ErrConfig]: name is not 1 to 128 printable bytes.
func (s *Session) Acquire(ctx context.Context, name string) (*Named, error) {
	if err := checkName("name", name); err != nil {
		return nil, err
	}
	ctx, span := s.cfg.Env.Tracer.Tracer(scope).Start(ctx, "lease.acquire", trace.WithAttributes(attribute.String("name", name)))
	defer span.End()
	inc := s.current()
	if inc == nil {
		return nil, ErrLost
	}
	defer s.enter(inc, name)()
	for {
		var tok Token
		err := s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			tok, err = s.take(ctx, tx, inc, name)
			return err
		})
		if err != nil {
			return nil, s.over(err)
		}
		if n, err := s.grant(inc, name, tok); n != nil || err != nil {
			return n, err
		}
	}
}

// enter counts a call that acquires; the slot lives at least until it leaves.
func (s *Session) enter(inc *incarnation, name string) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := inc.slots[name]
	if sl == nil {
		sl = &slot{}
		inc.slots[name] = sl
	}
	sl.acquiring++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		sl.acquiring--
		inc.tidy(name, sl)
	}
}

func (inc *incarnation) tidy(name string, sl *slot) {
	if sl.acquiring == 0 && sl.cur == nil && !sl.led {
		delete(inc.slots, name)
	}
}

// take never answers an epoch that was given back here: its release may still be on the way.
func (s *Session) take(ctx context.Context, tx store.Tx, inc *incarnation, name string) (Token, error) {
	tok, err := s.cfg.Store.Acquire(ctx, tx, inc.token, name)
	s.mu.Lock()
	gone := inc.slots[name].gone
	s.mu.Unlock()
	if err != nil || tok.Epoch > gone {
		return tok, err
	}
	if err := s.cfg.Store.Release(ctx, tx, tok, name); err != nil {
		return Token{}, err
	}
	return s.cfg.Store.Acquire(ctx, tx, inc.token, name)
}

// grant makes the Named of what the store has answered; neither lease nor error: it was given back meanwhile, ask again.
func (s *Session) grant(inc *incarnation, name string, tok Token) (*Named, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := inc.slots[name]
	switch {
	case s.cur != inc: // lost while the store answered: the row goes with the session
		return nil, ErrLost
	case tok.Epoch <= sl.gone:
		return nil, nil
	case sl.cur != nil && sl.cur.token == tok:
		return sl.cur, nil
	}
	n := &Named{s: s, inc: inc, name: name, token: tok, held: make(chan struct{})}
	n.unbind = s.bindLocked(inc, n.end)
	sl.cur = n
	s.meters.hold(name, 1)
	return n, nil
}

// over turns the store's word that our session is over into ErrLost and has the loop look at it.
func (s *Session) over(err error) error {
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	s.hurry()
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// Token is the lease's own fencing token: node, incarnation and store of its session, and its own epoch.
func (n *Named) Token() Token { return n.token }

// Held is closed when the lease is released or trust in its session ends. [ErrLost] if it has been already.
func (n *Named) Held() (<-chan struct{}, error) {
	n.s.current() // ends n if its time has come
	select {
	case <-n.held:
		return nil, ErrLost
	default:
		return n.held, nil
	}
}

func (n *Named) end() {
	n.once.Do(func() {
		close(n.held)
		n.s.meters.hold(n.name, -1)
	})
}

// Release gives the lease back: it is free at once and those who wait get a hint. The lease is not trusted any more
// whatever the answer is. After an error of the store it may be called again; [store.ErrConflict] says that the lease was
// not ours any more.
func (n *Named) Release(ctx context.Context) error {
	n.s.mu.Lock()
	sl := n.inc.slots[n.name]
	if sl != nil {
		sl.gone = max(sl.gone, n.token.Epoch)
	}
	n.s.mu.Unlock()
	n.end()
	err := n.s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return n.s.cfg.Store.Release(ctx, tx, n.token, n.name)
	})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	n.unbind()
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	if sl != nil && sl.cur == n {
		sl.cur = nil
		n.inc.tidy(n.name, sl)
	}
	return err
}
