package lease

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/drover-cloud/drover"
)

const (
	leadPoll  = time.Second      // between tries while another leads
	leadGrace = 10 * time.Second // for f to return after its ctx has ended
)

// Lead runs f once s holds the named lease and gives it back when f has returned. f's ctx ends with cause [ErrLost] when
// the session is lost, and with ctx; after a loss, whatever f then returns, Lead waits for the next session and the lease
// and runs f again. Only one Lead per session and name runs its f at a time.
//
// The answer is f's error once f has returned by itself or because ctx ended; nil if ctx ended while waiting; a
// *[drover.PanicError] if f panicked; [ErrLost] when the session has ended for good; [ErrConfig] for a bad name; and
// [drover.ErrStuck] if f ignores the end of its ctx for 10 s: the lease is then not given back but left to the session.
// (After client-go's leaderelection, with a token.)
func Lead(ctx context.Context, s *Session, name string, f func(context.Context, Token) error) error {
	if err := checkName("name", name); err != nil {
		return err
	}
	for {
		n, err := s.awaitLead(ctx, name)
		if n == nil {
			return err
		}
		again, err := s.leadOnce(ctx, n, f)
		if !again {
			return err
		}
	}
}

// awaitLead answers no lease and no error when ctx has ended.
func (s *Session) awaitLead(ctx context.Context, name string) (*Named, error) {
	var hint <-chan struct{}
	if s.cfg.Notify != nil {
		c, stop := s.cfg.Notify.Wake(Topic(name))
		defer stop()
		hint = c
	}
	for {
		s.mu.Lock()
		opened := s.opened
		s.mu.Unlock()
		select { // what this hint asks for, the coming Acquire sees
		case <-hint:
		default:
		}
		n, err := s.Acquire(ctx, name)
		if err == nil && n.lead() {
			return n, nil
		}
		if err != nil && !errors.Is(err, ErrHeld) && !errors.Is(err, ErrLost) && ctx.Err() == nil {
			s.log.Warn("lease not acquired", "name", name, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-s.ended:
		case <-opened:
		case <-hint:
		case <-s.cfg.Env.Clock.After(leadPoll):
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		select {
		case <-s.ended:
			return nil, s.gone()
		default:
		}
	}
}

func (s *Session) gone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final != nil {
		return s.final
	}
	return fmt.Errorf("%w: it does not run any more", ErrLost)
}

// lead takes the name for one Lead of this session.
func (n *Named) lead() bool {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	sl := n.inc.slots[n.name]
	if sl == nil || sl.led || sl.cur != n {
		return false
	}
	sl.led = true
	return true
}

func (n *Named) unlead() {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	if sl := n.inc.slots[n.name]; sl != nil {
		sl.led = false
		n.inc.tidy(n.name, sl)
	}
}

// leadOnce runs f under n; again: the lease was lost under it.
func (s *Session) leadOnce(ctx context.Context, n *Named, f func(context.Context, Token) error) (again bool, err error) {
	fctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	unbind, ok := s.bind(n.inc, func() { cancel(ErrLost) })
	if !ok {
		n.unlead()
		return true, nil
	}
	s.log.Info("leader changed", "name", n.name, "incarnation", n.token.Incarnation, "epoch", n.token.Epoch)
	done := make(chan error, 1)
	s.cfg.Env.For(ctx).Go("lead/"+n.name, func() { guard(done, func() error { return f(fctx, n.token) }) })
	if err, ok = s.await(fctx, done); !ok {
		return false, fmt.Errorf("lease: %s: %w", n.name, drover.ErrStuck)
	}
	lost := ctx.Err() == nil && errors.Is(context.Cause(fctx), ErrLost)
	unbind()
	rctx, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer stop()
	if !lost {
		if rerr := n.Release(rctx); rerr != nil {
			s.log.Warn("lease not released", "name", n.name, "err", rerr)
		}
	}
	n.unlead()
	return lost, err
}

// await f's end, 10 s longer than its ctx at most; ok is false if it did not come.
func (s *Session) await(ctx context.Context, done <-chan error) (err error, ok bool) {
	select {
	case err := <-done:
		return err, true
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err, true
	case <-s.cfg.Env.Clock.After(leadGrace):
		return nil, false
	}
}

// guard turns a panic into an error, and runtime.Goexit too.
func guard(done chan<- error, f func() error) {
	var err error = &drover.PanicError{} // runtime.Goexit, until f returns
	defer func() {
		if v := recover(); v != nil {
			err = &drover.PanicError{Value: v, Stack: debug.Stack()}
		}
		done <- err
	}()
	err = f()
}
