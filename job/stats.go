package job

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Stats are the numbers of this node's pools, and of the queues of the whole cluster.
type Stats struct {
	Queues map[string]QueueStats // those served here, and those with live jobs
	Active int                   // jobs that run anywhere in the cluster
}

// QueueStats of one queue. The first four are this node's.
type QueueStats struct {
	Workers int           // 0: not served here
	Running int           // handlers that hold a worker
	Blocked int           // handlers in Wait, which have lent theirs
	Free    int           // jobs it would claim now
	Depth   map[State]int // live jobs in the cluster, by state
	Oldest  time.Duration // how long the first of those has been due that wait for their turn or a worker
	Paused  bool
}

// counted is what the store said last; guarded by Manager.mu.
type counted struct {
	at     time.Time
	counts []Count
	oldest map[string]time.Duration // by queue
}

// Stats answers what is going on, counted by the store a second ago at most.
func (m *Manager) Stats(ctx context.Context) (Stats, error) {
	c, err := m.count(ctx)
	if err != nil {
		return Stats{}, err
	}
	s := Stats{Queues: map[string]QueueStats{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	of := func(q string) QueueStats {
		st, ok := s.Queues[q]
		if !ok {
			st.Depth = map[State]int{}
		}
		return st
	}
	for _, q := range m.queues {
		p, st := m.pools[q], of(q)
		st.Workers, st.Running, st.Blocked, st.Free = p.workers, p.executing, p.blocked, p.free()
		s.Queues[q] = st
	}
	for _, n := range c.counts {
		st := of(n.Queue)
		st.Depth[n.State] = n.N
		s.Queues[n.Queue] = st
		if n.State == Running {
			s.Active += n.N
		}
	}
	for _, name := range m.settings.on {
		for q, st := range s.Queues {
			if name == Paused(q) {
				st.Paused = true
				s.Queues[q] = st
			}
		}
	}
	for q, d := range c.oldest {
		st := of(q)
		st.Oldest = d
		s.Queues[q] = st
	}
	return s, nil
}

// count asks the store, unless it was asked within the last second.
func (m *Manager) count(ctx context.Context) (counted, error) {
	now := m.env.Clock.Now()
	m.mu.Lock()
	c := m.counted
	m.mu.Unlock()
	if !c.at.IsZero() && now.Sub(c.at) < countEvery {
		return c, nil
	}
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		found, err := m.store.List(ctx, tx, Find{Count: []State{Scheduled, Waiting, Ready, Running, Parked}})
		if err != nil {
			return err
		}
		on, err := m.store.Set(ctx, tx, nil)
		if err != nil {
			return err
		}
		found.Counts = slices.DeleteFunc(found.Counts, func(n Count) bool { return n.Queue == syncqueue.ItemQueue })
		c = counted{now, found.Counts, map[string]time.Duration{}}
		for _, n := range found.Counts {
			if n.State == Waiting || n.State == Ready {
				c.oldest[n.Queue] = max(c.oldest[n.Queue], tx.Now().Sub(n.Oldest))
			}
		}
		m.learn(on)
		return nil
	})
	if err != nil {
		return c, err
	}
	m.mu.Lock()
	m.counted = counted{c.at, c.counts, maps.Clone(c.oldest)}
	m.mu.Unlock()
	return c, nil
}
