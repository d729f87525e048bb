package job

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/store"
)

const (
	tidyEvery   = time.Minute
	retainBatch = 1000
)

// ageZero is what a Find.Before of this package counts from until the transaction gives it the store's now.
var ageZero = time.Unix(1<<40, 0)

// tidy removes final jobs that have been kept long enough, once a minute, and looks after the lines.
func (m *Manager) tidy(ctx context.Context, now time.Time) error {
	m.mu.Lock()
	due := now.Sub(m.tidied) >= tidyEvery
	if due {
		m.tidied = now
	}
	keeps := m.keeps
	m.mu.Unlock()
	if !due || m.remote {
		return nil
	}
	if err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		_, err := m.session.Dead(ctx, tx) // forgets those that were over long ago
		return err
	}); err != nil {
		return err
	}
	own := make([]string, 0, len(keeps))
	for _, k := range keeps {
		own = append(own, k.name)
		if err := m.forget(ctx, Find{Before: ageZero.Add(-k.opt.keep), Kinds: []string{k.name}}); err != nil {
			return err
		}
	}
	if err := m.forget(ctx, Find{Before: ageZero.Add(-m.cfg.Retain), NotKinds: own}); err != nil {
		return err
	}
	return m.audit(ctx)
}

func (m *Manager) forget(ctx context.Context, f Find) error {
	f.Due, f.SkipLocked, f.Limit = "retain", true, retainBatch
	return m.each(ctx, f, func(r *Row, _ time.Time) (Move, bool) {
		return Move{ID: r.ID, From: r.State, Epoch: r.Epoch}, true
	})
}

// audit repairs lines that nobody will move on. There should be none, ever.
func (m *Manager) audit(ctx context.Context) error {
	if m.turns == nil {
		return nil
	}
	n, err := m.turns.Audit(ctx)
	if n > 0 {
		m.log.Error("lines repaired", "keys", n)
		m.nudge()
	}
	return err
}
