package bus

import "time"

// Peer is a destination of this bus as Peers shows it, and a member of the cluster in a View.
type Peer struct {
	Node        string
	Incarnation int64

	// Of Peers only.
	To        string        // compute@n1, compute*, events
	Depth     int           // of the lane
	Open      bool          // the circuit: nothing is sent until a probe comes through
	LastError string        // "" if the last send was fine
	Offset    time.Duration // of the node's clock against ours, as far as known
}

// Peers are the destinations that something was sent to within 10 minutes, in order of their names.
func (b *Bus) Peers() []Peer {
	now := b.env.Clock.Now().UnixNano()
	var out []Peer
	for _, l := range b.lanes.all() {
		l.mu.Lock()
		p := Peer{Node: l.to.Node, To: l.to.String(), Depth: len(l.queue), Open: l.open}
		if l.fails > 0 || l.open {
			p.LastError = l.lastErr
		}
		l.mu.Unlock()
		p.Offset, _ = b.clocks.of(p.Node, now)
		out = append(out, p)
	}
	return out
}
