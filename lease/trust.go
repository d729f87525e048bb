package lease

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// trust says until when the node believes in its session, by its own clock, in two ways of which the earlier counts: the
// clock's reading, and a timer, which a clock that is set back does not move.
type trust struct {
	until time.Time
	timer <-chan time.Time
}

// newTrust is made before the renewal that it belongs to starts.
func (s *Session) newTrust(start time.Time) trust {
	d := s.cfg.TTL - s.cfg.Margin
	return trust{until: start.Add(d), timer: s.cfg.Env.Clock.After(d)}
}

// over consumes the timer.
func (t *trust) over(now time.Time) bool {
	select {
	case <-t.timer:
		t.until = now
	default:
	}
	return !now.Before(t.until)
}

// watchTrust ends incarnations in time even while the loop waits for the store.
func (s *Session) watchTrust(ctx context.Context) {
	for {
		s.mu.Lock()
		inc := s.cur
		var timer <-chan time.Time
		if inc != nil {
			timer = inc.trust.timer
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-s.watch:
		case <-timer:
			s.mu.Lock()
			if inc.trust.timer == timer { // not renewed meanwhile
				inc.trust.until = time.Time{}
			}
			s.mu.Unlock()
		}
		if ctx.Err() != nil {
			return
		}
		s.current()
	}
}

// current is the incarnation that is trusted now, or nil; one whose trust is over ends here at the latest.
func (s *Session) current() *incarnation {
	now := s.cfg.Env.Clock.Now()
	s.mu.Lock()
	inc := s.cur
	over := inc != nil && inc.trust.over(now)
	s.mu.Unlock()
	if over {
		s.lose(inc, "trust ended")
		s.hurry()
		return nil
	}
	return inc
}

// extend puts inc's trust off, unless it has ended.
func (s *Session) extend(inc *incarnation, t trust) {
	s.mu.Lock()
	if s.cur == inc && t.until.After(inc.trust.until) {
		inc.trust = t
	}
	s.mu.Unlock()
	poke(s.watch)
}

// lose ends what is bound to inc, in order of binding. It does nothing the second time.
func (s *Session) lose(inc *incarnation, why string) {
	s.mu.Lock()
	if s.cur != inc {
		s.mu.Unlock()
		return
	}
	s.cur = nil
	binds := slices.SortedFunc(maps.Keys(inc.binds), func(a, b *bind) int { return cmp.Compare(a.n, b.n) })
	clear(inc.binds)
	close(inc.held)
	s.mu.Unlock()
	for _, b := range binds {
		b.end()
	}
	if why == "stopped" {
		return
	}
	s.meters.lost.Add(context.Background(), 1)
	s.log.Warn("session lost", "why", why, "incarnation", inc.token.Incarnation, "epoch", inc.token.Epoch)
}

// bind makes end be called when inc ends; false if it has. unbind takes it back.
func (s *Session) bind(inc *incarnation, end func()) (unbind func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if inc == nil || s.cur != inc {
		return func() {}, false
	}
	return s.bindLocked(inc, end), true
}

func (s *Session) bindLocked(inc *incarnation, end func()) (unbind func()) {
	inc.bound++
	b := &bind{inc.bound, end}
	inc.binds[b] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(inc.binds, b)
	}
}

// Token names the present incarnation; the last one while none is open, the zero Token before the first.
func (s *Session) Token() Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Held is closed when trust in the present incarnation ends. [ErrLost] while none is open.
func (s *Session) Held() (<-chan struct{}, error) {
	inc := s.current()
	if inc == nil {
		return nil, ErrLost
	}
	return inc.held, nil
}

// With gives a ctx that ends with cause [ErrLost] when trust in the present incarnation ends; it has ended already while
// none is open. Its Err looks at the clock: a process that was frozen past its lease finds it ended, whichever of its
// goroutines wakes first. The session stays bound until cancel is called: call it when the work has ended, not before.
func (s *Session) With(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unbind, ok := s.bind(s.current(), func() { cancel(ErrLost) })
	if !ok {
		cancel(ErrLost)
	}
	return trusting{ctx, s}, func() {
		unbind()
		cancel(context.Canceled)
	}
}

// trusting is a ctx that ends with trust, also before the watcher has noticed.
type trusting struct {
	context.Context
	s *Session
}

func (t trusting) Err() error {
	if err := t.Context.Err(); err != nil {
		return err
	}
	t.s.current() // which ends what is bound to an incarnation that is over
	return t.Context.Err()
}
