package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
)

const (
	firstBackoff   = 100 * time.Millisecond
	maxBackoff     = 5 * time.Second
	sessionBackoff = 100 * time.Millisecond // between looks at a session that is not open
)

// Run works until ctx ends: it claims and runs jobs, finishes them, sweeps up after dead nodes. Then handlers get the cause
// [ErrStopping] and Config.StopTimeout to return; jobs whose handlers return an error go back to ready, no attempt spent.
//
// It returns nil; [drover.ErrStuck] naming the jobs whose handlers still run; the error of the manager's own session
// (Config.DB) when a newer process has its name; [drover.ErrRunning] or [drover.ErrUsed] when called again.
func (m *Manager) Run(ctx context.Context) error {
	base, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(ErrStopping)
	if err := m.begin(base); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var helpers []chan struct{}
	env := m.env.For(ctx) // a panic of the manager's own ends Run; handlers look after theirs
	spawn := func(name string, f func(context.Context)) {
		done := make(chan struct{})
		helpers = append(helpers, done)
		env.Go(name, func() { defer close(done); f(base) })
	}
	stopSession := m.runOwn(base, cancel)
	spawn("pump", m.pumpFlushes)
	spawn("deadlines", m.watchAlarms)
	spawn("waits", m.pollWaits)
	if m.session != nil {
		spawn("ready", m.awaitSession)
	}
	spawn("hint/"+SettingsTopic, m.listen(SettingsTopic, m.relearn))
	for _, q := range m.queues {
		topic := QueueTopic(q)
		spawn("hint/"+topic, m.listen(topic, m.nudge))
	}
	defer m.meters.observe()()
	m.loop(ctx, base)
	err := m.stop()
	m.unbind(err == nil)
	end(ErrStopping)
	m.waits.close()
	for _, done := range helpers {
		<-done
	}
	err = errors.Join(err, stopSession())
	m.mu.Lock()
	m.life = 2
	m.mu.Unlock()
	return err
}

func (m *Manager) begin(base context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.life {
	case 1:
		return drover.ErrRunning
	case 2:
		return drover.ErrUsed
	}
	m.life, m.base, m.values = 1, base, context.WithoutCancel(base)
	m.serve()
	return nil
}

// serve tells the session what this node works on. Manager.mu is held.
func (m *Manager) serve() {
	if m.session != nil {
		m.session.Serve(m.served, m.queues)
	}
}

// runOwn runs the session that New opened, if any; the answer ends it. Its loss for good ends Run.
func (m *Manager) runOwn(base context.Context, lost context.CancelCauseFunc) (stop func() error) {
	if m.own == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(base))
	done := make(chan error, 1)
	m.env.Go("session", func() {
		var err error
		defer func() { done <- err }() // also when Run is cut off
		if err = m.own.Run(ctx); err != nil {
			lost(err)
		}
	})
	return func() error {
		cancel()
		return <-done
	}
}

// awaitSession wakes the round when the session is first open.
func (m *Manager) awaitSession(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-m.session.Ready():
		poke(m.wake)
	}
}

// listen subscribes to topic, at once, and answers the loop that calls f for each hint. What commits after it returned is
// heard, or found by a round that begins later.
func (m *Manager) listen(topic string, f func()) func(ctx context.Context) {
	if m.cfg.Notify == nil {
		return func(context.Context) {}
	}
	c, stop := m.cfg.Notify.Wake(topic)
	return func(ctx context.Context) {
		defer stop()
		for {
			select {
			case <-ctx.Done():
			case <-c:
			}
			if ctx.Err() != nil {
				return
			}
			f()
		}
	}
}

// loop does rounds until ctx ends. A round that failed is repeated after a backoff, which no wake shortens.
func (m *Manager) loop(ctx, base context.Context) {
	var timer <-chan time.Time
	var at time.Time // when timer fires
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		next, err := m.doRound(ctx, base, true)
		if err != nil && ctx.Err() == nil {
			backoff = min(max(2*backoff, firstBackoff), maxBackoff)
			m.log.Warn("job round failed", "err", err, "again", backoff)
			_ = m.env.Sleep(ctx, backoff)
			continue
		}
		backoff = 0
		now := m.env.Clock.Now()
		if !next.IsZero() && !next.After(now) {
			continue
		}
		if !next.IsZero() && (timer == nil || next.Before(at)) {
			timer, at = m.env.Clock.After(next.Sub(now)), next
		}
		select {
		case <-ctx.Done():
		case <-m.wake:
			if fired(timer) {
				timer = nil
			}
		case <-timer:
			timer = nil
			fired(m.wake)
		}
	}
}

// fired takes what is in c, if anything: a select that finds two of its channels ready chooses by chance, so that whoever
// was chosen answers for both.
func fired[T any](c <-chan T) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// stop ends the handlers and waits for them, and for their outcomes to be stored.
func (m *Manager) stop() error {
	m.mu.Lock()
	m.stopping = true
	token := m.bound.token
	m.mu.Unlock()
	if !m.trusted(token) { // the session's end came first, and is why this node stops
		m.lose(token)
	}
	for _, r := range m.running(func(r *run) bool { return true }) {
		r.end(ErrStopping)
	}
	limit := m.env.Clock.After(m.cfg.StopTimeout)
	poke(m.pump)
	for {
		m.mu.Lock()
		empty := m.empty()
		m.mu.Unlock()
		if empty {
			return nil
		}
		select {
		case <-m.idle:
		case <-limit:
			return m.stuck()
		}
	}
}

// stuck names the jobs that did not stop.
func (m *Manager) stuck() error {
	var ids []string
	for _, r := range m.running(func(*run) bool { return true }) {
		ids = append(ids, r.row.Kind+" "+r.row.ID)
	}
	if len(ids) == 0 {
		return nil
	}
	n := len(ids)
	ids = slices.Clip(ids[:min(n, 20)])
	return fmt.Errorf("job: %w: %d handlers or outcomes left: %s", drover.ErrStuck, n, strings.Join(ids, ", "))
}

// bind makes sure that the node works under the present incarnation of its session, and says whether one is open. Run keeps
// it from being closed under running jobs; watch says that goroutines may be started.
func (m *Manager) bind(base context.Context, watch bool) bool {
	if m.session == nil {
		return false
	}
	held, err := m.session.Held()
	token := m.session.Token()
	m.mu.Lock()
	old := m.bound
	m.mu.Unlock()
	if err == nil && old.token == token {
		return true
	}
	if old.release != nil {
		m.lose(old.token)
		old.release()
		m.mu.Lock()
		m.bound = binding{}
		m.mu.Unlock()
	}
	if err != nil {
		return false
	}
	ctx, release := m.session.With(base)
	if ctx.Err() != nil || m.session.Token() != token {
		release()
		return false
	}
	m.mu.Lock()
	m.bound = binding{token: token, held: held, release: release}
	m.more, m.cancels, m.tick = true, true, time.Time{}
	m.mu.Unlock()
	if watch {
		m.env.Go("trust", func() { m.watchTrust(ctx, token) })
		topic := SessionTopic(token.Epoch)
		hear := m.listen(topic, m.askCancels)
		m.env.Go("hint/"+topic, func() { hear(ctx) })
	}
	return true
}

// watchTrust ends the handlers when trust in the session ends, also while the round waits for the store.
func (m *Manager) watchTrust(ctx context.Context, token lease.Token) {
	<-ctx.Done()
	if errors.Is(context.Cause(ctx), lease.ErrLost) {
		m.lose(token)
		poke(m.wake)
	}
}

// unbind lets the session be closed, unless handlers still run.
func (m *Manager) unbind(empty bool) {
	m.mu.Lock()
	release := m.bound.release
	m.mu.Unlock()
	if release != nil && empty {
		release()
	}
}

// believed is trusted, but by the clock of this moment and not by what somebody has noticed.
func (m *Manager) believed(token lease.Token) bool {
	_, err := m.session.Held()
	return err == nil && m.trusted(token)
}

// trusted says that token's session is the one this node works under and that it may be believed in now.
func (m *Manager) trusted(token lease.Token) bool {
	m.mu.Lock()
	b := m.bound
	m.mu.Unlock()
	if b.held == nil || b.token != token {
		return false
	}
	select {
	case <-b.held:
		return false
	default:
		return true
	}
}

func (m *Manager) askCancels() {
	m.mu.Lock()
	m.cancels = true
	m.mu.Unlock()
	poke(m.wake)
}
