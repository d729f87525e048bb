package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

const (
	firstRetry   = 250 * time.Millisecond // then doubled up to Config.Renew
	closeTimeout = 5 * time.Second
	sweepMax     = 100 // sessions marked dead per Dead
)

// Session is this process's standing in the store: one row, renewed by one small update. It is a [drover.Component],
// [drover.Stepper], [drover.Readier] (ready once open), [drover.Announcer] and [drover.Reporter]; safe for concurrent use.
//
// A session that is lost is followed by the next incarnation, by itself, unless a newer process has taken over its name.
type Session struct {
	cfg     Config
	log     *slog.Logger
	process string
	meters  meters
	wake    chan struct{} // for Loop: a renewal is wanted now
	watch   chan struct{} // for the watcher: trust has changed
	ready   chan struct{} // closed by the first open
	ended   chan struct{} // closed when Run returns or the name is lost for good

	mu     sync.Mutex // held for memory only
	run    int        // 0 not yet, 1 running, 2 has run
	cur    *incarnation
	last   Token         // of the incarnation before, or the present one
	opened chan struct{} // closed at the next open
	state  string
	kinds  []string
	queues []string
	due    time.Time // of the next renewal or attempt; zero: now
	retry  time.Duration
	final  error     // the name was taken over
	fails  error     // the last attempt's
	since  time.Time // the first attempt of a row that failed began; zero: the last one was good
}

// incarnation is one life of the session. Its fields are guarded by Session.mu.
type incarnation struct {
	token Token
	held  chan struct{}
	trust trust
	bound int // how many ever; orders binds
	binds map[*bind]struct{}
	slots map[string]*slot // by name of the lease
}

// bind is something that must end with the incarnation.
type bind struct {
	n   int
	end func()
}

// New checks cfg; the session opens when it runs. [ErrConfig] names the field.
func New(cfg Config) (*Session, error) {
	cfg = cfg.defaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Session{
		cfg:     cfg,
		log:     cfg.Env.Logger.With("component", "lease", "node", cfg.Env.Node, "session", cfg.Name),
		process: cfg.Env.NewID(),
		wake:    make(chan struct{}, 1),
		watch:   make(chan struct{}, 1),
		ready:   make(chan struct{}),
		ended:   make(chan struct{}),
		opened:  make(chan struct{}),
		state:   Active,
	}
	var err error
	if s.meters, err = newMeters(s); err != nil {
		return nil, fmt.Errorf("lease: meters: %w", err)
	}
	return s, nil
}

// Run keeps the session open until ctx ends, then closes it if nothing is bound to it any more (contexts of With released,
// leases given back); else its row is left to its lease, and what is bound ends with [ErrLost] all the same. The error is
// nil, or a permanent [ErrLost] when a newer process has opened the same name.
func (s *Session) Run(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	watched := make(chan struct{})
	wctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop() // also when Run is cut off
	s.cfg.Env.For(ctx).Go("lease/"+s.cfg.Name+"/trust", func() {
		defer close(watched)
		s.watchTrust(wctx)
	})
	err := drover.Loop(ctx, s.cfg.Env, s.wake, s)
	s.shut(ctx)
	stop()
	<-watched
	s.mu.Lock()
	s.run = 2
	if s.final == nil {
		close(s.ended)
	}
	s.mu.Unlock()
	return err
}

func (s *Session) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.run {
	case 1:
		return drover.ErrRunning
	case 2:
		return drover.ErrUsed
	}
	s.run = 1
	return nil
}

// shut closes the session in the store, or lets go of it.
func (s *Session) shut(ctx context.Context) {
	s.mu.Lock()
	inc := s.cur
	bound := inc != nil && len(inc.binds) > 0
	s.mu.Unlock()
	if inc == nil {
		return
	}
	s.lose(inc, "stopped")
	if bound {
		s.log.Warn("session left to its lease: something is still bound to it", "epoch", inc.token.Epoch)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return s.cfg.Store.Close(ctx, tx, inc.token) })
	if err != nil {
		s.log.Warn("session not closed, left to its lease", "epoch", inc.token.Epoch, "err", err)
	}
}

// Step opens the session if it is not open, renews it if that is due, and says when it wants to be called next. An error
// of the store is logged and tried again after 250 ms, doubled up to Config.Renew; the only error is the permanent
// [ErrLost] of a name taken over.
func (s *Session) Step(ctx context.Context) (next time.Time, err error) {
	now := s.cfg.Env.Clock.Now()
	inc := s.current()
	s.mu.Lock()
	due, final := s.due, s.final
	s.mu.Unlock()
	if final != nil {
		return time.Time{}, final
	}
	if due.After(now) {
		return due, nil
	}
	if inc == nil {
		err = s.open(ctx, now)
	} else {
		err = s.renew(ctx, inc, now)
	}
	return s.schedule(ctx, now, err)
}

// schedule notes the outcome of an attempt that started at now.
func (s *Session) schedule(ctx context.Context, now time.Time, err error) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.final != nil:
		return time.Time{}, s.final
	case ctx.Err() != nil:
		return time.Time{}, ctx.Err()
	case err == nil:
		s.due, s.retry = now.Add(s.cfg.Renew), 0
		s.fails, s.since = nil, time.Time{}
	case errors.Is(err, ErrLost):
		s.due = now // the next incarnation, at once
	default:
		s.retry = min(max(2*s.retry, firstRetry), s.cfg.Renew)
		s.due = s.cfg.Env.Clock.Now().Add(s.retry)
		if s.fails = err; s.since.IsZero() {
			s.since = now
		}
	}
	return s.due, nil
}

// open starts the next incarnation.
func (s *Session) open(ctx context.Context, now time.Time) error {
	s.mu.Lock()
	i := s.info()
	i.Holder = s.last
	s.mu.Unlock()
	tr := s.newTrust(now)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TTL)
	defer cancel()
	var tok Token
	err := s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		tok, err = s.cfg.Store.Open(ctx, tx, i, s.process, s.cfg.TTL)
		return err
	})
	if held := new(HeldError); errors.As(err, &held) {
		return s.replaced(held.Holder)
	}
	if err != nil {
		s.log.Warn("session not opened", "err", err)
		return err
	}
	s.mu.Lock()
	s.cur = &incarnation{token: tok, held: make(chan struct{}), trust: tr, binds: map[*bind]struct{}{}, slots: map[string]*slot{}}
	first := s.last == Token{}
	s.last = tok
	close(s.opened)
	s.opened = make(chan struct{})
	if first {
		close(s.ready)
	}
	s.mu.Unlock()
	poke(s.watch)
	s.log.Info("session opened", "incarnation", tok.Incarnation, "epoch", tok.Epoch, "store", tok.Store)
	return nil
}

// renew moves the end of inc on. ErrLost: it is over by the store.
func (s *Session) renew(ctx context.Context, inc *incarnation, now time.Time) error {
	s.mu.Lock()
	i := s.info()
	s.mu.Unlock()
	tr := s.newTrust(now)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Renew)
	defer cancel()
	err := s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return s.cfg.Store.Renew(ctx, tx, inc.token, i, s.cfg.TTL)
	})
	s.meters.renewed(err)
	held := new(HeldError)
	switch {
	case err == nil:
		s.extend(inc, tr)
		return nil
	case errors.As(err, &held):
		s.lose(inc, "replaced")
		return s.replaced(held.Holder)
	case errors.Is(err, store.ErrConflict):
		s.lose(inc, "over by the store's clock")
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	s.log.Warn("session not renewed", "epoch", inc.token.Epoch, "err", err)
	return err
}

// info is what is written with the row; mu is held.
func (s *Session) info() Info {
	return Info{Name: s.cfg.Name, State: s.state, Kinds: s.kinds, Queues: s.queues}
}

// replaced ends the session for good.
func (s *Session) replaced(by Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final == nil {
		s.final = drover.Permanent(fmt.Errorf("%w: name %q was opened by another process, incarnation %d", ErrLost, s.cfg.Name, by.Incarnation))
		close(s.ended)
		s.log.Error("session taken over", "incarnation", by.Incarnation, "epoch", by.Epoch)
	}
	return s.final
}

// Ready is closed once the session has been open.
func (s *Session) Ready() <-chan struct{} { return s.ready }

// patience is how long the store may be away before an operator should look.
const patience = time.Minute

// Health is ready while the session is open; degraded while it is but the store does not answer; starting, with an error,
// while it has to be opened anew, so that no work is sent here; failing once the store has been away for a minute, or the
// name was taken over.
func (s *Session) Health() drover.Health {
	now := s.cfg.Env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	h := drover.Health{Name: "lease", State: "ready", Since: s.since, Err: s.fails}
	switch {
	case s.final != nil:
		h.State, h.Err = "failing", s.final
	case !s.since.IsZero() && now.Sub(s.since) >= patience:
		h.State = "failing"
	case s.cur == nil && s.last == Token{}:
		h.State = "starting"
	case s.cur == nil:
		h.State, h.Err = "starting", errors.Join(ErrLost, s.fails)
	case s.fails != nil:
		h.State = "degraded"
	}
	return h
}

// Serve says what the node works on. It is written with the next opening or renewal.
func (s *Session) Serve(kinds, queues []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kinds, s.queues = slices.Clone(kinds), slices.Clone(queues)
	slices.Sort(s.kinds)
	slices.Sort(s.queues)
}

// Announce says whether the node takes new work (active, else draining). It is written at once if the session is open,
// else with its opening. [ErrLost] if the session turns out to be over; else an error of the store.
func (s *Session) Announce(ctx context.Context, accepting bool) error {
	s.mu.Lock()
	s.state = Draining
	if accepting {
		s.state = Active
	}
	s.mu.Unlock()
	inc := s.current()
	if inc == nil {
		return nil
	}
	err := s.renew(ctx, inc, s.cfg.Env.Clock.Now())
	if errors.Is(err, ErrLost) {
		s.hurry()
	}
	return err
}

// hurry makes the loop look at the store now.
func (s *Session) hurry() {
	s.mu.Lock()
	s.due = time.Time{}
	s.mu.Unlock()
	poke(s.wake)
}

// Dead marks sessions dead that are over by the store's clock, 100 at most, and answers all dead ones still kept
// (for one hour), by epoch. What they held is the caller's to sweep, in the same transaction or later.
func (s *Session) Dead(ctx context.Context, tx store.Tx) ([]Token, error) {
	return s.cfg.Store.Sweep(ctx, tx, sweepMax)
}

// List answers the sessions and named leases of the store, dead ones still kept included.
func (s *Session) List(ctx context.Context) (all []Info, err error) {
	err = s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		all, err = s.cfg.Store.List(ctx, tx)
		return err
	})
	return all, err
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
