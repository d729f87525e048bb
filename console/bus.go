package console

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/drover-cloud/drover/bus"
)

// Bus is what the console needs of *[bus.Bus]: that of this node. It answers from memory.
type Bus interface {
	Stats() bus.Stats
	Peers() []bus.Peer
	Waiting() []bus.Waiting
	Subscriptions() []string
	Endpoints() []bus.Served
}

const (
	busCalls = 200 // calls under way that a node tells of
	busRate  = 500 * time.Millisecond
)

// busObject is the bus of a node, or why it is not known.
type busObject struct {
	Node  string `json:"node"`
	Error string `json:"error,omitempty"` // no answer
	busFacts
}

// busFacts are what a node says of its bus. Never a message's body.
type busFacts struct {
	Sent          int64        `json:"sent"`
	Received      int64        `json:"received"`
	Out           float64      `json:"out_per_s"` // of late
	In            float64      `json:"in_per_s"`
	Queue         int64        `json:"queue"`
	Running       int64        `json:"running"`
	Rejected      int64        `json:"rejected"`
	Expired       int64        `json:"expired"`
	Reroutes      int64        `json:"reroutes"`
	Missed        int64        `json:"missed"`
	Lanes         []laneObject `json:"lanes"`
	Waiting       []callObject `json:"waiting"` // the oldest
	Calls         int64        `json:"calls"`   // that wait, all of them
	Subscriptions []string     `json:"subscriptions"`
	Endpoints     []bus.Served `json:"endpoints"`
}

// laneObject is the way to one destination.
type laneObject struct {
	To     string `json:"to"`
	Depth  int    `json:"depth"`
	Open   bool   `json:"open"` // the circuit: nothing is sent for now
	Error  string `json:"error,omitempty"`
	Offset int64  `json:"offset_ms"` // of the node's clock against this one's
}

// callObject is a call or cast under way.
type callObject struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Target   string `json:"target"`
	Method   string `json:"method"`
	Since    stamp  `json:"since"`
	Deadline stamp  `json:"deadline"`
	Node     string `json:"node,omitempty"` // that runs it, once known
	Sent     bool   `json:"sent"`
}

// Bad says that somebody should look at it.
func (b busFacts) Bad() bool {
	return slices.ContainsFunc(b.Lanes, func(l laneObject) bool { return l.Open })
}

// busSample is what the counters said when they were last looked at, for the rates.
type busSample struct {
	at             time.Time
	sent, received int64
	out, in        float64
}

// ownBus is this node's.
func (c *Console) ownBus() *busFacts {
	if c.cfg.Bus == nil {
		return nil
	}
	st := c.cfg.Bus.Stats()
	f := &busFacts{
		Sent: st.Sent, Received: st.Received, Queue: st.Queue, Running: st.Running, Rejected: st.Rejected, Expired: st.Expired, Reroutes: st.Reroutes, Missed: st.Missed,
		Calls: st.Waiters, Lanes: []laneObject{}, Waiting: []callObject{}, Subscriptions: append([]string{}, c.cfg.Bus.Subscriptions()...), Endpoints: append([]bus.Served{}, c.cfg.Bus.Endpoints()...),
	}
	f.Out, f.In = c.busRates(st)
	for _, p := range c.cfg.Bus.Peers() {
		f.Lanes = append(f.Lanes, laneObject{p.To, p.Depth, p.Open, p.LastError, p.Offset.Milliseconds()})
	}
	ws := c.cfg.Bus.Waiting()
	slices.SortStableFunc(ws, func(a, b bus.Waiting) int { return a.Since.Compare(b.Since) })
	for _, w := range ws[:min(len(ws), busCalls)] {
		f.Waiting = append(f.Waiting, callObject{w.ID, w.Kind, w.Target, w.Method, stamp(w.Since), stamp(w.Deadline), w.Node, w.Sent})
	}
	return f
}

// busRates are messages per second since somebody last looked.
func (c *Console) busRates(st bus.Stats) (out, in float64) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.busAt
	if d := now.Sub(s.at); s.at.IsZero() || d >= busRate {
		if !s.at.IsZero() {
			s.out, s.in = float64(st.Sent-s.sent)/d.Seconds(), float64(st.Received-s.received)/d.Seconds()
		}
		s.at, s.sent, s.received = now, st.Sent, st.Received
	}
	return s.out, s.in
}

// buses are those of all nodes, this one's first. What belongs to no account is not told to one.
func (c *Console) buses(ctx context.Context) ([]busObject, error) {
	out := []busObject{}
	if who(ctx).Account != "" {
		return out, nil
	}
	facts, err := c.facts(ctx, true)
	if err != nil {
		return nil, err
	}
	for _, f := range facts {
		o := busObject{Node: f.node, busFacts: busFacts{Lanes: []laneObject{}, Waiting: []callObject{}, Subscriptions: []string{}, Endpoints: []bus.Served{}}}
		switch {
		case f.err != nil:
			o.Error = noAnswer
		case f.Bus != nil:
			o.busFacts = *f.Bus
		}
		out = append(out, o)
	}
	return out, nil
}

type busesObject struct {
	Items []busObject `json:"items"` // by node
	Alone bool        `json:"alone"` // only this node is known
}

func (c *Console) listBus(r *http.Request) (*answer, error) {
	all, err := c.buses(r.Context())
	if err != nil {
		return nil, err
	}
	return ok(busesObject{all, c.cfg.Nodes == nil})
}

func (v *views) bus(r *http.Request, p *page) (string, error) {
	p.Heading, p.Stream, p.Poll = "Bus", "topics=member", 5
	all, err := v.c.buses(r.Context())
	if err != nil {
		return "", err
	}
	p.Body = map[string]any{"Items": all, "Alone": v.c.cfg.Nodes == nil && v.c.up(r.Context()) > 1}
	return "bus", nil
}
