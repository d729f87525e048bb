package drivertest

import (
	"errors"
	"time"

	"github.com/drover-cloud/drover/servicegroup"
)

func marks(r *rig) {
	d, able := r.d.(servicegroup.Marker)
	if !able {
		r.Skip("this driver keeps no marks")
	}
	m := r.join("n1", "i1")
	was := r.here(r.d, "n1")
	err := d.Mark(r.ctx(), testGroup, "n1", servicegroup.ForcedDown)
	if errors.Is(err, servicegroup.ErrUnsupported) {
		r.Skip("this driver keeps no marks")
	}
	r.ok(err)
	r.ok(d.Mark(r.ctx(), testGroup, "never", servicegroup.ForcedDown))
	marked := func(id string, mark servicegroup.Mark) func([]servicegroup.Member) bool {
		return func(all []servicegroup.Member) bool { m, ok := find(all, id); return ok && m.Mark == mark }
	}
	all := r.see(r.Open(r), "no mark", marked("n1", servicegroup.ForcedDown))
	if is, _ := find(all, "n1"); is.Beat != was.Beat || !is.Seen.Equal(was.Seen) {
		r.Fatalf("the mark touched the beat: %+v, was %+v", is, was)
	}
	all = r.see(r.d, "no mark of one that never joined", marked("never", servicegroup.ForcedDown))
	if m, _ := find(all, "never"); m.Incarnation != 0 {
		r.Fatalf("%+v", m)
	}
	r.ok(r.d.Beat(r.ctx(), m))
	r.join("n1", "i2")
	r.see(r.d, "mark lost by a join", marked("n1", servicegroup.ForcedDown))
	r.ok(d.Mark(r.ctx(), testGroup, "n1", ""))
	r.see(r.d, "mark stays", marked("n1", ""))
	r.ok(d.Mark(r.ctx(), testGroup, "never", ""))
	r.see(r.d, "phantom stays", func(all []servicegroup.Member) bool { return len(all) == 1 })
}

func forgets(r *rig) {
	d, able := r.d.(servicegroup.Forgetter)
	if !able {
		r.Skip("this driver forgets nobody")
	}
	empty := func(all []servicegroup.Member) bool { return len(all) == 0 }
	a := r.join("n1", "i1")
	r.ok(d.Forget(r.ctx(), testGroup, "n1", false))
	r.see(r.d, "still there", empty)
	r.is(r.d.Beat(r.ctx(), a), servicegroup.ErrGone)
	b := r.join("n1", "i1")
	if b.Incarnation <= a.Incarnation {
		r.Fatalf("incarnations %d, then %d", a.Incarnation, b.Incarnation)
	}
	if err := d.Forget(r.ctx(), testGroup, "n1", true); errors.Is(err, servicegroup.ErrUnsupported) {
		r.Log("this driver bans nobody")
		return
	} else {
		r.ok(err)
	}
	r.see(r.d, "still there", empty)
	r.is(r.d.Beat(r.ctx(), b), servicegroup.ErrFenced)
	_, err := r.Open(r).Join(r.ctx(), record("N1", "i2"))
	r.is(err, servicegroup.ErrFenced)
	r.ok(d.Forget(r.ctx(), testGroup, "n1", false))
	if c := r.join("n1", "i3"); c.Incarnation <= b.Incarnation {
		r.Fatalf("incarnations %d, then %d", b.Incarnation, c.Incarnation)
	}
	r.ok(d.Forget(r.ctx(), testGroup, "never", false))
}

func hintsCome(r *rig) {
	w, able := r.d.(servicegroup.Watcher)
	if !able {
		r.Skip("this driver gives no hints: watchers poll")
	}
	c, err := w.Watch(r.Context(), testGroup)
	if errors.Is(err, servicegroup.ErrUnsupported) {
		r.Skip("this driver gives no hints: watchers poll")
	}
	r.ok(err)
	hint := func(what string) {
		r.Helper()
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			r.Fatalf("no hint of %s", what)
		}
	}
	// the first one's subscription may be still under way
	other := r.Open(r)
	m, err := other.Join(r.ctx(), record("n1", "i1"))
	r.ok(err)
	for heard, end := false, time.Now().Add(10*time.Second); !heard; {
		select {
		case <-c:
			heard = true
		case <-time.After(500 * time.Millisecond):
			r.ok(other.Leave(r.ctx(), m))
			m, err = other.Join(r.ctx(), record("n1", "i1"))
			r.ok(err)
			if time.Now().After(end) {
				r.Fatal("no hint of a join")
			}
		}
	}
	r.here(r.d, "n1")
	r.ok(other.Leave(r.ctx(), m))
	hint("a leave")
}
