package bus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/ring"
)

// Members tells who is in the cluster.
type Members interface {
	// View answers from memory.
	View() View
	// Watch calls f with each change, in order, until stop.
	Watch(f func(View)) (stop func())
}

// View is an immutable picture of the cluster.
type View struct {
	// Epoch counts the membership's changes for the whole cluster; 0 where there is no such number.
	Epoch int64
	// Ring places keys on members, also on those of which nobody knows whether they are up.
	Ring *ring.Ring
	// Up are members that are up.
	Up []Peer
}

func (v View) up(node string) bool {
	return slices.ContainsFunc(v.Up, func(p Peer) bool { return p.Node == node })
}

// has reports whether node is up, or nobody knows that it is not.
func (v View) has(node string) bool {
	if v.up(node) {
		return true
	}
	_, found := slices.BinarySearch(v.Ring.Members(), node)
	return found
}

// Ringed makes Members of a membership without an epoch, such as package servicegroup's: the ring is of who is up and of who
// is unknown, never of who is down. peers answers from memory; watch calls changed after each change.
func Ringed(peers func() (up, unknown []Peer), watch func(changed func()) (stop func())) Members {
	return &ringed{peers: peers, changes: watch}
}

type ringed struct {
	peers   func() (up, unknown []Peer)
	changes func(changed func()) (stop func())
	last    atomic.Pointer[View]
}

func (r *ringed) View() View {
	up, unknown := r.peers()
	names := make([]string, 0, len(up)+len(unknown))
	for _, p := range slices.Concat(up, unknown) {
		names = append(names, p.Node)
	}
	slices.Sort(names)
	v := View{Ring: nil, Up: up}
	if last := r.last.Load(); last != nil && slices.Equal(last.Ring.Members(), slices.Compact(slices.Clone(names))) {
		v.Ring = last.Ring
	} else {
		v.Ring = ring.New(names)
	}
	r.last.Store(&v)
	return v
}

func (r *ringed) Watch(f func(View)) (stop func()) {
	return r.changes(func() { f(r.View()) })
}

// viewer holds the view of the moment.
type viewer struct {
	b    *Bus
	at   atomic.Pointer[View]
	mu   sync.Mutex
	news herd // who waits for another view
}

func (s *viewer) init(b *Bus) {
	s.b = b
	s.at.Store(&View{})
	if b.cfg.Members != nil {
		v := b.cfg.Members.View()
		s.at.Store(&v)
	}
}

// watch follows the membership until unwatch.
func (s *viewer) watch() (unwatch func()) {
	if s.b.cfg.Members == nil {
		return func() {}
	}
	stop := s.b.cfg.Members.Watch(s.changed)
	s.changed(s.b.cfg.Members.View())
	return stop
}

// now is the view of the moment; a reader uses one for a whole decision.
func (s *viewer) now() View { return *s.at.Load() }

// member reports whether messages to node make sense.
func (s *viewer) member(node string) bool {
	return s.b.cfg.Members == nil || node == s.b.node || s.now().has(node)
}

func (s *viewer) changed(v View) {
	s.mu.Lock()
	old := *s.at.Load()
	if v.Epoch != 0 && v.Epoch < old.Epoch {
		s.mu.Unlock()
		return
	}
	s.at.Store(&v)
	s.mu.Unlock()
	s.news.release(s.b)
	s.tell(old, v)
	s.b.lost(func(node string, inc int64) bool {
		if node == s.b.node {
			return false
		}
		if !v.has(node) {
			return old.has(node) || inc != 0
		}
		was, is := incarnation(old, node), incarnation(v, node)
		return is != 0 && (was != 0 && was != is || inc != 0 && inc != is)
	})
	s.b.held.changed(s.b, old, v)
}

// tell has an event of this process, ring.changed, where another ring than before places the keys.
func (s *viewer) tell(old, v View) {
	was, is := old.Ring.Fingerprint(), v.Ring.Fingerprint()
	if was == is {
		return
	}
	b := s.b
	b.log.Info("ring changed", "members", v.Ring.Len(), "old", fmt.Sprintf("%016x", was), "new", fmt.Sprintf("%016x", is))
	b.events.tell(Event{
		ID: b.env.NewID(), Subject: "ring.changed", Node: b.node, Time: b.env.Clock.Now(), Data: fmt.Appendf(nil, `{"old":"%016x","new":"%016x"}`, was, is),
	})
}

func incarnation(v View, node string) int64 {
	for _, p := range v.Up {
		if p.Node == node {
			return p.Incarnation
		}
	}
	return 0
}

const freshWithin = 500 * time.Millisecond

// fresh waits for a view that is good, at most 500 ms, and gives the one of the moment.
func (s *viewer) fresh(ctx context.Context, id string, good func(v View) bool) View {
	timer := s.b.env.Clock.After(freshWithin)
	for late := false; ; {
		w := s.news.join(id)
		if asked := s.b.cfg.Members.View(); good(asked) && !good(s.now()) {
			s.changed(asked)
		}
		v := s.now()
		if !late && !good(v) {
			select {
			case <-w.c:
			case <-timer:
				late = true
			case <-ctx.Done():
				late = true
			}
		}
		s.news.leave(w)
		if late || good(v) {
			return s.now()
		}
	}
}
