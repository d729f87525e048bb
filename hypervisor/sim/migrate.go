package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

const migrateLimit = 30 * time.Minute

// incoming is the Mode of a guest at the target of a migration: paused until the source has let it go.
const incoming = "incoming"

var _ hypervisor.Migrator = (*Driver)(nil)

// Migrate begins to move a VM to another simulated host; see hypervisor.Migrator. The work is done by Wait: what it leaves
// half-way, a Migrate to the same target continues.
func (d *Driver) Migrate(ctx context.Context, id string, s hypervisor.MigrateSpec) (hypervisor.Migration, error) {
	m := &migration{from: d, id: id, epoch: s.Epoch, stop: make(chan struct{}), began: d.env.Clock.Now()}
	err := d.change(ctx, "migrate", hypervisor.VM{ID: id}, hypervisor.ChangeLimit, func(c *call) error {
		to, ok := s.Target.(*Driver)
		switch {
		case !ok:
			return c.error(hypervisor.ErrUnsupported, "the target is no simulated host")
		case to.h.cfg.ID == d.h.cfg.ID:
			return c.error(hypervisor.ErrInvalid, "the target is the source")
		}
		m.to = to
		return m.begin(c)
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

type migration struct {
	from, to    *Driver
	id          string
	epoch       int64
	incarnation int64 // at the source; -1: it has let go already
	memory      int64
	began       time.Time
	stop        chan struct{}
	once        sync.Once
}

// begin records the epoch at the source and takes room at the target.
func (m *migration) begin(c *call) error {
	var moving guest
	left := false
	err := m.from.h.update(c.ctx, func(w *world) error {
		g, ok := w.VMs[m.id]
		switch {
		case !ok:
			left = true
			return nil
		case m.epoch < g.Epoch:
			return c.stale(g, m.epoch)
		case g.Power != hypervisor.On:
			return c.error(hypervisor.ErrState, "is "+string(g.Power))
		}
		g.Epoch = m.epoch
		w.VMs[m.id], moving = g, g
		return nil
	})
	if err != nil {
		return err
	}
	m.incarnation, m.memory = moving.Incarnation, moving.MemoryMiB
	if left {
		m.incarnation = -1
	}
	return m.to.change(c.ctx, "incoming", hypervisor.VM{ID: m.id, Name: moving.Spec.Name}, hypervisor.ChangeLimit, func(c *call) error {
		return m.to.h.update(c.ctx, func(w *world) error { return m.receive(c, w, moving, left) })
	})
}

func (m *migration) receive(c *call, w *world, moving guest, left bool) error {
	g, there := w.VMs[m.id]
	switch {
	case there && g.Incarnation >= 0 && (g.Mode == incoming || left): // continued, or over
		g.Epoch = max(g.Epoch, m.epoch)
		w.VMs[m.id] = g
		return nil
	case left:
		return c.error(hypervisor.ErrNotFound, "neither here nor at the source")
	case there && g.Incarnation >= 0:
		return c.error(hypervisor.ErrExists, "runs here")
	}
	if free := m.to.h.memory() - w.usedMiB(); moving.MemoryMiB > free {
		return c.error(hypervisor.ErrNoResources, fmt.Sprintf("memory: free %d MiB < %d MiB", free, moving.MemoryMiB))
	}
	vcpus, memory := moving.VCPUs, moving.MemoryMiB
	moving = w.boot(moving, hypervisor.Paused)
	moving.VCPUs, moving.MemoryMiB, moving.Mode = vcpus, memory, incoming
	w.VMs[m.id] = moving
	return nil
}

// Progress goes by the time that passed.
func (m *migration) Progress(ctx context.Context) (hypervisor.Progress, error) {
	p := hypervisor.Progress{Total: m.memory}
	if whole := m.from.h.cfg.Times.Migrate; whole > 0 {
		left := whole - m.from.env.Clock.Now().Sub(m.began)
		p.Remaining = max(0, int64(left)*m.memory/int64(whole))
	}
	return p, ctx.Err()
}

// Abort makes Wait give up, unless the source has let go.
func (m *migration) Abort(ctx context.Context) error {
	m.once.Do(func() { close(m.stop) })
	return m.drop(ctx)
}

// ForceComplete does nothing: a simulated move always ends by itself.
func (m *migration) ForceComplete(ctx context.Context) error { return ctx.Err() }

// drop takes the guest that waits at the target away, while it runs at the source.
func (m *migration) drop(ctx context.Context) error {
	vm, err := m.from.Get(ctx, m.id)
	if err != nil || !vm.HasProcess() {
		return nil //nolint:nilerr // who cannot be asked, or has let go, is left alone
	}
	return m.to.change(ctx, "incoming", hypervisor.VM{ID: m.id}, hypervisor.ChangeLimit, func(c *call) error {
		return m.to.h.update(c.ctx, func(w *world) error {
			if w.VMs[m.id].Mode == incoming {
				delete(w.VMs, m.id)
			}
			return nil
		})
	})
}

// Wait moves the guest: the memory, then the source lets go, then the target goes on.
func (m *migration) Wait(ctx context.Context) error {
	if m.incarnation >= 0 {
		if err := m.copy(ctx); err != nil {
			return err
		}
		if err := m.letGo(ctx); err != nil {
			return err
		}
	}
	return m.to.change(ctx, "incoming", hypervisor.VM{ID: m.id}, hypervisor.ChangeLimit, func(c *call) error {
		return m.to.h.update(c.ctx, func(w *world) error {
			g, err := c.find(w)
			if err == nil && g.Mode == incoming {
				g.Power, g.Mode = hypervisor.On, started
				w.VMs[m.id] = g
			}
			return err
		})
	})
}

func (m *migration) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.from.env.Go("migration/"+m.id, func() {
		select {
		case <-m.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	err := m.from.read(ctx, "copy", m.id, migrateLimit, func(c *call) error { return c.sleep(m.from.h.cfg.Times.Migrate) })
	select {
	case <-m.stop:
		return &hypervisor.Error{Class: hypervisor.ErrAborted, Op: "migrate", Host: m.from.h.cfg.ID, VM: m.id}
	default:
		return err
	}
}

// letGo ends the guest at the source and forgets it there.
func (m *migration) letGo(ctx context.Context) error {
	err := m.from.change(ctx, "letgo", hypervisor.VM{ID: m.id}, hypervisor.ChangeLimit, func(c *call) error {
		return m.from.h.update(c.ctx, func(w *world) error {
			g, err := c.find(w)
			switch {
			case err != nil:
				return err
			case g.Epoch > m.epoch:
				return c.stale(g, m.epoch)
			case g.Incarnation != m.incarnation || g.Power != hypervisor.On:
				return c.error(hypervisor.ErrAborted, "is "+string(g.Power)+" meanwhile")
			}
			delete(w.VMs, m.id)
			return nil
		})
	})
	return err
}
