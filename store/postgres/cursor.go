package postgres

import (
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
)

// cursorKey: cursors are kept per session and queue.
type cursorKey struct {
	session int64
	queue   string
}

// position is where a claim starts to look within a priority: everything before it was seen to be claimed.
type position struct {
	priority int
	runAt    time.Time
	seq      int64
}

func (p position) before(o position) bool {
	return p.runAt.Before(o.runAt) || p.runAt.Equal(o.runAt) && p.seq < o.seq
}

// cursor remembers how far a session has claimed a queue, so that claims do not cross entries of what is claimed, which an
// old snapshot of anybody keeps. It is a hint: what commits late with an earlier position is found by claims from the head.
type cursor struct {
	kinds     []string
	tight     []position // by priority
	saturated bool       // the last claim came back full
	headAt    time.Time
	headCost  time.Duration
	heads     int
	probeAt   time.Time
	probeCost time.Duration
	probes    int
	slackAt   time.Time
	slackCost time.Duration
	used      time.Time
	lowered   bool // since a claim took its positions
}

const (
	slack     = 2 * time.Second // covers transactions that were open at the last claim
	cheapHead = 2 * time.Millisecond
	forgotten = 10 * time.Minute
	planned   = 4 // looks of a kind whose cost does not count: they are planned
)

// how a claim looks.
type lookMode int

const (
	lookTight lookMode = iota // behind the last one
	lookSlack                 // from two seconds of run_at earlier
	lookHead                  // from the start of each priority
)

func (s *Store) cursor(session int64, queue string, kinds []string) *cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.env.Clock.Now()
	k := cursorKey{session, queue}
	c := s.cursors[k]
	if c == nil || !slices.Equal(c.kinds, kinds) {
		for k, old := range s.cursors {
			if now.Sub(old.used) > forgotten {
				delete(s.cursors, k)
			}
		}
		c = &cursor{kinds: slices.Clone(kinds)}
		s.cursors[k] = c
	}
	c.used = now
	return c
}

// from says where the next claim looks, again if a look behind the last one was short. Right behind the last one while batches come back full. Else from the head, unless
// that has become dear: then at ≤ 5 % of the time, from two seconds earlier at ≤ 10 %, and right behind the last one
// otherwise.
func (s *Store) from(c *cursor, short bool) (p []position, mode lookMode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.lowered = false
	now := s.env.Clock.Now()
	stale := now.Sub(c.headAt) > max(time.Second, 20*c.headCost)
	switch {
	case c.headAt.IsZero(), stale, (short || !c.saturated) && (c.headCost < cheapHead || now.Sub(c.headAt) > 20*c.headCost):
		c.headAt, c.slackAt = now, now
		return nil, lookHead
	case !c.saturated && now.Sub(c.slackAt) > 10*c.slackCost:
		c.slackAt = now
		p = slices.Clone(c.tight)
		for i := range p {
			p[i].runAt = p[i].runAt.Add(-slack)
		}
		return p, lookSlack
	}
	return slices.Clone(c.tight), lookTight
}

// worthProbing are the queues whose head a probe should look at, and whether there is more anyway: where a claim came back full. Where
// that is dear it takes ≤ 5 % of the time.
func (s *Store) worthProbing(session int64, queues []string) (look []string, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.env.Clock.Now()
	for _, q := range queues {
		switch c := s.cursors[cursorKey{session, q}]; {
		case c == nil:
			look = append(look, q)
		case c.saturated:
			more = true
		case c.probeCost < cheapHead || now.Sub(c.probeAt) > 20*c.probeCost:
			look, c.probeAt = append(look, q), now
		}
	}
	return look, more
}

func (s *Store) probed(session int64, queues []string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range queues {
		if c := s.cursors[cursorKey{session, q}]; c != nil {
			if c.probes++; c.probes > planned {
				c.probeCost = took
			}
		}
	}
}

// seen moves the cursor past what a claim met.
func (s *Store) seen(c *cursor, mode lookMode, took time.Duration, full bool, met []position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch mode {
	case lookHead:
		if c.heads++; c.heads > planned {
			c.headCost = took
		}
	case lookSlack:
		c.slackCost = took
	}
	c.saturated = full
	for _, at := range met {
		i, ok := slices.BinarySearchFunc(c.tight, at.priority, func(p position, prio int) int { return p.priority - prio })
		if !ok {
			c.tight = slices.Insert(c.tight, i, at)
		} else if !c.lowered && c.tight[i].before(at) { // else what was announced meanwhile may be behind what was met
			c.tight[i] = at
		}
	}
}

// lowerCursors makes the next claims of a queue see what a hint announced.
func (s *Store) lowerCursors(h hint) {
	if !h.pos {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, c := range s.cursors {
		if job.QueueTopic(k.queue) == h.topic {
			c.lower(position{priority: h.priority, runAt: h.runAt})
		}
	}
}

func (c *cursor) lower(at position) {
	i, ok := slices.BinarySearchFunc(c.tight, at.priority, func(p position, prio int) int { return p.priority - prio })
	if !ok {
		c.tight = slices.Insert(c.tight, i, at)
	} else if at.before(c.tight[i]) {
		c.tight[i] = at
		c.lowered = true
	}
}
