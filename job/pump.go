package job

import (
	"context"
	"runtime"
	"time"
)

const (
	maxFlushes = 2  // under way at once: while one waits for the commit, the other fills
	busy       = 32 // outcomes in a batch from which on the next one is worth a short wait
)

// wantsFlush says that a flush would find a batch, or, while the pump waits for one to fill, that it has. Manager.mu is held.
func (m *Manager) wantsFlush() bool {
	return len(m.pending) > 0 && m.flushes < maxFlushes && m.untaken == 0 && (!m.filling || !m.mayFill())
}

// pumpFlushes starts a flush whenever one is wanted, until ctx ends. All are started here, so that their names do not depend
// on which handler returned first.
func (m *Manager) pumpFlushes(ctx context.Context) {
	var delay <-chan time.Time
	for {
		fired := false
		select {
		case <-ctx.Done():
		case <-m.pump:
		case <-delay:
			delay, fired = nil, true
		}
		if ctx.Err() != nil {
			return
		}
		m.mu.Lock()
		m.filling = !fired && m.mayFill()
		fill := m.filling
		m.mu.Unlock()
		if fill {
			if delay == nil {
				delay = m.env.Clock.After(m.cfg.FinishDelay)
			}
			continue
		}
		for m.beginFlush() {
			m.env.Go("flush", func() { m.flush(ctx) })
		}
	}
}

// mayFill says that a short delay fills the batch: more handlers run than it holds, or many have just returned at once and it
// holds less than its share of what is here. Manager.mu is held.
func (m *Manager) mayFill() bool {
	n := len(m.pending)
	if m.prompt || m.stopping || m.executing == 0 || n >= m.cfg.FinishBatch {
		return false
	}
	return m.executing > m.cfg.FinishBatch || m.taken >= busy && n < len(m.runs)/maxFlushes
}

func (m *Manager) beginFlush() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wantsFlush() {
		return false
	}
	m.flushes++
	m.untaken++
	return true
}

// gather lets handlers that are about to return come into the same batch: it yields for as long as that brings more.
func (m *Manager) gather() {
	for before := -1; ; runtime.Gosched() {
		m.mu.Lock()
		now, done := len(m.pending), m.executing == 0 || len(m.pending) >= m.cfg.FinishBatch
		m.mu.Unlock()
		if done || now == before {
			return
		}
		before = now
	}
}
