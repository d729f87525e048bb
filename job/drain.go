package job

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Accepting is nil, or [ErrDraining] when no new jobs are taken because this node drains or stops, or the cluster is under
// maintenance ([Manager.SetMaintenance]) as far as this node knows.
func (m *Manager) Accepting() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed() || m.stopping {
		return ErrDraining
	}
	return nil
}

// Drain takes no new jobs from now on, claims only descendants of jobs that run here, and returns when nothing runs here any
// more; handlers are not cancelled, save those of kinds that are [Long]. When ctx ends first, its error names those that are left. Children of jobs that exist are
// still accepted.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.draining, m.more = true, true
	m.mu.Unlock()
	if m.session != nil {
		if err := m.session.Announce(ctx, false); err != nil {
			m.log.Warn("draining not announced", "err", err)
		}
	}
	for _, r := range m.running(func(r *run) bool { return r.kind.opt.long }) {
		r.end(ErrStopping)
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

// Inflight are the jobs whose handlers run here, by id.
func (m *Manager) Inflight() (all []drover.Inflight) {
	for _, r := range m.running(func(*run) bool { return true }) {
		all = append(all, drover.Inflight{Kind: r.row.Kind, ID: r.row.ID, Since: r.began, Long: r.kind.opt.long})
	}
	return all
}

// Reopen takes new jobs and claims again, after a Drain that was not followed by the end of Run.
func (m *Manager) Reopen(ctx context.Context) {
	m.mu.Lock()
	m.draining = false
	m.mu.Unlock()
	if m.session != nil {
		if err := m.session.Announce(ctx, true); err != nil {
			m.log.Warn("the end of draining not announced", "err", err)
		}
	}
	m.dueAt(0)
}

func (m *Manager) left(err error) error {
	var ids []string
	rs := m.running(func(*run) bool { return true })
	for _, r := range rs[:min(len(rs), 20)] {
		ids = append(ids, r.row.Kind+" "+r.row.ID)
	}
	return fmt.Errorf("job: %d still running: %s: %w", len(rs), strings.Join(ids, ", "), err)
}

// kin are the numbers of the jobs that may be claimed while this node drains, descendants of jobs that run here, or under
// maintenance, of jobs that run anywhere.
func (m *Manager) kin(ctx context.Context, tx store.Tx) ([]int64, error) {
	level, err := m.runningIDs(ctx, tx)
	if err != nil {
		return nil, err
	}
	seqs := []int64{}
	seen := map[string]bool{}
	for len(level) > 0 {
		var below []string
		for part := range slices.Chunk(level, treeBatch) {
			found, err := m.store.List(ctx, tx, Find{Parents: part, Limit: maxChildren * len(part)})
			if err != nil {
				return nil, err
			}
			for i := range found.Rows {
				r := &found.Rows[i]
				if r.Detached || seen[r.ID] {
					continue
				}
				seen[r.ID] = true
				below = append(below, r.ID)
				if r.State == Ready || r.State == Waiting {
					seqs = append(seqs, r.Seq)
				}
			}
		}
		level = below
	}
	return seqs, nil
}

// runningIDs are the jobs whose descendants may go on.
func (m *Manager) runningIDs(ctx context.Context, tx store.Tx) (ids []string, err error) {
	m.mu.Lock()
	here := m.draining
	m.mu.Unlock()
	if here {
		for _, r := range m.running(func(*run) bool { return true }) {
			ids = append(ids, r.row.ID)
		}
		return ids, nil
	}
	q := Query{States: []State{Running}, Limit: maxPage}
	for {
		found, err := m.store.List(ctx, tx, Find{Query: &q, Limit: q.Limit})
		if err != nil {
			return nil, err
		}
		for i := range found.Rows {
			ids = append(ids, found.Rows[i].ID)
		}
		if q.After = found.Next; q.After == "" {
			return ids, nil
		}
	}
}
