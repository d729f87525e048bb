package servicegroup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

// page is a driver whose records the test writes.
type page struct {
	servicegroup.Driver
	mu  sync.Mutex
	all []servicegroup.Member
	err error
	n   int
}

func (p *page) Members(context.Context, string) ([]servicegroup.Member, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	return append([]servicegroup.Member(nil), p.all...), p.err
}

// set replaces the record of an ID.
func (p *page) set(id string, beat int64, age time.Duration, f ...func(*servicegroup.Member)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := servicegroup.Member{ID: id, Incarnation: 1, Beat: beat, Age: age, Joined: time.Unix(1e9, 0)}
	for _, g := range f {
		g(&m)
	}
	for i := range p.all {
		if p.all[i].ID == id {
			p.all[i] = m
			return
		}
	}
	p.all = append(p.all, m)
}

func left(m *servicegroup.Member)        { m.State, m.Reason = servicegroup.Down, servicegroup.Left }
func forced(m *servicegroup.Member)      { m.Mark = servicegroup.ForcedDown }
func maintenance(m *servicegroup.Member) { m.Mark = servicegroup.MaintenanceMark }
func lapsed(m *servicegroup.Member)      { m.Lapsed, m.Age = true, servicegroup.Forever }

// reads is an observer that reads when the test says so, each Interval on its clock.
type reads struct {
	*servicegroup.Group
	t   testing.TB
	now time.Time
	p   *page
	ev  []string
}

func (r *reads) Now() time.Time                       { return r.now }
func (r *reads) After(time.Duration) <-chan time.Time { return nil }

func newReads(t testing.TB, down time.Duration, set ...func(*servicegroup.Config)) *reads {
	t.Helper()
	r := &reads{t: t, now: time.Unix(2e9, 0), p: &page{}}
	cfg := servicegroup.Config{Driver: r.p, ID: "me", Interval: -1, Down: down, Env: drover.Env{Clock: r, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	for _, f := range set {
		f(&cfg)
	}
	var err error
	if r.Group, err = servicegroup.New(cfg); err != nil {
		t.Fatal(err)
	}
	r.Watch(func(old, new servicegroup.View) {
		for _, e := range servicegroup.Diff(old, new) {
			r.ev = append(r.ev, strings.TrimSpace(string(e.Kind)+" "+e.Member.ID))
		}
	})
	return r
}

// after lets time pass, reads once at its end, and expects "id state reason" of each want.
func (r *reads) after(d time.Duration, want ...string) {
	r.t.Helper()
	r.now = r.now.Add(d)
	_, err := r.Members(r.t.Context())
	if _, e := r.Step(r.t.Context()); e != nil {
		r.t.Fatal(e)
	}
	if err != nil && r.p.err == nil {
		r.t.Fatal(err)
	}
	for _, w := range want {
		id, _, _ := strings.Cut(w, " ")
		if s, why := r.State(id); fmt.Sprint(id, " ", s, " ", why) != w {
			r.t.Fatalf("%s is %s %s, want %s; events %q", id, s, why, w, r.ev)
		}
	}
}

func (r *reads) told(what string) (n int) {
	for _, e := range r.ev {
		if strings.HasPrefix(e, what) {
			n++
		}
	}
	return n
}

func TestSpecRules(t *testing.T) {
	const s = time.Second
	t.Run("servicegroup-01 forced down", func(t *testing.T) {
		r := newReads(t, 60*s)
		r.p.set("a", 1, 0, forced)
		r.p.set("b", 1, 0)
		r.after(0, "a down forced", "b up beat")
		calls := r.p.n
		for range 10 {
			if st, why := r.State("a"); st != servicegroup.Down || why != servicegroup.Forced {
				t.Fatal(st, why)
			}
		}
		if r.p.n != calls {
			t.Fatalf("%d driver calls", r.p.n-calls)
		}
		r.p.err = errDown
		r.after(61*s, "a down forced", "b unknown driver-error")
		r.p.err = nil
		r.p.set("a", 2, 0)
		r.after(s, "a up beat")
	})
	t.Run("servicegroup-02 edges of age", func(t *testing.T) {
		r := newReads(t, 15*s, every(5*s), noBeats)
		r.p.set("zero", 1, 0)
		r.p.set("edge", 1, 15*s)
		r.p.set("never", 0, 0)
		r.after(0, "zero up beat", "edge up beat", "never up beat")
		r.p.set("edge", 1, 15*s+time.Millisecond)
		r.p.set("zero", 2, 0)
		for range 3 { // quiet must pass Down − Interval too
			r.after(5*s, "zero up beat")
		}
		r.after(5*s, "edge down late")
		r.p.set("edge", 1, 15*s+time.Millisecond, func(m *servicegroup.Member) { m.Version = "2" })
		r.after(5*s, "edge down late")
		r.p.set("edge", 1, s, maintenance)
		r.after(5*s, "edge down maintenance")
	})
	t.Run("servicegroup-03 stamps in the future", func(t *testing.T) {
		r := newReads(t, 15*s, every(5*s), noBeats)
		r.p.set("near", 1, -15*s)
		r.p.set("still", 1, -16*s)
		r.p.set("moves", 1, -16*s)
		r.after(0, "near up beat", "still up beat", "moves up beat")
		for i := range int64(4) {
			r.p.set("moves", 2+i, -16*s)
			r.after(5*s, "near up beat", "moves up beat")
		}
		r.after(0, "still down late", "moves up beat")
	})
	t.Run("servicegroup-09 an edit of a dead member", func(t *testing.T) {
		r := newReads(t, 60*s)
		r.p.set("a", 5, 700*s)
		r.after(0, "a down late")
		r.p.set("a", 5, 0, func(m *servicegroup.Member) { m.Meta = map[string]string{"x": "y"} })
		r.after(10*s, "a down late")
		r.p.set("a", 6, 0)
		r.after(10*s, "a up beat")
	})
	t.Run("servicegroup-12 the store's clock jumps", func(t *testing.T) {
		r := newReads(t, 60*s)
		beat := int64(0)
		tick := func(shift time.Duration, n int, silent time.Duration, want ...string) {
			for range n {
				beat++
				r.p.set("a", beat, shift)
				r.p.set("silent", 1, shift+silent)
				silent += 10 * s
				r.after(10*s, want...)
			}
		}
		tick(0, 3, 0, "a up beat", "silent up beat")
		r2 := r.now
		tick(time.Hour, 2, 30*s, "a up beat", "silent up beat") // a stamp of before the jump
		tick(0, 4, 50*s, "a up beat")
		r.after(0, "silent down late")
		_ = r2
		if r.told("down a") != 0 {
			t.Fatal(r.ev)
		}
		r = newReads(t, 60*s)
		tick(0, 2, 0, "a up beat", "silent up beat")
		tick(-time.Hour, 5, 20*s, "a up beat", "silent up beat")
		tick(-time.Hour, 2, 70*s, "a up beat")
		r.after(0, "silent down late")
	})
	t.Run("servicegroup-15 a partial read is none", func(t *testing.T) {
		r := newReads(t, 60*s)
		r.p.set("a", 1, 0)
		r.p.set("b", 1, 0)
		r.after(0, "a up beat", "b up beat")
		v := r.View()
		r.p.all, r.p.err = r.p.all[:1], errors.New("half the rows")
		r.after(10*s, "a up beat", "b up beat")
		if r.View().Version != v.Version {
			t.Fatal(r.ev)
		}
	})
	t.Run("servicegroup-21 an hour old and an hour ahead", func(t *testing.T) {
		r := newReads(t, 60*s)
		r.p.set("old", 1, time.Hour)
		r.p.set("ahead", 1, -time.Hour)
		r.after(0, "old down late", "ahead up beat")
		for range 6 {
			r.after(10 * s)
		}
		r.after(10*s, "ahead down late")
	})
	t.Run("servicegroup-26 dead before the watcher started", func(t *testing.T) {
		r := newReads(t, 60*s)
		r.p.set("gone", 3, 2*time.Hour)
		r.p.set("here", 3, 0)
		r.after(0)
		if r.told("down gone") != 1 || r.told("joined here") != 1 {
			t.Fatal(r.ev)
		}
		late := 0
		r.Watch(func(old, new servicegroup.View) {
			if old.Version != 0 || len(old.Members()) != 0 {
				t.Errorf("first call with %+v", old)
			}
			for _, e := range servicegroup.Diff(old, new) {
				if e.Kind == servicegroup.EventDown && e.Member.ID == "gone" {
					late++
				}
			}
		})
		r.after(s)
		if late != 1 {
			t.Fatalf("a later watcher was told %d times", late)
		}
	})
	t.Run("servicegroup-23 left, and then forgotten by the server", func(t *testing.T) {
		r := newReads(t, 60*s)
		for i := range 4 {
			r.p.set(fmt.Sprint(i), 1, 0)
		}
		r.after(0)
		for i := range 4 {
			r.p.set(fmt.Sprint(i), 1, 0, left)
		}
		r.after(10*s, "0 down left")
		for i := range 4 {
			r.p.set(fmt.Sprint(i), 0, servicegroup.Forever)
		}
		r.after(61*s, "0 down left")
		if r.View().Frozen || r.told("changed") != 0 {
			t.Fatal(r.ev)
		}
	})
	t.Run("servicegroup-36 lapsed members wait for others", func(t *testing.T) {
		r := newReads(t, 60*s)
		r.p.set("a", 0, 0)
		r.p.set("b", 0, 0)
		r.after(0, "a up beat")
		for range 10 {
			r.after(10*s, "a up beat", "b up beat")
		}
		r.p.set("a", 0, 0, lapsed)
		r.after(10*s, "a up beat")
		r.after(2*s, "a down late", "b up beat")
	})
}

// noBeats makes a member's Config one that only Members reads by hand.
func noBeats(c *servicegroup.Config) { c.Driver.(*page).Driver = newFake() }

func TestSpecMass(t *testing.T) {
	const s = time.Second
	crowd := func(r *reads, n int) {
		for i := range n {
			r.p.set(fmt.Sprintf("n%02d", i), 1, 0)
		}
		r.after(0)
	}
	// fall lets the members from..to be silent while the others beat, for n reads.
	fall := func(r *reads, total, from, n int, age time.Duration) {
		for k := range n {
			for i := range total {
				id := fmt.Sprintf("n%02d", i)
				if m, _ := r.View().Member(id); i < from {
					r.p.set(id, m.Beat+1, 0)
				} else {
					r.p.set(id, m.Beat, age+time.Duration(k+1)*10*s)
				}
			}
			r.after(10 * s)
		}
	}
	count := func(r *reads) string {
		v := r.View()
		return fmt.Sprintf("%d up %d down %d unknown frozen %v", len(v.Up), len(v.Down), len(v.Unknown), v.Frozen)
	}
	is := func(t *testing.T, r *reads, want string) {
		t.Helper()
		if got := count(r); got != want {
			t.Fatalf("%s, want %s; %q", got, want, r.ev)
		}
	}
	t.Run("servicegroup-32 more than half", func(t *testing.T) {
		for _, c := range []struct {
			total, silent int
			want          string
		}{
			{10, 6, "4 up 0 down 6 unknown frozen true"},
			{10, 5, "5 up 5 down 0 unknown frozen false"},
			{3, 2, "1 up 2 down 0 unknown frozen false"},
		} {
			r := newReads(t, 60*s)
			crowd(r, c.total)
			fall(r, c.total, c.total-c.silent, 7, 0)
			is(t, r, c.want)
			if r.View().Frozen && (r.told("mass-down") != 1 || r.told("down") != 0) {
				t.Fatal(r.ev)
			}
		}
	})
	t.Run("servicegroup-33 thaw", func(t *testing.T) {
		r := newReads(t, 60*s)
		crowd(r, 10)
		fall(r, 10, 4, 7, 0)
		fall(r, 10, 8, 1, 70*s) // four of six are back
		is(t, r, "8 up 0 down 2 unknown frozen true")
		fall(r, 10, 8, 1, 80*s)
		is(t, r, "8 up 2 down 0 unknown frozen false")
		if r.told("mass-over") != 1 {
			t.Fatal(r.ev)
		}
	})
	t.Run("servicegroup-33 confirmed", func(t *testing.T) {
		r := newReads(t, 60*s)
		crowd(r, 10)
		fall(r, 10, 4, 7, 0)
		if err := r.ConfirmDown(t.Context(), "n04", "n00"); !errors.Is(err, servicegroup.ErrTaken) {
			t.Fatal(err)
		}
		if err := r.ConfirmDown(t.Context(), "n99"); !errors.Is(err, servicegroup.ErrNotMember) {
			t.Fatal(err)
		}
		if err := r.ConfirmDown(t.Context(), "n04"); err != nil {
			t.Fatal(err)
		}
		is(t, r, "4 up 1 down 5 unknown frozen true")
		if err := r.ConfirmDown(t.Context(), "n04", "n05", "n06", "n07", "n08", "n09"); err != nil {
			t.Fatal(err)
		}
		is(t, r, "4 up 6 down 0 unknown frozen false")
	})
	t.Run("servicegroup-33 MassHold", func(t *testing.T) {
		r := newReads(t, 60*s, func(c *servicegroup.Config) { c.MassHold = 10 * time.Minute })
		crowd(r, 10)
		fall(r, 10, 4, 7, 0)
		fall(r, 10, 4, 59, 70*s)
		is(t, r, "4 up 0 down 6 unknown frozen true")
		fall(r, 10, 4, 1, 660*s)
		if got := count(r); !strings.HasPrefix(got, "4 up 6 down 0 unknown") {
			t.Fatal(got)
		}
	})
	t.Run("servicegroup-33 left and marked ones are not held", func(t *testing.T) {
		r := newReads(t, 60*s)
		crowd(r, 10)
		fall(r, 10, 4, 7, 0)
		r.p.set("n05", 1, 80*s, left)
		r.after(10*s, "n05 down left")
		for i := 4; i < 10; i++ {
			r.p.set(fmt.Sprintf("n%02d", i), 1, 90*s, maintenance)
		}
		r.after(10*s, "n06 down maintenance")
	})
	t.Run("servicegroup-32 switched off", func(t *testing.T) {
		r := newReads(t, 60*s, func(c *servicegroup.Config) { c.MassFraction = 1 })
		crowd(r, 10)
		fall(r, 10, 1, 7, 0)
		is(t, r, "1 up 9 down 0 unknown frozen false")
	})
}
