package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

// MembershipServer is what a driver under test talks to, so that the suite can break it; nil verbs are skipped by name.
type MembershipServer struct {
	Open func(t testing.TB) servicegroup.Driver // another driver on the same server, as of another node
	Down func(t testing.TB)                     // stops the server; calls fail or hang
	Back func(t testing.TB)
	// Hang makes the server swallow what it is sent, and say nothing. Back ends it.
	Hang func(t testing.TB)
	// Settle bounds how long a driver needs to see what another wrote, and to be itself again after Back. 0: at once.
	Settle time.Duration
}

// Membership checks what servicegroup.Driver promises. open gives a server with an empty group; each subtest opens one of its
// own. At the end of the run it prints which optional abilities were found, and skips cases for want of one by name.
func Membership(t *testing.T, open func(t testing.TB) MembershipServer) {
	for _, c := range []struct {
		name string
		f    func(r *rig)
	}{
		{"member-01 join beat leave", joinBeatLeave},
		{"member-02 a second incarnation fences the first", fences},
		{"member-03 the same instance joins twice", joinTwice},
		{"member-04 joins at once", joinRace},
		{"member-05 letter case does not count", letterCase},
		{"member-06 names", memberNames},
		{"member-07 meta and health", metaHealth},
		{"member-08 marks", marks},
		{"member-09 forget and ban", forgets},
		{"member-10 hints", hintsCome},
		{"member-11 groups are apart", groupsApart},
		{"member-12 ended context", endedContext},
		{"member-13 server away and back", serverAway},
		{"member-14 hung server", serverHangs},
		{"member-15 a thousand members", thousand},
		{"member-16 leave by an old incarnation", oldLeave},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			c.f(&rig{T: t, MembershipServer: s, d: s.Open(t)})
		})
	}
	s := open(t)
	d := s.Open(t)
	_, watcher := d.(servicegroup.Watcher)
	_, marker := d.(servicegroup.Marker)
	_, forgetter := d.(servicegroup.Forgetter)
	t.Logf("optional abilities: hints %v, marks %v, forget %v; server: down %v, hang %v", watcher, marker, forgetter, s.Down != nil, s.Hang != nil)
}

const testGroup = "g/1"

type rig struct {
	*testing.T
	MembershipServer
	d servicegroup.Driver
}

func (r *rig) ok(err error) { r.Helper(); ok(r, err) }

func (r *rig) is(err, want error) { r.Helper(); is(r, err, want) }

// ctx ends in time for a test that must not hang.
func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	r.Cleanup(cancel)
	return ctx
}

func record(id, instance string) servicegroup.Member {
	return servicegroup.Member{Group: testGroup, ID: id, Instance: instance, Addr: "127.0.0.1:1", Version: "1.2", Health: drover.Health{State: "ready"}}
}

func (r *rig) join(id, instance string) servicegroup.Member {
	r.Helper()
	for end := time.Now().Add(r.Settle); ; time.Sleep(20 * time.Millisecond) {
		m, err := r.d.Join(r.ctx(), record(id, instance))
		if err == nil || !errors.Is(err, servicegroup.ErrUnavailable) || time.Now().After(end) {
			r.ok(err)
			return m
		}
	}
}

// see waits until the group, as d sees it, is as want says.
func (r *rig) see(d servicegroup.Driver, what string, want func(all []servicegroup.Member) bool) []servicegroup.Member {
	r.Helper()
	for end := time.Now().Add(r.Settle); ; time.Sleep(20 * time.Millisecond) {
		all, err := d.Members(r.ctx(), testGroup)
		if err == nil && want(all) {
			return all
		}
		if time.Now().After(end) {
			r.Fatalf("%s: %v, %+v", what, err, all)
		}
	}
}

func find(all []servicegroup.Member, id string) (servicegroup.Member, bool) {
	i := slices.IndexFunc(all, func(m servicegroup.Member) bool { return m.ID == id })
	if i < 0 {
		return servicegroup.Member{}, false
	}
	return all[i], true
}

// present: the record speaks for a live member.
func present(m servicegroup.Member) bool {
	return m.Incarnation > 0 && m.Age < time.Minute && m.Age > -time.Minute && m.Reason != servicegroup.Left && !m.Lapsed
}

func (r *rig) here(d servicegroup.Driver, id string) servicegroup.Member {
	r.Helper()
	all := r.see(d, id+" is not here", func(all []servicegroup.Member) bool { m, ok := find(all, id); return ok && present(m) })
	m, _ := find(all, id)
	return m
}

func joinBeatLeave(r *rig) {
	other := r.Open(r)
	r.see(r.d, "an empty group", func(all []servicegroup.Member) bool { return len(all) == 0 })
	m := r.join("n1", "i1")
	if m.Incarnation < 1 || m.Beat > 1 || m.Joined.IsZero() || m.Instance != "i1" || m.Version != "1.2" {
		r.Fatalf("joined: %+v", m)
	}
	was := r.here(other, "n1")
	if was.Incarnation != m.Incarnation || was.Instance != "i1" || was.Addr != "127.0.0.1:1" || was.Version != "1.2" || was.Group != testGroup {
		r.Fatalf("seen: %+v", was)
	}
	r.ok(r.d.Beat(r.ctx(), m))
	r.ok(r.d.Beat(r.ctx(), m))
	if is := r.here(other, "n1"); m.Beat > 0 && is.Beat != was.Beat+2 || is.Incarnation != was.Incarnation || !is.Joined.Equal(was.Joined) {
		r.Fatalf("beat twice: %+v, then %+v", was, is)
	}
	r.ok(r.d.Leave(r.ctx(), m))
	r.see(other, "has not left", func(all []servicegroup.Member) bool {
		m, ok := find(all, "n1")
		return ok && m.State == servicegroup.Down && m.Reason == servicegroup.Left
	})
	r.is(r.d.Beat(r.ctx(), m), servicegroup.ErrGone)
	again := r.join("n1", "i2")
	if again.Incarnation <= m.Incarnation {
		r.Fatalf("incarnation %d after %d", again.Incarnation, m.Incarnation)
	}
	r.here(other, "n1")
}

func fences(r *rig) {
	other := r.Open(r)
	old := r.join("n1", "i1")
	m, err := other.Join(r.ctx(), record("n1", "i2"))
	r.ok(err)
	if m.Incarnation <= old.Incarnation {
		r.Fatalf("incarnations %d, then %d", old.Incarnation, m.Incarnation)
	}
	r.ok(other.Beat(r.ctx(), m))
	was := r.here(other, "n1")
	r.is(r.d.Beat(r.ctx(), old), servicegroup.ErrFenced)
	if is := r.here(other, "n1"); is.Incarnation != m.Incarnation || is.Instance != "i2" || is.Beat != was.Beat || !is.Seen.Equal(was.Seen) {
		r.Fatalf("after the old one's beat: %+v, was %+v", is, was)
	}
}

func joinTwice(r *rig) {
	a := r.join("n1", "i1")
	r.ok(r.d.Beat(r.ctx(), a))
	b := r.join("n1", "i1")
	if a.Incarnation != b.Incarnation {
		r.Fatalf("incarnations %d and %d", a.Incarnation, b.Incarnation)
	}
	r.ok(r.d.Beat(r.ctx(), b))
	if all, err := r.d.Members(r.ctx(), testGroup); err != nil || len(all) != 1 {
		r.Fatalf("%v %+v", err, all)
	}
}

func joinRace(r *rig) {
	const n = 8
	got := make([]servicegroup.Member, n)
	drivers := make([]servicegroup.Driver, n)
	for i := range n {
		drivers[i] = r.Open(r)
	}
	var wg sync.WaitGroup
	ctx := r.ctx()
	for i := range n {
		wg.Go(func() {
			var err error
			if got[i], err = drivers[i].Join(ctx, record("n1", fmt.Sprint("i", i))); err != nil {
				r.Error(err)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(got, func(a, b servicegroup.Member) int { return int(a.Incarnation - b.Incarnation) })
	for i := 1; i < n; i++ {
		if got[i].Incarnation <= got[i-1].Incarnation {
			r.Fatalf("one incarnation for two: %d", got[i].Incarnation)
		}
	}
	r.see(r.d, "not the last one's", func(all []servicegroup.Member) bool {
		m, _ := find(all, "n1")
		return len(all) == 1 && m.Incarnation == got[n-1].Incarnation
	})
}

func letterCase(r *rig) {
	old := r.join("Node-A", "i1")
	m := r.join("node-a", "i2")
	if m.Incarnation <= old.Incarnation {
		r.Fatalf("incarnations %d, then %d", old.Incarnation, m.Incarnation)
	}
	r.is(r.d.Beat(r.ctx(), old), servicegroup.ErrFenced)
	r.see(r.d, "two of one ID", func(all []servicegroup.Member) bool { return len(all) == 1 && all[0].ID == "node-a" })
}

func memberNames(r *rig) {
	names := []string{"with space", "a/b/c", strings.Repeat("x", 200), strings.Repeat("y", 300), "köln-☃", "a%20b", "a:b@c", "..", "new\nline", "'; DROP TABLE"}
	for _, id := range names {
		m := r.join(id, "i")
		r.ok(r.d.Beat(r.ctx(), m))
	}
	all := r.see(r.d, "not all", func(all []servicegroup.Member) bool { return len(all) == len(names) })
	for _, id := range names {
		if m, ok := find(all, id); !ok || !present(m) {
			r.Errorf("%q: %+v", id, m)
		}
	}
}

func metaHealth(r *rig) {
	other := r.Open(r)
	m := record("n1", "i1")
	m.Meta = map[string]string{"zone": "z1", "ü": "☃ \"'\n"}
	joined, err := r.d.Join(r.ctx(), m)
	r.ok(err)
	if got := r.here(other, "n1"); got.Meta["ü"] != m.Meta["ü"] || got.Meta["zone"] != "z1" || got.Health.State != "ready" {
		r.Fatalf("%+v", got)
	}
	joined.Meta = map[string]string{"zone": "z2"}
	joined.Health = drover.Health{Name: "disk", State: "failing", Err: errors.New("disk is full"), Since: time.Unix(1e9, 0).UTC()}
	r.ok(r.d.Beat(r.ctx(), joined))
	got := r.see(other, "not changed", func(all []servicegroup.Member) bool { m, _ := find(all, "n1"); return m.Meta["zone"] == "z2" })[0]
	if h := got.Health; len(got.Meta) != 1 || h.Name != "disk" || h.State != "failing" || h.Err == nil || h.Err.Error() != "disk is full" || !h.Since.Equal(time.Unix(1e9, 0)) {
		r.Fatalf("%+v", got)
	}
	if got.Version != "1.2" || got.Incarnation != joined.Incarnation {
		r.Fatalf("more has changed: %+v", got)
	}
}

func groupsApart(r *rig) {
	r.join("n1", "i1")
	m := record("n2", "i2")
	m.Group = "g"
	_, err := r.d.Join(r.ctx(), m)
	r.ok(err)
	for _, c := range []struct{ group, id string }{{testGroup, "n1"}, {"g", "n2"}} {
		all, err := r.d.Members(r.ctx(), c.group)
		if err != nil || len(all) != 1 || all[0].ID != c.id || all[0].Group != c.group {
			r.Errorf("%s: %v %+v", c.group, err, all)
		}
	}
}

func endedContext(r *rig) {
	m := r.join("n1", "i1")
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	_, join := r.d.Join(ctx, record("n2", "i2"))
	_, list := r.d.Members(ctx, testGroup)
	for op, err := range map[string]error{"join": join, "list": list, "beat": r.d.Beat(ctx, m), "leave": r.d.Leave(ctx, m)} {
		if err == nil {
			r.Errorf("%s: no error", op)
		}
	}
	r.here(r.d, "n1")
}

func thousand(r *rig) {
	const n = 1000
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += 8 {
				id := fmt.Sprintf("n%04d", i)
				if _, err := r.d.Join(ctx, record(id, "i"+id)); err != nil {
					r.Errorf("%s: %v", id, err)
					return
				}
			}
		})
	}
	wg.Wait()
	all := r.see(r.d, "not all", func(all []servicegroup.Member) bool { return len(all) == n })
	seen := map[string]bool{}
	for _, m := range all {
		seen[m.ID] = present(m)
	}
	for i := range n {
		if id := fmt.Sprintf("n%04d", i); !seen[id] {
			r.Fatalf("%s is missing", id)
		}
	}
}

func oldLeave(r *rig) {
	old := r.join("n1", "i1")
	m, err := r.Open(r).Join(r.ctx(), record("n1", "i2"))
	r.ok(err)
	r.ok(r.d.Leave(r.ctx(), old))
	if is := r.here(r.d, "n1"); is.Incarnation != m.Incarnation {
		r.Fatalf("%+v", is)
	}
}
