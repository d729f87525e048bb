package testkit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover/store"
)

// hints carry the store's hints to nodes, each to a node and topic as an event of its own. Guarded by World.mu.
type hints struct {
	topics    map[string]*topic
	sorted    []*topic // by name
	n         int      // events so far
	lose, dup float64
	delay     time.Duration
}

// topic is one subscription at the store, shared by all that sleep on it.
type topic struct {
	name  string
	inner <-chan struct{}
	stop  func()
	subs  []*sub // by life
}

type sub struct {
	life *life
	ch   chan struct{}
	at   time.Time
}

// notifier is a node's Notifier.
type notifier struct{ s *stores }

func (s *stores) Notifier() store.Notifier { return notifier{s} }

func (n notifier) Wake(name string) (<-chan struct{}, func()) {
	w := n.s.life.node.w
	x := &sub{life: n.s.life, ch: make(chan struct{}, 1), at: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &w.hints
	t := h.topics[name]
	if t == nil {
		t = &topic{name: name}
		t.inner, t.stop = w.db.Notifier().Wake(name)
		h.topics[name] = t
		i, _ := slices.BinarySearchFunc(h.sorted, name, byName)
		h.sorted = slices.Insert(h.sorted, i, t)
	}
	t.subs = append(t.subs, x)
	var once sync.Once
	return x.ch, func() { once.Do(func() { w.unsubscribe(t, x) }) }
}

func byName(t *topic, name string) int { return strings.Compare(t.name, name) }

func (w *World) unsubscribe(t *topic, x *sub) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.subs = slices.DeleteFunc(t.subs, func(y *sub) bool { return x == y })
	if len(t.subs) == 0 && w.hints.topics[t.name] == t {
		t.stop()
		delete(w.hints.topics, t.name)
		w.hints.sorted = slices.DeleteFunc(w.hints.sorted, func(u *topic) bool { return t == u })
	}
}

// Hints sets what becomes of hints from now on: lost with probability lose, repeated with probability dup, and late by up
// to delay. At first none of it.
func (w *World) Hints(lose, dup float64, delay time.Duration) {
	w.use("World.Hints")
	if !(lose >= 0 && lose <= 1 && dup >= 0 && dup <= 1) || delay < 0 {
		w.T.Fatalf("testkit: World.Hints(%v, %v, %v): want probabilities in 0…1 and a delay of at least 0", lose, dup, delay)
	}
	w.mu.Lock()
	w.hints.lose, w.hints.dup, w.hints.delay = lose, dup, delay
	w.mu.Unlock()
	w.act("hints", fmt.Sprintf("hints lose=%v dup=%v delay=%v", lose, dup, delay))
}

// deliver turns what a transaction of l hinted into events, one per topic and life, in order.
func (w *World) deliver(l *life, committed bool) {
	if !committed {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.hints.sorted {
		select {
		case <-t.inner:
		default:
			continue
		}
		for _, to := range t.lives() {
			w.hint(to, t)
		}
	}
}

// lives are those that sleep on t, in order of name.
func (t *topic) lives() []*life {
	var ls []*life
	for _, x := range t.subs {
		if !slices.Contains(ls, x.life) {
			ls = append(ls, x.life)
		}
	}
	slices.SortFunc(ls, func(a, b *life) int { return cmp.Compare(a.p.Name, b.p.Name) })
	return ls
}

// hint posts the events of one hint to a life. The caller holds w.mu.
func (w *World) hint(l *life, t *topic) {
	h := &w.hints
	if h.lose > 0 && w.s.Faults.Float64() < h.lose {
		w.faults["hint lost"]++
		return
	}
	times := 1
	if h.dup > 0 && w.s.Faults.Float64() < h.dup {
		w.faults["hint repeated"]++
		times = 2
	}
	for range times {
		var wait time.Duration
		if h.delay > 0 {
			w.faults["hint late"]++
			wait = time.Duration(w.s.Delays.Int64N(int64(h.delay) + 1))
		}
		h.n++
		l.p.Post("hint", opHint, t.name, h.n, wait, func() { w.wake(l, t.name) })
	}
}

// wake is a hint's arrival.
func (w *World) wake(l *life, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.hints.topics[name]
	if t == nil || l.node.cut.any() {
		return
	}
	for _, x := range t.subs {
		if x.life == l {
			select {
			case x.ch <- struct{}{}:
			default:
			}
		}
	}
}
