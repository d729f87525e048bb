package bus

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover/internal/alarm"
	"github.com/drover-cloud/drover/internal/chance"
)

const (
	laneItems    = 1024
	laneBytes    = 8 << 20
	laneIdle     = 10 * time.Minute
	laneFailures = 5
	probeFirst   = 100 * time.Millisecond
	probeMost    = 10 * time.Second
	probeTime    = time.Second
)

// parcel is a message in a lane. w or done is told what became of it; done may be nil.
type parcel struct {
	m        *Message
	deadline time.Time
	w        *waiter
	done     func(err error)
}

// sent tells what became of p.
func (b *Bus) sent(p parcel, err error) {
	if err != nil && p.m.Wire.Kind == KindReply {
		b.count.dropped.Add(1)
	}
	if p.w != nil {
		p.w.sent(err)
	} else if p.done != nil {
		p.done(err)
	}
}

// lanes has a lane per destination. They share nothing but this table.
type lanes struct {
	b  *Bus
	mu sync.RWMutex
	m  map[Address]*lane
	alarm.Alarm
	ended  bool
	prompt bool // the transport waits for nothing outside of the process: who sends needs no goroutine
}

// lane sends to one destination, from goroutines of its own that live while there is something to send: one where order counts
// (events) or the transport does not say that more are good for it.
type lane struct {
	b     *Bus
	to    Address
	name  string
	width int

	mu      sync.Mutex
	queue   []parcel
	bytes   int
	active  int  // goroutines
	open    bool // the circuit
	fails   int
	last    time.Time // of use
	lastErr string
	free    []*sending
}

func (s *lanes) init(b *Bus) {
	s.b, s.m = b, map[Address]*lane{}
	s.Owner = s
	if t, ok := b.t.(interface{ Prompt() bool }); ok {
		s.prompt = t.Prompt()
	}
}

// laneOf is where frames to a go: replies by node, events together, all others by their address, a node's topics together.
func laneOf(a Address) Address {
	switch {
	case a.Events:
		return Address{Events: true}
	case a.Inbox:
		return Address{Inbox: true, Node: a.Node}
	case a.Node != "":
		return Address{Node: a.Node}
	}
	return Address{Topic: a.Topic, Fanout: a.Fanout}
}

// send puts p into its lane.
func (s *lanes) send(p parcel) error {
	key := laneOf(p.m.Address())
	s.mu.RLock()
	l, over := s.m[key], s.ended
	s.mu.RUnlock()
	if over {
		return notSent("the bus has ended")
	}
	if l == nil {
		l = s.make(key)
	}
	if s.prompt {
		return l.pass(p)
	}
	return l.put(p)
}

func (s *lanes) make(key Address) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.m[key]; l != nil {
		return l
	}
	l := &lane{b: s.b, to: key, name: "bus/lane/" + key.String(), width: 1, last: s.b.env.Clock.Now()}
	if w, ok := s.b.t.(interface{ Width() int }); ok && !key.Events {
		l.width = max(1, w.Width())
	}
	s.m[key] = l
	return l
}

// sweep removes lanes that were idle for 10 minutes, and comes again.
func (s *lanes) sweep() { s.Fire() }

func (s *lanes) name() string { return "lanes" }

func (s *lanes) Fire() {
	now := s.b.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	for key, l := range s.m { // each for itself: order decides nothing
		l.mu.Lock()
		if l.active == 0 && now.Sub(l.last) >= laneIdle {
			delete(s.m, key)
			for _, way := range l.free {
				way.free()
			}
		}
		l.mu.Unlock()
	}
	s.b.alarms.Set(&s.Alarm, now.Add(time.Minute))
}

// all are the lanes in order of their names.
func (s *lanes) all() []*lane {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*lane, 0, len(s.m))
	for _, l := range s.m {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *lane) int { return cmp.Compare(a.name, b.name) })
	return out
}

// stop fails what is queued; goroutines end with the bus's ctx.
func (s *lanes) stop() {
	s.mu.Lock()
	s.ended = true
	s.b.alarms.Unset(&s.Alarm)
	s.mu.Unlock()
	for _, l := range s.all() {
		l.fail(notSent("the bus has ended"))
	}
}

// flush waits until the lanes of replies are empty, or for ctx.
func (s *lanes) flush(ctx context.Context) {
	for _, l := range s.all() {
		for l.to.Inbox && ctx.Err() == nil {
			l.mu.Lock()
			done := l.active == 0 || l.open
			l.mu.Unlock()
			if done || s.b.env.Sleep(ctx, time.Millisecond) != nil {
				break
			}
		}
	}
}

func (l *lane) put(p parcel) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = l.b.env.Clock.Now()
	size := len(p.m.Body)
	switch {
	case l.open:
		return notSent("the way to " + l.to.String() + " is closed: " + l.lastErr)
	case len(l.queue) >= laneItems || l.bytes+size > laneBytes && len(l.queue) > 0:
		l.b.count.rejected.Add(1)
		return busy("the lane to " + l.to.String() + " is full")
	}
	l.queue = append(l.queue, p)
	l.bytes += size
	if l.active < l.width {
		l.active++
		name := l.name
		if l.active > 1 {
			name += "/" + itoa(l.active)
		}
		l.b.spawn(name, l.run)
	}
	return nil
}

// pass sends p within the call.
func (l *lane) pass(p parcel) error {
	now := l.b.env.Clock.Now()
	l.mu.Lock()
	l.last = now
	open, why := l.open, l.lastErr
	l.mu.Unlock()
	if open {
		return notSent("the way to " + l.to.String() + " is closed: " + why)
	}
	err, what := l.deliver(nil, p)
	if what == delivered && l.tally(err) {
		l.b.spawn(l.name+"/probe", func() { l.probe(nil) })
	}
	if what != elsewhere {
		l.b.sent(p, err)
	}
	return nil
}

func (l *lane) run() {
	way := l.way()
	p, ok := l.take(way)
	defer func() {
		if ok { // the transport has panicked, or ended the goroutine
			l.mu.Lock()
			defer l.mu.Unlock()
			l.active--
		}
	}()
	for ok {
		err, what := l.deliver(way, p)
		opened := what == delivered && l.tally(err)
		var next parcel
		if !opened {
			next, ok = l.take(way) // before whoever waits for p can put something in
		}
		if what != elsewhere {
			l.b.sent(p, err)
		}
		if opened {
			l.probe(way)
			next, ok = l.take(way)
		}
		p = next
	}
}

func (l *lane) way() *sending {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		way := l.free[n-1]
		l.free = l.free[:n-1]
		return way
	}
	way := &sending{b: l.b}
	way.Owner = way
	return way
}

// take is the next parcel; false if there is none, which ends the goroutine.
func (l *lane) take(way *sending) (p parcel, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 || l.b.ctx.Err() != nil {
		l.active--
		l.free = append(l.free, way)
		return p, false
	}
	p = l.queue[0]
	n := copy(l.queue, l.queue[1:]) // at most 1024, and the room stays
	l.queue[n] = parcel{}
	l.queue = l.queue[:n]
	l.bytes -= len(p.m.Body)
	return p, true
}

// fate is what became of a parcel.
type fate uint8

const (
	delivered fate = iota // to the transport: the error tells about the way
	refused               // before: the error tells nothing of that
	elsewhere             // nobody waits for it any more, or another lane has it
)

// deliver hands p to the transport.
func (l *lane) deliver(way *sending, p parcel) (err error, what fate) { //nolint:staticcheck // the error comes first: it is the answer
	now := l.b.env.Clock.Now()
	if !p.deadline.IsZero() && !now.Before(p.deadline) {
		return errNoTime, refused
	}
	if moved, err := l.b.rerouted(p); moved {
		if err != nil {
			return err, refused
		}
		return nil, elsewhere
	}
	if p.w != nil && !p.w.hand() {
		return nil, elsewhere
	}
	return l.transmit(way, p.m, p.deadline, now), delivered
}

// transmit is one Transport.Send, ended by the deadline; without a way the transport is prompt.
func (l *lane) transmit(way *sending, m *Message, deadline, now time.Time) error {
	if deadline.IsZero() {
		deadline = now.Add(l.b.cfg.Timeout)
	}
	l.b.stampOn(m, now, deadline)
	ctx := l.b.ctx
	if way != nil {
		ctx = way.begin(deadline)
		l.b.alarms.Set(&way.Alarm, deadline)
		defer l.b.alarms.Unset(&way.Alarm)
	}
	err := l.b.t.Send(ctx, m)
	if err == nil {
		l.b.count.sent.Add(1)
	}
	switch {
	case err == nil || isAny(err, ErrNoRoute, ErrBusy, ErrNotSent, ErrInvalid, ErrNodeLost):
		return err
	case ctx.Err() != nil:
		return errTimeout
	}
	return because(ErrNodeLost, err)
}

// tally counts failures in a row; true: the circuit has opened.
func (l *lane) tally(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || isAny(err, ErrNoRoute, ErrBusy, ErrInvalid) {
		l.fails = 0
		return false
	}
	l.fails++
	l.lastErr = err.Error()
	if l.fails < laneFailures || l.open {
		return false
	}
	l.open = true
	return true
}

// fail ends everything queued with err.
func (l *lane) fail(err error) {
	l.mu.Lock()
	queue := l.queue
	l.queue, l.bytes = nil, 0
	l.mu.Unlock()
	apart(l.b, queue, func(p parcel) string { return p.m.ID }, func(p parcel) { l.b.sent(p, err) })
}

// probe asks until the way is open again, or nobody wanted it for 10 minutes.
func (l *lane) probe(way *sending) {
	b := l.b
	b.log.Warn("circuit opened", "to", l.to.String(), "error", l.lastErr)
	l.fail(notSent("the way to " + l.to.String() + " is closed"))
	delay := probeFirst
	for {
		if b.env.Sleep(b.ctx, chance.Around(b.env.Rand, delay, 0.5)) != nil {
			return
		}
		now := b.env.Clock.Now()
		m := &Message{ID: b.env.NewID(), Topic: cmp.Or(l.to.Topic, "drover"), Node: l.to.Node, Fanout: l.to.Fanout, Wire: Wire{Kind: KindProbe}}
		err := l.transmit(way, m, now.Add(probeTime), now)
		l.mu.Lock()
		unused := now.Sub(l.last) >= laneIdle
		if err == nil || isAny(err, ErrNoRoute, ErrBusy, ErrInvalid) || unused {
			l.open, l.fails = false, 0
			l.mu.Unlock()
			b.log.Info("circuit closed", "to", l.to.String())
			return
		}
		l.lastErr = err.Error()
		l.mu.Unlock()
		delay = min(delay*2, probeMost)
	}
}
