package bus

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover/internal/alarm"
)

// result of a verb.
type result struct {
	body []byte
	err  error
}

// waiter is a call, cast or publication under way. Exactly one finisher takes it out of its shard, and so owns the result.
type waiter struct {
	alarm.Alarm
	b        *Bus
	m        *Message
	deadline time.Time
	began    time.Time
	c        chan result

	// Guarded by the shard's mutex.
	done     bool
	handed   bool   // to the transport: from now on it may run
	node     string // that executes, once known
	inc      int64
	accepted bool
	monitor  time.Duration
	silent   time.Time // if nothing is heard until then, the node is lost; zero: not monitored
}

// results are channels of results: only finishLocked sends on one, once, so that it may serve again when that was received.
type results struct{ free sync.Pool }

func (s *results) take() chan result {
	if c, ok := s.free.Get().(chan result); ok {
		return c
	}
	return make(chan result, 1)
}

func (s *results) give(c chan result) { s.free.Put(c) }

const shards = 64

type waiters struct{ shards [shards]shard }

type shard struct {
	sync.Mutex
	m map[string]*waiter
}

func (s *waiters) of(id string) *shard {
	h := uint32(2166136261)
	for i := max(0, len(id)-8); i < len(id); i++ {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return &s.shards[h%shards]
}

// add registers w; false if its id is under way.
func (s *waiters) add(w *waiter) bool {
	sh := s.of(w.m.ID)
	sh.Lock()
	defer sh.Unlock()
	if sh.m == nil {
		sh.m = map[string]*waiter{}
	}
	if sh.m[w.m.ID] != nil {
		return false
	}
	sh.m[w.m.ID] = w
	w.b.alarms.Set(&w.Alarm, w.deadline)
	return true
}

// finish ends w with r; false if something else has.
func (w *waiter) finish(r result) bool {
	sh := w.b.waiters.of(w.m.ID)
	sh.Lock()
	defer sh.Unlock()
	return w.finishLocked(sh, r)
}

func (w *waiter) finishLocked(sh *shard, r result) bool {
	if w.done {
		return false
	}
	w.done = true
	delete(sh.m, w.m.ID)
	w.b.alarms.Unset(&w.Alarm)
	w.c <- r
	return true
}

func (w *waiter) name() string { return w.m.ID }

// fire is the deadline, or the silence of who was to report.
func (w *waiter) Fire() {
	sh := w.b.waiters.of(w.m.ID)
	sh.Lock()
	defer sh.Unlock()
	now := w.b.env.Clock.Now()
	switch {
	case w.done:
	case !now.Before(w.deadline) && w.handed:
		w.finishLocked(sh, result{err: errTimeout})
	case !now.Before(w.deadline):
		w.finishLocked(sh, result{err: errNoTime})
	case !w.silent.IsZero() && !now.Before(w.silent):
		w.finishLocked(sh, result{err: &fault{kind: ErrNodeLost, text: w.node + " has fallen silent"}})
	default:
		w.again()
	}
}

// again sets the alarm for what comes next.
func (w *waiter) again() {
	at := w.deadline
	if !w.silent.IsZero() && w.silent.Before(at) {
		at = w.silent
	}
	w.b.alarms.Set(&w.Alarm, at)
}

// hand marks w as being handed to the transport; false if it has ended.
func (w *waiter) hand() bool {
	sh := w.b.waiters.of(w.m.ID)
	sh.Lock()
	defer sh.Unlock()
	if w.done {
		return false
	}
	w.handed = true
	return true
}

// sent is the transport's answer.
func (w *waiter) sent(err error) {
	switch {
	case err == nil && w.m.Wire.Kind != KindCall:
		w.finish(result{})
	case err == nil || w.m.Wire.Kind == KindCall && Unknown(err): // the reply may come all the same
	default:
		w.finish(result{err: err})
	}
}

// unrouted is the transport's late word that nobody received the call id.
func (s *waiters) unrouted(id string) {
	sh := s.of(id)
	sh.Lock()
	defer sh.Unlock()
	if w := sh.m[id]; w != nil && w.m.Wire.Kind == KindCall && !w.accepted {
		w.finishLocked(sh, result{err: noRoute(w.m.target())})
	}
}

// frame is a reply, an accepted or a beat for id from a node; false if nobody waits for it.
func (s *waiters) frame(b *Bus, m *Message) (known bool) {
	sh := s.of(m.ID)
	sh.Lock()
	defer sh.Unlock()
	w := sh.m[m.ID]
	if w == nil {
		return false
	}
	if w.m.Wire.Kind != KindCall || w.m.Node != "" && w.m.Node != m.Wire.From || w.accepted && (w.node != m.Wire.From || w.inc != m.Wire.Inc) {
		b.count.forged.Add(1)
		b.log.Warn("a reply from who was not asked", "from", m.Wire.From, "asked", w.m.target())
		return true
	}
	if m.Wire.Kind != KindReply {
		w.accepted, w.node, w.inc = true, m.Wire.From, m.Wire.Inc
		if w.monitor > 0 {
			w.silent = b.env.Clock.Now().Add(w.monitor)
			w.again()
		}
		return true
	}
	r := result{body: m.Body}
	if m.Wire.Err != "" {
		r = result{err: readError(m.Wire.Err)}
	} else if r.body == nil {
		r.body = []byte{}
	}
	w.finishLocked(sh, r)
	return true
}

// all are the waiters, in order of id.
func (s *waiters) all() (out []*waiter) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.Lock()
		for _, w := range sh.m {
			out = append(out, w)
		}
		sh.Unlock()
	}
	slices.SortFunc(out, func(a, b *waiter) int { return cmp.Compare(a.m.ID, b.m.ID) })
	return out
}

func (s *waiters) len() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.Lock()
		n += len(sh.m)
		sh.Unlock()
	}
	return n
}

// lost fails the calls that a node executes or was asked to; one that has not left yet is merely not sent.
func (b *Bus) lost(gone func(node string, inc int64) bool) {
	b.fail(func(w *waiter) error {
		node, inc := w.node, w.inc
		if node == "" {
			node, inc = w.m.Node, 0
		}
		switch {
		case node == "" || !gone(node, inc):
		case w.handed && w.m.Wire.Kind == KindCall:
			return &fault{kind: ErrNodeLost, text: node}
		case !w.handed && w.m.Wire.Kind != KindEvent:
			return noRoute(w.m.target() + ": " + node + " has left")
		}
		return nil
	})
}

// fail ends those waiters that why has an error for; it is asked in the critical section that decides.
func (b *Bus) fail(why func(w *waiter) error) {
	try := func(w *waiter, end bool) (hit bool) {
		sh := b.waiters.of(w.m.ID)
		sh.Lock()
		defer sh.Unlock()
		if w.done {
			return false
		}
		err := why(w)
		if err != nil && end {
			w.finishLocked(sh, result{err: err})
		}
		return err != nil
	}
	hit := slices.DeleteFunc(b.waiters.all(), func(w *waiter) bool { return !try(w, false) })
	apart(b, hit, (*waiter).name, func(w *waiter) { try(w, true) })
}
