package servicegroup_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/servicegroup"
)

var long = os.Getenv("DROVER_LONG") != ""

func TestSpecWatch(t *testing.T) {
	t.Run("servicegroup-10 a thousand readers", func(t *testing.T) {
		r := newReads(t, time.Minute)
		for i := range 100 {
			r.p.set(fmt.Sprintf("n%02d", i), 1, 0)
		}
		r.after(0)
		const calls = 200
		var wg sync.WaitGroup
		took := make([]time.Duration, 1000*calls)
		for i := range 1000 {
			wg.Go(func() {
				id := fmt.Sprintf("n%02d", i%100)
				for k := range calls {
					begin := time.Now()
					r.IsUp(id)
					took[i*calls+k] = time.Since(begin)
					if k%20 == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		for k := range int64(50) {
			for i := range 100 {
				r.p.set(fmt.Sprintf("n%02d", i), k+2, 0, func(m *servicegroup.Member) { m.Incarnation = k })
			}
			r.after(10 * time.Second)
		}
		wg.Wait()
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("median %v, p99 %v", took[len(took)/2], p99)
		if !raceEnabled && p99 > time.Microsecond {
			t.Errorf("p99 %v", p99)
		}
		if !raceEnabled && testing.AllocsPerRun(100, func() { r.IsUp("n01") }) != 0 {
			t.Error("IsUp allocates")
		}
	})
	bubble(t, "servicegroup-27 three watchers, one panics", func(t *testing.T) {
		d := newFake()
		o, a := start(t, d, "o"), start(t, d, "a")
		var got [3][]servicegroup.Member
		for i := range got {
			o.Watch(func(old, new servicegroup.View) {
				for _, e := range servicegroup.Diff(old, new) {
					if e.Kind == servicegroup.EventLeft {
						got[i] = append(got[i], e.Member)
					}
				}
				if i == 1 {
					panic("watcher bug")
				}
			})
		}
		_ = a.stop()
		advance(time.Second)
		for i, ms := range got {
			if len(ms) != 1 || ms[0].ID != "a" || ms[0].Addr != "a:7000" {
				t.Errorf("watcher %d: %+v", i, ms)
			}
		}
		if o.log.count("watcher panics") == 0 {
			t.Error(o.log)
		}
	})
	bubble(t, "servicegroup-28 what a callback may do", func(t *testing.T) {
		d := newFake()
		o := start(t, d, "o")
		calls := 0
		stops := make(chan func(), 1)
		stops <- o.Watch(func(old, new servicegroup.View) {
			calls++
			stop := <-stops
			o.View()
			o.State("o")
			o.Self()
			o.Health()
			o.Watch(func(_, _ servicegroup.View) {})
			if err := o.Leave(context.Background()); err != nil {
				t.Error(err)
			}
			stop()
		})
		synctest.Wait()
		start(t, d, "b")
		advance(30 * time.Second)
		if calls != 1 || d.count("leave") != 1 {
			t.Fatalf("%d calls, %d leaves", calls, d.count("leave"))
		}
		o.is(t, "o", servicegroup.Down, servicegroup.Left)
		if err := o.Leave(t.Context()); !errors.Is(err, servicegroup.ErrNotMember) {
			t.Fatal(err)
		}
	})
	t.Run("servicegroup-28 slow watcher", func(t *testing.T) {
		r := newReads(t, time.Minute)
		restarts, calls := 0, 0
		var last servicegroup.View
		gate := func() {}
		r.Watch(func(old, new servicegroup.View) {
			if old.Version != last.Version {
				t.Errorf("%d follows %d", old.Version, last.Version)
			}
			calls++
			last = new
			for _, e := range servicegroup.Diff(old, new) {
				if e.Kind == servicegroup.EventRestarted {
					restarts++
				}
			}
			gate()
		})
		r.p.set("a", 1, 0)
		r.after(0)
		gate = func() { // while this one is slow, 5000 changes happen
			gate = func() {}
			for i := range 5000 {
				r.p.set("a", 1, 0, func(m *servicegroup.Member) { m.Incarnation = 3; m.Version = fmt.Sprint(i) })
				if _, err := r.Members(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		r.p.set("a", 1, 0, func(m *servicegroup.Member) { m.Incarnation = 2 })
		r.after(time.Second)
		m, _ := last.Member("a")
		if restarts != 2 || m.Version != "4999" || calls > 100 || last.Version != r.View().Version {
			t.Fatalf("%d restarts, %d calls, %+v", restarts, calls, m)
		}
	})
	bubble(t, "servicegroup-29 health in the beat", func(t *testing.T) {
		d := newFake()
		var bad atomic.Bool
		critical := func(c *servicegroup.Config) { c.Critical = true }
		start(t, d, "sick", func(c *servicegroup.Config) {
			c.Health = func() drover.Health {
				if bad.Load() {
					return drover.Health{Name: "disk", State: "failing", Err: errors.New("full")}
				}
				return drover.Health{State: "ready"}
			}
		})
		o, tolerant := start(t, d, "o", critical), start(t, d, "p")
		advance(15 * time.Second)
		bad.Store(true)
		advance(20 * time.Second)
		o.is(t, "sick", servicegroup.Up, servicegroup.Stalled)
		if o.IsUp("sick") || o.View().IsUp("sick") || !tolerant.IsUp("sick") {
			t.Fatal("IsUp")
		}
		if l, _ := o.View().Leader(); l.ID == "sick" {
			t.Fatal("a stalled member leads")
		}
		all, err := tolerant.Members(t.Context())
		if err != nil || all[2].Health.State != "failing" || all[2].Health.Err.Error() != "full" {
			t.Fatal(err, all)
		}
		bad.Store(false)
		advance(20 * time.Second)
		o.is(t, "sick", servicegroup.Up, servicegroup.Beat)
	})
	bubble(t, "servicegroup-30 a blocked periodic task", func(t *testing.T) {
		d := newFake()
		set := &periodic.Set{}
		release := make(chan struct{})
		if err := set.Every(10*time.Second, "tick", func(ctx context.Context) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		}, periodic.Stale(0)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = set.Run(ctx); close(done) }()
		start(t, d, "busy", func(c *servicegroup.Config) { c.Health = set.Health })
		o := start(t, d, "o")
		state := func() string {
			all, err := o.Members(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all[0].Health.State
		}
		advance(15 * time.Second)
		if s := state(); s != "ready" {
			t.Fatal(s)
		}
		advance(50 * time.Second)
		if s := state(); s != "degraded" {
			t.Fatal(s)
		}
		close(release)
		cancel()
		<-done
	})
	t.Run("servicegroup-31 replay of events", func(t *testing.T) {
		seeds := 1000
		if testing.Short() {
			seeds = 100
		}
		for seed := range uint64(seeds) {
			replay(t, seed)
		}
	})
	bubble(t, "servicegroup-55 meta", func(t *testing.T) {
		d := newFake()
		a, o := start(t, d, "a", func(c *servicegroup.Config) { c.Meta = map[string]string{"zone": "z1"} }), start(t, d, "o")
		advance(15 * time.Second)
		if err := a.SetMeta(t.Context(), map[string]string{"zone": "z2", "rack": "r"}); err != nil {
			t.Fatal(err)
		}
		if err := a.SetMeta(t.Context(), map[string]string{"k": strings.Repeat("v", 5<<10)}); !errors.Is(err, servicegroup.ErrMeta) {
			t.Fatal(err)
		}
		advance(10 * time.Second)
		m, _ := o.View().Member("A")
		if m.Meta["zone"] != "z2" || m.Meta["rack"] != "r" || len(m.Meta) != 2 || o.told("changed a") == 0 {
			t.Fatal(m, o.trace())
		}
		if err := a.Announce(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		advance(10 * time.Second)
		if m, _ := o.View().Member("a"); m.Meta["draining"] != "true" || m.Meta["zone"] != "z2" || !o.IsUp("a") {
			t.Fatal(m)
		}
		if err := a.Announce(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		advance(10 * time.Second)
		if m, _ := o.View().Member("a"); len(m.Meta) != 2 {
			t.Fatal(m)
		}
	})
	bubble(t, "servicegroup-56 leader hint", func(t *testing.T) {
		d := newFake()
		var nodes []*node
		for _, id := range []string{"c", "a", "b"} {
			nodes = append(nodes, start(t, d, id))
			advance(2 * time.Second)
		}
		advance(15 * time.Second)
		leads := func(want string) {
			t.Helper()
			for _, n := range nodes {
				if l, ok := n.View().Leader(); !ok || l.ID != want {
					t.Fatalf("%s follows %q, want %q", n.Self().ID, l.ID, want)
				}
			}
		}
		leads("c")
		if err := nodes[1].Mark(t.Context(), "c", servicegroup.ForcedDown); err != nil {
			t.Fatal(err)
		}
		advance(11 * time.Second)
		leads("a")
		nodes[0].is(t, "c", servicegroup.Down, servicegroup.Forced)
		if nodes[1].told("leader-hint a") != 1 {
			t.Fatal(nodes[1].trace())
		}
		if err := nodes[1].Mark(t.Context(), "c", "sleepy"); !errors.Is(err, servicegroup.ErrConfig) {
			t.Fatal(err)
		}
	})
	bubble(t, "servicegroup-57 forget", func(t *testing.T) {
		d := newFake()
		a, o := start(t, d, "a"), start(t, d, "o")
		advance(5 * time.Second)
		if err := o.Forget(t.Context(), "a", false); !errors.Is(err, servicegroup.ErrTaken) {
			t.Fatal(err)
		}
		if err := o.Forget(t.Context(), "a", true); err != nil {
			t.Fatal(err)
		}
		advance(10 * time.Second)
		<-a.done
		if !errors.Is(a.err, servicegroup.ErrFenced) {
			t.Fatal(a.err)
		}
		b := start(t, d, "A")
		<-b.done
		if !errors.Is(b.err, servicegroup.ErrFenced) {
			t.Fatal(b.err)
		}
		if err := o.Forget(t.Context(), "a", false); err != nil {
			t.Fatal(err)
		}
		c := start(t, d, "a")
		advance(5 * time.Second)
		_ = c.stop()
		advance(time.Second)
		if err := o.Forget(t.Context(), "a", false); err != nil {
			t.Fatal(err)
		}
		o.is(t, "a", servicegroup.Unknown, servicegroup.Never)
		if _, ok := o.View().Member("a"); ok || o.told("gone a") == 0 {
			t.Fatal(o.trace())
		}
	})
}

// replay applies the events that a watcher was told to an empty group, and must end at the view.
func replay(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 31))
	r := newReads(t, time.Minute)
	have := map[string]servicegroup.Member{}
	frozen := false
	version := int64(0)
	r.Watch(func(old, new servicegroup.View) {
		if new.Version <= version {
			t.Fatalf("seed %d: version %d after %d", seed, new.Version, version)
		}
		version = new.Version
		for _, e := range servicegroup.Diff(old, new) {
			switch e.Kind {
			case servicegroup.EventMassDown, servicegroup.EventMassOver:
				frozen = e.Kind == servicegroup.EventMassDown
			case servicegroup.EventGone:
				delete(have, e.Old.ID)
			case servicegroup.EventLeaderHint, servicegroup.EventIsolated, servicegroup.EventRejoined:
			default:
				have[e.Member.ID] = e.Member
			}
		}
	})
	for range 40 {
		for range rnd.IntN(6) {
			id := fmt.Sprint("n", rnd.IntN(8))
			ages := []time.Duration{0, 0, 0, 30 * time.Second, 70 * time.Second, -2 * time.Minute, time.Hour, servicegroup.Forever}
			r.p.set(id, rnd.Int64N(5), ages[rnd.IntN(len(ages))], func(m *servicegroup.Member) {
				m.Incarnation = 1 + rnd.Int64N(3)
				switch rnd.IntN(12) {
				case 0:
					left(m)
				case 1:
					forced(m)
				case 2:
					maintenance(m)
				case 3:
					lapsed(m)
				case 4:
					m.Health.State = "failing"
				}
			})
		}
		if rnd.IntN(10) == 0 && len(r.p.all) > 0 {
			r.p.all = slices.Delete(r.p.all, 0, 1)
		}
		r.p.err = nil
		if rnd.IntN(6) == 0 {
			r.p.err = errDown
		}
		r.after(time.Duration(rnd.IntN(40)) * time.Second)
	}
	v := r.View()
	want := map[string]servicegroup.Member{}
	for _, m := range v.Members() {
		want[m.ID] = still(m)
	}
	for id, m := range have {
		have[id] = still(m)
	}
	if !reflect.DeepEqual(want, have) || frozen != v.Frozen {
		t.Fatalf("seed %d:\n%+v\n%+v", seed, want, have)
	}
}

// still is m without what each beat changes.
func still(m servicegroup.Member) servicegroup.Member {
	m.Beat, m.Seen, m.Age, m.Lapsed, m.Joined = 0, time.Time{}, 0, false, time.Time{}
	return m
}
