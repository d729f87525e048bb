package job

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/store"
)

// countEvery bounds the age of what is known of the queues' depth.
const countEvery = time.Second

// waiting is how many jobs wait in the queues that Config.MaxWaiting bounds; guarded by Manager.mu.
type waiting struct {
	at time.Time // when they were counted
	n  map[string]int
}

// admit says whether the submission may be stored: this node and the cluster take new jobs, and no queue is full. Children of jobs
// that exist always may.
func (s *submission) admit(ctx context.Context, tx store.Tx) error {
	if s.admitted || s.parent != nil {
		return nil
	}
	need := map[string]int{}
	fresh := false
	for i := range s.rows {
		if r := &s.rows[i]; r.Parent == "" {
			fresh = true
			if s.m.cfg.MaxWaiting[r.Queue] > 0 && !r.RunAt.After(tx.Now()) {
				need[r.Queue]++
			}
		}
	}
	if !fresh {
		return nil
	}
	if err := s.m.learnIn(ctx, tx); err != nil {
		return err
	}
	if err := s.m.Accepting(); err != nil {
		return err
	}
	if len(need) > 0 {
		if err := s.m.countWaiting(ctx, tx); err != nil {
			return err
		}
		if err := s.reserve(need); err != nil {
			return err
		}
	}
	s.admitted = true
	return nil
}

// countWaiting counts what waits for its turn or a worker, unless it was done within the last second.
func (m *Manager) countWaiting(ctx context.Context, tx store.Tx) error {
	now := m.env.Clock.Now()
	m.mu.Lock()
	old := m.waiting.n == nil || now.Sub(m.waiting.at) >= countEvery
	m.mu.Unlock()
	if !old {
		return nil
	}
	found, err := m.store.List(ctx, tx, Find{Count: []State{Waiting, Ready}})
	if err != nil {
		return err
	}
	n := map[string]int{}
	for _, c := range found.Counts {
		n[c.Queue] += c.N
	}
	m.mu.Lock()
	m.waiting = waiting{now, n}
	m.mu.Unlock()
	return nil
}

// reserve counts the rows in, all or none; the next count tells whether they were stored.
func (s *submission) reserve(need map[string]int) error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range s.rows {
		q := s.rows[i].Queue
		if most := m.cfg.MaxWaiting[q]; need[q] > 0 && m.waiting.n[q]+need[q] > most {
			return &BatchError{i, &OverloadedError{RetryAfter: countEvery}}
		}
	}
	for q, n := range need {
		m.waiting.n[q] += n
	}
	return nil
}
