package tracker

import (
	"context"
	"slices"

	"github.com/drover-cloud/drover/internal/watchlock"
)

// watcher is one f of Watch; the lock guards it.
type watcher struct {
	f       func(Usage)
	pending map[string]Usage
	runs    bool // a goroutine is telling it
	stopped bool
}

// Watch calls f with the usage of a host whenever this node learns that it changed: each once, generations rising, one call at a
// time. What changes while f runs is told as it is then: a slow f misses steps, never the last, and delays nobody. After stop f
// is not called again; a call under way is not waited for.
func (t *Tracker) Watch(f func(Usage)) (stop func()) {
	w := &watcher{f: f, pending: map[string]Usage{}}
	t.locked("watch", func() { t.watchers = append(t.watchers, w) })
	return func() {
		t.locked("watch", func() {
			w.stopped = true
			t.watchers = slices.DeleteFunc(t.watchers, func(x *watcher) bool { return x == w })
		})
	}
}

// locked runs f under the lock, whatever ends meanwhile.
func (t *Tracker) locked(op string, f func()) {
	_ = t.lock.Do(context.Background(), watchlock.Holder{Op: op}, f)
}

// tell notes u for every watcher, under the lock; what it answers is to be started after it.
func (t *Tracker) tell(u Usage) (start []func()) {
	for _, w := range t.watchers {
		if w.pending[u.Host] = u; !w.runs {
			w.runs = true
			start = append(start, func() { t.deliver(w) })
		}
	}
	return start
}

// deliver calls a watcher until nothing is pending.
func (t *Tracker) deliver(w *watcher) {
	for more := true; more; {
		var u Usage
		t.locked("watch", func() {
			if more = len(w.pending) > 0 && !w.stopped; !more {
				w.runs = false
				return
			}
			host := sortedKeys(w.pending)[0]
			u = w.pending[host]
			delete(w.pending, host)
		})
		if more {
			w.f(u)
		}
	}
}
