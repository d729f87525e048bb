package job

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Accepting is nil, or [ErrDraining] when this node takes no new jobs because it drains or stops.
func (m *Manager) Accepting() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining || m.stopping {
		return ErrDraining
	}
	return nil
}

// Drain takes no new jobs and claims none from now on, and returns when nothing runs here any more; handlers are not
// cancelled. When ctx ends first, its error names how many are left. Children of running jobs are still accepted and run on
// other nodes.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.draining = true
	m.mu.Unlock()
	if m.session != nil {
		if err := m.session.Announce(ctx, false); err != nil {
			m.log.Warn("draining not announced", "err", err)
		}
	}
	var timer <-chan time.Time
	for {
		m.mu.Lock()
		empty := m.empty()
		m.mu.Unlock()
		if empty {
			return nil
		}
		if timer == nil {
			timer = m.env.Clock.After(m.cfg.Poll)
		}
		select {
		case <-ctx.Done():
		case <-m.idle:
		case <-timer: // Run's end waits for the same
			timer = nil
		}
		if ctx.Err() != nil {
			return m.left(ctx.Err())
		}
	}
}

func (m *Manager) left(err error) error {
	var ids []string
	rs := m.running(func(*run) bool { return true })
	for _, r := range rs[:min(len(rs), 20)] {
		ids = append(ids, r.row.Kind+" "+r.row.ID)
	}
	return fmt.Errorf("job: %d still running: %s: %w", len(rs), strings.Join(ids, ", "), err)
}
