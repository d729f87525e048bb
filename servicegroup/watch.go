package servicegroup

import (
	"strconv"
	"sync"
)

const maxPending = 16 // views that wait for a slow watcher

// watchers of a Group. list and the fields of watcher are guarded by Group.mu.
type watchers struct {
	n      int
	list   []*watcher
	served sync.WaitGroup
}

type watcher struct {
	n       int
	f       func(old, new View)
	wake    chan struct{}
	last    *View
	pending []*View
	stopped bool
	ending  bool // after what is pending
}

// Watch calls f with every change, in order of View.Version, never concurrently, outside of all locks. The first call has the
// empty view as old, so that nobody who died earlier is missed; [Diff] makes events of the two. A slow f gets the last view
// it has seen and the newest, in place of what lies between. A panic of f is logged and hurts nobody else. During Run each
// watcher has a goroutine; without Run, Step calls f. stop may be called from f; a call under way is not waited for.
func (g *Group) Watch(f func(old, new View)) (stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched.n++
	w := &watcher{n: g.watched.n, f: f, wake: make(chan struct{}, 1), last: &View{critical: g.cfg.Critical}}
	g.watched.list = append(g.watched.list, w)
	if v := g.view.Load(); v.Version > 0 {
		w.offer(v)
	}
	if g.run == 1 {
		g.serve(w)
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if w.stopped {
			return
		}
		w.stopped, w.pending = true, nil
		var rest []*watcher
		for _, x := range g.watched.list {
			if x != w {
				rest = append(rest, x)
			}
		}
		g.watched.list = rest
		poke(w.wake)
	}
}

// serve starts the goroutine of w. The caller holds mu.
func (g *Group) serve(w *watcher) {
	g.watched.served.Add(1)
	g.env.Go(g.name+"/watch/"+strconv.Itoa(w.n), func() {
		defer g.watched.served.Done()
		for {
			ended := g.deliver(w)
			if ended {
				return
			}
			<-w.wake
		}
	})
}

// deliver calls w until nothing is pending, and tells whether nothing will be.
func (g *Group) deliver(w *watcher) (ended bool) {
	for {
		g.mu.Lock()
		if len(w.pending) == 0 {
			ended = w.stopped || w.ending
			g.mu.Unlock()
			return ended
		}
		from, to := w.last, w.pending[0]
		w.last, w.pending = to, w.pending[1:]
		g.mu.Unlock()
		if err := guard(func() error { w.f(*from, *to); return nil }); err != nil {
			g.log.Error("watcher panics", "watcher", w.n, "err", err)
		}
	}
}

// deliverAll is for a Group that does not run.
func (g *Group) deliverAll() {
	g.mu.Lock()
	list, running := g.watched.list, g.run == 1
	g.mu.Unlock()
	if running {
		return
	}
	for _, w := range list {
		g.deliver(w)
	}
}

// offer hands a new version to all. The caller holds mu.
func (k *watchers) offer(v *View) {
	for _, w := range k.list {
		w.offer(v)
	}
}

func (w *watcher) offer(v *View) {
	if len(w.pending) >= maxPending {
		w.pending = nil
	}
	w.pending = append(w.pending, v)
	poke(w.wake)
}
