package bus

import (
	"bytes"
	"context"
	"runtime"
	"strconv"
	"time"

	"github.com/drover-cloud/drover/store"
)

func itoa(n int) string { return strconv.Itoa(n) }

// goroutine is the number of the calling goroutine: stop of a subscription has no other way to know that f calls it.
func goroutine() uint64 {
	var buf [40]byte
	b := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	b, _, _ = bytes.Cut(b, []byte(" "))
	n, _ := strconv.ParseUint(string(b), 10, 64)
	return n
}

// Waiting is a call or cast under way.
type Waiting struct {
	ID, Target, Method string
	Kind               string
	Since, Deadline    time.Time
	Sent               bool   // handed to the transport
	Node               string // that executes it, once known
}

// Waiting lists what is under way, in order of id.
func (b *Bus) Waiting() (out []Waiting) {
	for _, w := range b.waiters.all() {
		sh := b.waiters.of(w.m.ID)
		sh.Lock()
		out = append(out, Waiting{ID: w.m.ID, Target: w.m.target(), Method: w.m.Method, Kind: w.m.Wire.Kind.String(),
			Since: w.began, Deadline: w.deadline, Sent: w.handed, Node: w.node})
		sh.Unlock()
	}
	return out
}

const hintSubject = "drover.hint."

// hints are wake-ups carried as events.
type hints struct{ b *Bus }

// Hints is a store.Notifier over events drover.hint.<topic>: for sleepers on nodes that the store's own notifications do not
// reach. A topic that is no subject never wakes.
func Hints(b *Bus) store.Notifier { return hints{b} }

// Wake sleeps on topic.
func (h hints) Wake(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	if checkSubject(hintSubject+topic) != nil {
		return c, func() {}
	}
	return c, h.b.Subscribe(hintSubject+topic+"$", func(context.Context, Event) {
		select {
		case c <- struct{}{}:
		default:
		}
	})
}
