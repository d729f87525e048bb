package bus

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover/store"
)

// Event is something that happened, told to whoever subscribes to its subject or above.
type Event struct {
	// ID is drawn by Publish if empty.
	ID string
	// Subject are 1 to 16 segments of [A-Za-z0-9_/:-]+ joined by dots, at most 255 bytes: job.state.vm.
	Subject string
	// Node that published it, and when by its clock: set by Publish.
	Node string
	Time time.Time
	Data []byte
	// Params are what {name} of the subscription's pattern stood for.
	Params map[string]string
	// Missed is how many events this subscription lost just before this one: its queue was full, or (−1, an unknown number)
	// the transport had no connection.
	Missed int64
	// Order keeps events of one key in order through the outbox; "" is the subject.
	Order string
}

const subscriptionQueue = 1024

// events are this node's subscriptions.
type events struct {
	b    *Bus
	mu   sync.RWMutex
	subs []*subscription // the most specific first
	n    int
	want map[string]int // interests at the transport, with their number of subscriptions
}

// subscription has a queue and, while that is not empty, a goroutine.
type subscription struct {
	b    *Bus
	n    int // in order of subscribing
	p    pattern
	as   string
	once bool
	f    func(ctx context.Context, e Event)

	mu      sync.Mutex
	queue   []Event
	missed  int64
	active  bool
	stopped bool
	inside  uint64        // goroutine in which f runs; 0: none
	rests   chan struct{} // closed and replaced when f has returned
}

func (s *events) init(b *Bus) { s.b, s.want = b, map[string]int{} }

// Publish tells everybody of e. With a nil tx it returns when subscriptions of this process are queued and the transport has
// taken it; others get it at most once. Within tx it is stored in the outbox, and sent after commit, at least once, in order of
// e.Order: then it is store.ErrForeign for a transaction of another store. LocalOnly keeps it here.
func (b *Bus) Publish(ctx context.Context, tx store.Tx, e Event, opts ...CallOption) error {
	if b.err != nil {
		return b.err
	}
	o := optionsFrom(opts)
	if err := checkSubject(e.Subject); err != nil {
		return err
	}
	if len(e.Data) > b.cfg.MaxBody {
		return invalid("data of %d bytes, at most %d", len(e.Data), b.cfg.MaxBody)
	}
	if e.ID == "" {
		e.ID = b.env.NewID()
	}
	e.Node, e.Time, e.Data, e.Params, e.Missed = b.node, b.env.Clock.Now(), slices.Clone(e.Data), nil, 0
	m := e.message()
	if err := b.enrich(ctx, m); err != nil {
		return err
	}
	if tx != nil {
		return b.store(ctx, tx, m, cmp.Or(e.Order, e.Subject))
	}
	return b.publish(ctx, m, o.local)
}

// message is e as a frame: its subject is the topic, its order the key.
func (e Event) message() *Message {
	return &Message{ID: e.ID, Topic: e.Subject, Node: e.Node, Key: e.Order, Body: e.Data, Wire: Wire{Kind: KindEvent, At: e.Time.UnixNano()}}
}

func (b *Bus) publish(ctx context.Context, m *Message, local bool) error {
	b.eventIDs.add(m.ID, b.env.Clock.Now()) // what comes back from the transport is known
	b.events.tell(eventOf(m))
	if local {
		return nil
	}
	_, err := b.once(ctx, m, b.deadline(ctx, b.env.Clock.Now(), &callOptions{}))
	if errors.Is(err, ErrNoRoute) {
		return nil
	}
	return err
}

func eventOf(m *Message) Event {
	return Event{ID: m.ID, Subject: m.Topic, Node: m.Node, Time: time.Unix(0, m.Wire.At).UTC(), Data: m.Body, Order: m.Key}
}

// arrived is an event from the transport.
func (s *events) arrived(m *Message) {
	if checkSubject(m.Topic) != nil || len(m.Body) > s.b.cfg.MaxBody {
		s.b.count.garbage.Add(1)
		return
	}
	if !s.b.eventIDs.add(m.ID, s.b.env.Clock.Now()) {
		if m.Node != s.b.node {
			s.b.count.duplicates.Add(1)
		}
		return
	}
	s.tell(eventOf(m))
}

// tell queues e at the subscriptions that match, the most specific first.
func (s *events) tell(e Event) {
	segs := strings.Split(e.Subject, ".")
	s.mu.RLock()
	defer s.mu.RUnlock()
	var known []string
	for _, sub := range s.subs {
		params, ok := sub.p.match(segs)
		if !ok || sub.as != "" && slices.Contains(known, sub.as) {
			continue
		}
		if sub.as != "" {
			known = append(known, sub.as)
		}
		x := e
		x.Params, x.Data = params, slices.Clone(e.Data)
		sub.push(x)
	}
}

// Subscribe calls f with every event of the pattern subject and of what is below it: job gets job.state.vm too, job$ does not,
// "" gets everything. A segment * matches one segment, * and ? within one are globs, {name} matches one and tells it in Params.
// Calls of f never overlap and delay no publisher; more than 1024 events behind, the oldest are dropped (Event.Missed). f may
// publish, subscribe and stop. stop returns when f has returned, except within f; no call comes after it. Other nodes' events come
// once Ready has returned. A bad pattern panics.
func (b *Bus) Subscribe(subject string, f func(ctx context.Context, e Event), opts ...CallOption) (stop func()) {
	p, err := parsePattern(subject)
	if err != nil {
		panic(err.Error())
	}
	if f == nil {
		panic("bus: Subscribe with a nil function")
	}
	o := optionsFrom(opts)
	sub := &subscription{b: b, p: p, as: o.as, once: o.once, f: f, rests: make(chan struct{})}
	b.events.add(sub)
	return sub.stop
}

func (s *events) add(sub *subscription) {
	interest := sub.p.interest()
	s.mu.Lock()
	s.n++
	sub.n = s.n
	i, _ := slices.BinarySearchFunc(s.subs, sub, bySpecificity)
	s.subs = slices.Insert(slices.Clone(s.subs), i, sub)
	s.want[interest]++
	first := s.want[interest] == 1
	s.mu.Unlock()
	if first && s.b.isRunning() {
		s.b.open(Address{Events: true, Subject: interest})
	}
}

func bySpecificity(a, b *subscription) int {
	return cmp.Or(cmp.Compare(b.p.literals, a.p.literals), cmp.Compare(len(b.p.segs), len(a.p.segs)), cmp.Compare(a.n, b.n))
}

func (s *events) remove(sub *subscription) {
	interest := sub.p.interest()
	s.mu.Lock()
	s.subs = slices.DeleteFunc(slices.Clone(s.subs), func(x *subscription) bool { return x == sub })
	s.want[interest]--
	last := s.want[interest] == 0
	if last {
		delete(s.want, interest)
	}
	s.mu.Unlock()
	if last {
		s.b.close(Address{Events: true, Subject: interest})
	}
}

// openAll receives what was subscribed to before Run.
func (s *events) openAll() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	interests := make([]string, 0, len(s.want))
	for i := range s.want {
		interests = append(interests, i)
	}
	slices.Sort(interests)
	for _, i := range interests {
		s.b.open(Address{Events: true, Subject: i})
	}
}

// gap says that the transport was away.
func (s *events) gap() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sub := range s.subs {
		sub.mu.Lock()
		sub.missed = -1
		sub.mu.Unlock()
	}
}

// stopAll ends all deliveries without waiting.
func (s *events) stopAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		sub.mu.Lock()
		sub.stopped, sub.queue = true, nil
		sub.mu.Unlock()
	}
}

func (s *subscription) push(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	if len(s.queue) >= subscriptionQueue {
		s.b.count.missed.Add(1)
		if s.queue = s.queue[1:]; s.missed >= 0 {
			s.missed++
		}
	}
	s.queue = append(s.queue, e)
	if !s.active {
		s.active = true
		s.b.spawn("bus/subscription/"+itoa(s.n), s.run)
	}
}

func (s *subscription) run() {
	me := goroutine()
	for {
		s.mu.Lock()
		if s.stopped || len(s.queue) == 0 {
			s.active, s.inside = false, 0
			s.mu.Unlock()
			return
		}
		e := s.queue[0]
		s.queue[0] = Event{}
		s.queue = s.queue[1:]
		e.Missed, s.missed = s.missed, 0
		s.inside = me
		s.mu.Unlock()
		s.call(e)
		s.mu.Lock()
		s.inside = 0
		close(s.rests)
		s.rests = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *subscription) call(e Event) {
	defer func() {
		if v := recover(); v != nil {
			s.b.count.panics.Add(1)
			s.b.log.Error("subscription panicked", "subject", e.Subject, "panic", v)
		}
	}()
	s.b.count.events.Add(1)
	if s.once {
		s.end()
	}
	s.f(s.b.ctx, e)
}

// end takes the subscription away; no further call begins.
func (s *subscription) end() {
	s.mu.Lock()
	was := s.stopped
	s.stopped, s.queue = true, nil
	s.mu.Unlock()
	if !was {
		s.b.events.remove(s)
	}
}

func (s *subscription) stop() {
	s.end()
	s.mu.Lock()
	inside, rests := s.inside, s.rests
	s.mu.Unlock()
	if inside != 0 && inside != goroutine() {
		<-rests
	}
}

// Subscriptions are the patterns subscribed to, the most specific first.
func (b *Bus) Subscriptions() (out []string) {
	b.events.mu.RLock()
	defer b.events.mu.RUnlock()
	for _, s := range b.events.subs {
		out = append(out, s.p.String())
	}
	return out
}

// String is the pattern as it was written.
func (p pattern) String() string {
	words := make([]string, len(p.segs))
	for i, s := range p.segs {
		if words[i] = s.text; s.kind == '{' {
			words[i] = "{" + s.text + "}"
		}
	}
	out := strings.Join(words, ".")
	if p.exact {
		out += "$"
	}
	return out
}
