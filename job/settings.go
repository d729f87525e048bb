package job

import (
	"context"
	"slices"
	"time"

	"github.com/drover-cloud/drover/store"
)

// settings are the cluster's as this node knows them; guarded by Manager.mu.
type settings struct {
	on []string  // sorted
	at time.Time // when they were read; zero: not known
}

// SetMaintenance turns maintenance of the whole cluster on or off; it is kept in the store until it is turned off. While it is on,
// every node refuses submissions with [ErrDraining], except children of jobs that exist, and starts nothing but descendants of
// jobs that run. Handlers go on: when [Stats].Active is 0 everything may be shut down. From the moment it returns nothing else
// starts on any node; that they refuse, other nodes learn by a hint or within Config.Poll.
func (m *Manager) SetMaintenance(ctx context.Context, on bool) error {
	return m.set(ctx, Maintenance, on)
}

// PauseQueue makes all nodes start nothing from the queue until [Manager.ResumeQueue], also after they were restarted. Jobs may be
// submitted to it, and those that run go on. [ErrInvalid] for a bad name.
func (m *Manager) PauseQueue(ctx context.Context, queue string) error {
	return m.setQueue(ctx, queue, true)
}

// ResumeQueue ends a pause. [ErrInvalid] for a bad name.
func (m *Manager) ResumeQueue(ctx context.Context, queue string) error {
	return m.setQueue(ctx, queue, false)
}

func (m *Manager) setQueue(ctx context.Context, queue string, on bool) error {
	if why := badName(queue); why != "" {
		return invalid("Queue", "%.64q %s", queue, why)
	}
	return m.set(ctx, Paused(queue), on)
}

func (m *Manager) set(ctx context.Context, name string, on bool) error {
	var all []string
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		all, err = m.store.Set(ctx, tx, []Setting{{name, on}})
		return err
	})
	if err == nil {
		m.learn(all)
		m.log.Info("job setting changed", "setting", name, "on", on)
	}
	return err
}

// learn notes the settings as they were read just now.
func (m *Manager) learn(on []string) {
	now := m.env.Clock.Now()
	m.mu.Lock()
	changed := !slices.Equal(m.settings.on, on)
	m.settings = settings{on, now}
	m.mu.Unlock()
	if changed {
		m.nudge()
	}
}

// relearn makes the next round or submission read the settings.
func (m *Manager) relearn() {
	m.mu.Lock()
	m.settings.at, m.tick = time.Time{}, time.Time{}
	m.mu.Unlock()
	poke(m.wake)
}

// closed says that nothing is claimed here but descendants of running jobs. Manager.mu is held.
func (m *Manager) closed() bool {
	return m.draining || slices.Contains(m.settings.on, Maintenance)
}

// learnIn reads the settings in a submission's transaction where no round does, once per Poll.
func (m *Manager) learnIn(ctx context.Context, tx store.Tx) error {
	m.mu.Lock()
	at := m.settings.at
	fresh := !at.IsZero() && (m.life == 1 && m.session != nil || m.env.Clock.Now().Sub(at) < m.cfg.Poll)
	m.mu.Unlock()
	if fresh {
		return nil
	}
	on, err := m.store.Set(ctx, tx, nil)
	if err == nil {
		m.learn(on)
	}
	return err
}

// Resize changes how many jobs of the queue this node runs at once, 0 to 100 000; the queue is one of Config.Queues. More workers
// take effect at once. With fewer nothing is cancelled, and nothing claimed until fewer run. [ErrInvalid].
func (m *Manager) Resize(queue string, n int) error {
	if n < 0 || n > maxWorkers {
		return invalid("Workers", "%d, must be 0 to %d", n, maxWorkers)
	}
	p := m.pools[queue]
	if p == nil {
		return invalid("Queue", "%.64q is not served here", queue)
	}
	m.mu.Lock()
	was := p.workers
	p.workers = n
	m.mu.Unlock()
	m.log.Info("job queue resized", "queue", queue, "workers", n, "before", was)
	m.nudge()
	return nil
}
