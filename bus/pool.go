package bus

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// pool runs handlers: so many at once, senders in turn, what comes back from waiting first.
type pool struct {
	b *Bus

	mu      sync.Mutex
	free    int                 // slots; below 0 when handlers came back without one
	again   []chan struct{}     // handlers that want their slot back
	senders map[string]*sender  // with something queued or running
	turn    []*sender           // with something queued, the next one first
	n       int                 // queued
	bytes   int                 // queued
	live    map[string]*request // queued, running or waiting, by id
	idle    chan struct{}       // closed when live becomes empty; nil: nobody waits for that
}

const keptSenders = 256 // that have nothing here

// sender is what one node has sent.
type sender struct {
	name    string
	queue   []*request
	running int
}

func (p *pool) init(b *Bus) {
	p.b, p.free = b, b.cfg.Workers
	p.senders, p.live = map[string]*sender{}, map[string]*request{}
}

// admit queues r or starts it.
func (p *pool) admit(r *request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.ep.Unbound {
		p.live[r.m.ID] = r
		p.start(r)
		return nil
	}
	s := p.senders[r.m.Wire.From]
	if s == nil {
		s = &sender{name: r.m.Wire.From}
	}
	size := len(r.m.Body)
	half := len(s.queue) < (p.b.cfg.Queue+1)/2 && p.n < 2*p.b.cfg.Queue // kept free for who has not had its share
	switch {
	case p.n > 0 && p.bytes+size > p.b.cfg.QueueBytes:
		return busy("the queue is full")
	case p.n >= p.b.cfg.Queue && !half:
		return busy("the queue is full")
	}
	p.senders[s.name] = s
	r.sender = s
	p.live[r.m.ID] = r
	if p.free > 0 && p.n == 0 && len(p.again) == 0 {
		p.start(r)
		return nil
	}
	if len(s.queue) == 0 {
		p.turn = append(p.turn, s)
	}
	s.queue = append(s.queue, r)
	p.n++
	p.bytes += size
	p.serve()
	return nil
}

// serve starts what there are slots for. The caller holds p.mu.
func (p *pool) serve() {
	for p.free > 0 {
		if len(p.again) > 0 {
			close(p.again[0])
			p.again = p.again[1:]
			p.free--
			continue
		}
		s := p.pick()
		if s == nil {
			return
		}
		r := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		p.n--
		p.bytes -= len(r.m.Body)
		p.turn = slices.DeleteFunc(p.turn, func(x *sender) bool { return x == s })
		if len(s.queue) > 0 {
			p.turn = append(p.turn, s)
		}
		p.start(r)
	}
}

func (p *pool) start(r *request) {
	if r.sender != nil {
		r.sender.running++
		p.free--
	}
	p.b.enter()
	p.b.env.Go("bus/"+r.m.Topic+"/"+r.m.ID, r.run)
}

// pick is the next sender in turn; one that has half the workers waits while others want some.
func (p *pool) pick() *sender {
	half := max(1, p.b.cfg.Workers/2)
	for _, s := range p.turn {
		if s.running < half || len(p.turn) == 1 {
			return s
		}
	}
	if len(p.turn) > 0 {
		return p.turn[0]
	}
	return nil
}

func (p *pool) finished(r *request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := r.sender; s != nil {
		p.free++
		s.running--
		if s.running == 0 && len(s.queue) == 0 && len(p.senders) > keptSenders {
			delete(p.senders, s.name)
		}
	}
	delete(p.live, r.m.ID)
	if len(p.live) == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
	p.serve()
}

func (p *pool) pause(r *request) {
	if r.sender == nil { // it has no slot
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free++
	r.sender.running--
	p.serve()
}

// resume waits for a slot, before all others.
func (p *pool) resume(r *request) {
	if r.sender == nil {
		return
	}
	p.mu.Lock()
	r.sender.running++
	p.senders[r.sender.name] = r.sender
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	p.again = append(p.again, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return
	case <-r.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.again, turn); i >= 0 { // its time is over: it ends without one
		p.again = slices.Delete(p.again, i, i+1)
		p.free--
	}
}

// cancel ends the handler whose caller has gone.
func (p *pool) cancel(m *Message) {
	p.mu.Lock()
	r := p.live[m.ID]
	p.mu.Unlock()
	switch {
	case r == nil:
	case r.m.Wire.From != m.Wire.From || r.m.Wire.Inc != m.Wire.Inc:
		p.b.count.forged.Add(1)
	default:
		r.cancel(ErrCancelled)
	}
}

func (p *pool) cancelAll() {
	for _, r := range p.all() {
		r.cancel(drover.ErrStopping)
	}
}

func (p *pool) all() []*request {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*request, 0, len(p.live))
	for _, r := range p.live {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *request) int { return cmp.Compare(a.m.ID, b.m.ID) })
	return out
}

// inflight describes what runs.
func (p *pool) inflight() (out []string) {
	now := p.b.env.Clock.Now()
	for _, r := range p.all() {
		out = append(out, r.m.Topic+"/"+r.m.Method+" of "+r.m.Wire.From+" since "+now.Sub(r.arrived).Round(time.Millisecond).String())
	}
	return out
}

func (p *pool) sizes() (queued, running int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(p.n), int64(len(p.live) - p.n)
}

// wait waits until nothing runs, telling every 10 s what still does.
func (p *pool) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		if p.idle == nil {
			p.idle = make(chan struct{})
		}
		n, idle := len(p.live), p.idle
		p.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-p.b.env.Clock.After(10 * time.Second):
			p.b.log.Warn("draining: handlers are not done", "handlers", p.inflight())
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
