package bus

import (
	"sync"
	"time"
)

const (
	clockSamples = 64
	clockPeers   = 65_536
	// drift is how fast two clocks may part: a sample loses its say by this share of its age.
	drift = 0.125
)

// clocks knows how far the clocks of peers are from ours, plus the fastest transit: the least (received − sent) of the last
// samples. What a message took longer than that, it has waited.
type clocks struct {
	mu    sync.Mutex
	peers map[string]*peerClock
	jumps int64 // of our own clock, that the samples are of
}

type peerClock struct {
	inc, clock int64
	samples    [clockSamples]sample
	n          int
}

type sample struct{ offset, at int64 }

// offset notes a message of a peer, sent and received in nanoseconds of their own clocks, and gives what to add to its deadline.
// jumps are those of our clock so far: what was measured before one says nothing any more.
func (c *clocks) offset(from string, inc, clock, sent, received, jumps int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if jumps != c.jumps {
		c.peers, c.jumps = nil, jumps
	}
	p := c.peers[from]
	if p == nil || p.inc != inc || p.clock != clock {
		if c.peers == nil || len(c.peers) >= clockPeers {
			c.peers = map[string]*peerClock{}
		}
		p = &peerClock{inc: inc, clock: clock}
		c.peers[from] = p
	}
	p.samples[p.n%clockSamples] = sample{received - sent, received}
	p.n++
	return p.least(received)
}

func (p *peerClock) least(now int64) int64 {
	least := p.samples[(p.n-1)%clockSamples].offset
	for _, s := range p.samples[:min(p.n, clockSamples)] {
		if age := now - s.at; age >= 0 {
			least = min(least, s.offset+int64(drift*float64(age)))
		}
	}
	return least
}

// of is the last known offset of a peer.
func (c *clocks) of(from string, now int64) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.peers[from]; p != nil {
		return time.Duration(p.least(now)), true
	}
	return 0, false
}

// stamp counts the jumps of our own wall clock against its monotonic reading.
type stamp struct {
	mu    sync.Mutex
	first time.Time
	known time.Duration // wall − monotonic, since first
	jumps int64
}

func (s *stamp) read(now time.Time) (nanos, jumps int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = now
	}
	gap := now.Round(0).Sub(s.first.Round(0)) - now.Sub(s.first)
	if d := gap - s.known; d > time.Second || d < -time.Second {
		s.known = gap
		s.jumps++
	}
	return now.UnixNano(), s.jumps
}
