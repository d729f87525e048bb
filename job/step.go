package job

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/chance"
	"github.com/drover-cloud/drover/store"
)

// Step does one round inline: dead nodes' jobs, what is due, one claim, cancel requests, outcomes. It says when it wants to be
// called next; zero: only when something was submitted. Handlers are started by Env.Go; what they return is stored by the
// next Step, or by this one if Env.Go runs them inline. It is for tests: no other goroutine is started, and it must not be
// called while Run is under way ([drover.ErrRunning]). A session that is not open makes it do nothing.
func (m *Manager) Step(ctx context.Context) (next time.Time, err error) {
	m.mu.Lock()
	running := m.life == 1
	if m.life == 0 {
		m.serve()
	}
	m.mu.Unlock()
	if running {
		return time.Time{}, drover.ErrRunning
	}
	m.ringDue(ctx)
	next, err = m.doRound(ctx, ctx, false)
	if err := errors.Join(err, m.flushInline(ctx)); err != nil {
		return next, err
	}
	m.mu.Lock()
	open := m.bound.release != nil
	m.mu.Unlock()
	if open { // what was stored may be due before what the round saw
		next = m.nextRound()
	}
	return earliest(next, m.ringDue(ctx)), nil
}

// doRound does what a round has to do and says when the next one is due. ctx says whether to go on; the work itself is done
// under base, so that what has begun is not left uncertain.
func (m *Manager) doRound(ctx, base context.Context, all bool) (time.Time, error) {
	now := m.env.Clock.Now()
	if m.session == nil {
		return time.Time{}, nil
	}
	if !m.bind(base, all) {
		return now.Add(sessionBackoff), nil
	}
	if err := m.fillTurns(base); err != nil {
		return time.Time{}, err
	}
	if err := m.adoptUnknown(base); err != nil {
		return time.Time{}, err
	}
	if err := m.fullRound(base, now); err != nil {
		return time.Time{}, err
	}
	if err := m.takeCancels(base); err != nil {
		return time.Time{}, err
	}
	if err := m.tidy(base, now); err != nil {
		return time.Time{}, err
	}
	if ctx.Err() == nil && m.wantsClaim() { // one a round: whether a slot came free meanwhile is the next round's question
		if err := m.claim(base); err != nil {
			return time.Time{}, err
		}
	}
	return m.nextRound(), nil
}

func (m *Manager) tickDue() bool {
	now := m.env.Clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.tick.After(now) || !m.due.IsZero() && !m.due.After(now)
}

// nextRound is when the next round is due without a wake: at once if a claim waits for nothing.
func (m *Manager) nextRound() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.more && m.anyFree() && !m.stopping || m.cancels || m.tick.IsZero() {
		return m.env.Clock.Now()
	}
	return earliest(earliest(m.tick, m.due), m.tidied.Add(tidyEvery))
}

// fullRound looks, once per Poll and when something falls due, at everything that a hint may have missed: one probe says
// which parts have work.
func (m *Manager) fullRound(ctx context.Context, now time.Time) error {
	if !m.tickDue() {
		return nil
	}
	var got Claimed
	var poll time.Duration
	err := m.inOne(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		poll = m.cfg.Poll - time.Duration(float64(m.cfg.Poll)*chance.Unit(m.env.Rand)/10)
		got, err = m.probe(ctx, tx)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrConflict) { // that says the session is over: it will notice by itself
		return err
	}
	tick := m.ticked(now, poll, &got)
	if got.Sweep {
		if err := m.sweep(ctx); err != nil {
			return err
		}
	}
	if got.Due {
		if err := m.promote(ctx); err != nil {
			return err
		}
	}
	if !tick {
		return nil
	}
	if err := m.storeProgress(ctx); err != nil || m.remote {
		return err
	}
	return m.report(ctx)
}

// probe is the one statement of an idle round.
func (m *Manager) probe(ctx context.Context, tx store.Tx) (Claimed, error) {
	m.mu.Lock()
	c := Claim{Session: m.bound.token, Kinds: m.served}
	c.Free = make(map[string]int, len(m.queues))
	for _, q := range m.queues {
		if n := m.pools[q].free(); n > 0 {
			c.Free[q] = n
		}
	}
	m.mu.Unlock()
	got, err := m.store.Claim(ctx, tx, c)
	m.leave(&got)
	m.noteNext(tx.Now(), &got)
	if err == nil {
		m.learn(got.Settings)
	}
	return got, err
}

// leave leaves to others what only nodes with the store do.
func (m *Manager) leave(got *Claimed) {
	if m.remote {
		got.Sweep, got.Due, got.Next = false, false, time.Time{}
	}
}

const (
	emptyPolls = 10 // of a store that is far away, after which polls
	rarely     = 5  // are so many times as far apart
)

// rare is the poll of a node that has found nothing for a while: hints wake it. Manager.mu is held.
func (m *Manager) rare(poll time.Duration, got *Claimed) time.Duration {
	if !m.remote {
		return poll
	}
	if m.empties++; got.More || len(m.runs) > 0 {
		m.empties = 0
	}
	if m.empties > emptyPolls {
		return rarely * poll
	}
	return poll
}

// ticked notes what the probe found; true if the poll was due, not only something in the store.
func (m *Manager) ticked(now time.Time, poll time.Duration, got *Claimed) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	tick := !m.tick.After(now)
	if tick {
		m.tick = now.Add(m.rare(poll, got))
	}
	m.more = m.more || got.More || got.Due || tick && m.closed()
	m.cancels = m.cancels || got.Cancels
	return tick
}

// noteNext turns the store's next due time into one of the local clock. Whatever is due already has been dealt with, or is
// looked at with the next poll.
func (m *Manager) noteNext(storeNow time.Time, got *Claimed) {
	now := m.env.Clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.due.After(now) {
		m.due = time.Time{}
	}
	if got.Next.IsZero() {
		return
	}
	m.due = earliest(m.due, now.Add(max(got.Next.Sub(storeNow), time.Millisecond)))
}
