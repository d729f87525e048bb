package servicegroup_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

func TestSpecMember(t *testing.T) {
	bubble(t, "servicegroup-05 grid", func(t *testing.T) {
		for _, c := range []struct{ interval, want time.Duration }{{0, 10 * time.Second}, {time.Second, time.Second}} {
			d := newFake()
			begin := time.Now()
			n := start(t, d, "n1", every(c.interval))
			if m := n.Self(); m.Incarnation != 1 || m.Joined.Sub(begin) > time.Millisecond {
				t.Fatalf("%+v", m)
			}
			advance(6*c.want + c.want/2)
			if len(d.beats) < 6 || d.beats[0].Sub(begin) > c.want {
				t.Fatalf("beats %v since %v", d.beats, begin)
			}
			for i := 1; i < len(d.beats); i++ {
				if gap := d.beats[i].Sub(d.beats[i-1]); gap != c.want {
					t.Errorf("beat %d after %v", i, gap)
				}
			}
			n.is(t, "n1", servicegroup.Up, servicegroup.Beat)
			if !n.View().Self {
				t.Fatal("not self")
			}
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
		}
	})
	bubble(t, "servicegroup-05 servicegroup-45 observe only", func(t *testing.T) {
		d := newFake()
		a := start(t, d, "n1")
		o := start(t, d, "watcher", observer)
		advance(20 * time.Second)
		o.is(t, "n1", servicegroup.Up, servicegroup.Beat)
		o.is(t, "watcher", servicegroup.Unknown, servicegroup.Never)
		a.is(t, "watcher", servicegroup.Unknown, servicegroup.Never)
		if v := o.View(); v.Self || len(v.Members()) != 1 || o.Self().Incarnation != 0 || d.count("join") != 1 {
			t.Fatalf("%+v", v)
		}
		if l, ok := o.View().Leader(); !ok || l.ID != "n1" {
			t.Fatalf("leader %+v", l)
		}
		if h := o.Health(); h.State != "ready" {
			t.Fatalf("%+v", h)
		}
	})
	bubble(t, "servicegroup-07 a beat is one write", func(t *testing.T) {
		d := newFake()
		n := start(t, d, "n1")
		for d.count("beat") < 9 {
			advance(time.Second)
		}
		read := func() servicegroup.Member {
			all, err := d.Driver.Members(t.Context(), "drover")
			if err != nil || len(all) != 1 {
				t.Fatal(err, all)
			}
			return all[0]
		}
		was := read()
		joins, leaves := d.count("join"), d.count("leave")
		advance(10 * time.Second)
		is := read()
		if was.Beat != 10 || is.Beat != 11 || d.count("beat") != 10 || d.count("join") != joins || d.count("leave") != leaves {
			t.Fatalf("beat %d to %d, calls %v", was.Beat, is.Beat, d.calls)
		}
		was.Beat, was.Seen, was.Age = is.Beat, is.Seen, is.Age
		if fmt.Sprint(was) != fmt.Sprint(is) || n.Self().Beat != 11 {
			t.Fatalf("%+v\n%+v", was, is)
		}
	})
	bubble(t, "servicegroup-08 beat errors", func(t *testing.T) {
		for name, f := range map[string]func(context.Context) error{
			"timeout": hang, "error": refuse, "panic": panics,
			"not found": func(context.Context) error { return fmt.Errorf("%w: n1 in drover", servicegroup.ErrGone) },
		} {
			d := newFake()
			n := start(t, d, "n1")
			advance(15 * time.Second)
			d.on("beat", f)
			advance(25 * time.Second)
			d.on("beat", nil)
			advance(15 * time.Second)
			log := n.log.String()
			if name == "not found" {
				if !strings.Contains(log, "own record is gone") || !strings.Contains(log, "group=drover") || !strings.Contains(log, "id=n1") {
					t.Errorf("%s: %s", name, log)
				}
			} else if n.log.count("msg=disconnected") != 1 || n.log.count("msg=recovered") != 1 || !strings.Contains(log, "outage=") {
				t.Errorf("%s: %s", name, log)
			}
			if n.Self().Incarnation < 1 || !n.View().Self {
				t.Errorf("%s: %+v", name, n.View())
			}
			if err := n.stop(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	bubble(t, "servicegroup-16 the driver panics three times", func(t *testing.T) {
		d := newFake()
		left := 3
		d.on("beat", func(ctx context.Context) error {
			if left--; left >= 0 {
				panic("driver bug")
			}
			return nil
		})
		n := start(t, d, "n1")
		advance(41 * time.Second)
		if len(d.beats) != 4 || d.beats[3].Sub(d.beats[2]) != 10*time.Second || n.Self().Beat != 2 {
			t.Fatalf("beats %v, %+v", d.beats, n.Self())
		}
	})
	bubble(t, "servicegroup-17 a beat that hangs", func(t *testing.T) {
		for _, c := range []struct{ interval, limit time.Duration }{{10 * time.Second, 9 * time.Second}, {3 * time.Second, 2400 * time.Millisecond}} {
			d := newFake()
			var took []time.Duration
			d.on("beat", func(ctx context.Context) error {
				begin := time.Now()
				<-ctx.Done()
				took = append(took, time.Since(begin))
				return ctx.Err()
			})
			n := start(t, d, "n1", every(c.interval))
			advance(4*c.interval + c.interval/2)
			for _, d := range took {
				if d != c.limit {
					t.Errorf("cancelled after %v", d)
				}
			}
			for i := 1; i < len(d.beats); i++ {
				if gap := d.beats[i].Sub(d.beats[i-1]); gap != c.interval {
					t.Errorf("next beat after %v", gap)
				}
			}
			if len(took) < 3 {
				t.Errorf("%d beats", len(took))
			}
			_ = n.stop()
		}
	})
	bubble(t, "servicegroup-18 own row deleted", func(t *testing.T) {
		d := newFake()
		n, o := start(t, d, "n1"), start(t, d, "n2")
		advance(15 * time.Second)
		if err := d.Forget(t.Context(), "drover", "n1", false); err != nil {
			t.Fatal(err)
		}
		advance(10 * time.Second)
		if m := n.Self(); m.Incarnation != 2 || n.told("gone n1") != 1 || n.log.count("own record is gone") != 1 {
			t.Fatalf("%+v\n%s\n%s", m, n.trace(), n.log)
		}
		o.is(t, "n1", servicegroup.Up, servicegroup.Beat)
		if o.told("down") != 0 {
			t.Fatal(o.trace())
		}
	})
	bubble(t, "servicegroup-20 a late beat after a takeover", func(t *testing.T) {
		d := newFake()
		a := start(t, d, "n1")
		advance(5 * time.Second)
		b := start(t, d, "n1")
		was, _ := d.Driver.Members(t.Context(), "drover")
		if err := d.Driver.Beat(t.Context(), a.Self()); !errors.Is(err, servicegroup.ErrFenced) {
			t.Fatal(err)
		}
		is, _ := d.Driver.Members(t.Context(), "drover")
		if is[0].Beat != was[0].Beat || !is[0].Seen.Equal(was[0].Seen) || is[0].Instance != b.Self().Instance {
			t.Fatalf("%+v, then %+v", was, is)
		}
		advance(10 * time.Second)
		<-a.done
		if !errors.Is(a.err, servicegroup.ErrFenced) || !drover.IsPermanent(a.err) || a.View().Self {
			t.Fatal(a.err)
		}
		b.is(t, "n1", servicegroup.Up, servicegroup.Beat)
	})
	bubble(t, "servicegroup-22 isolated and back", func(t *testing.T) {
		d := newFake()
		n, peer := start(t, d, "n1"), start(t, d, "n2")
		advance(30 * time.Second)
		last := lastBeat(t, d, "n1")
		d.on("beat", refuse)
		for n.View().Self {
			advance(time.Second)
		}
		if out := time.Since(last); out < 50*time.Second || out > 52*time.Second {
			t.Fatalf("self ended %v after the last beat", out)
		}
		if n.told("isolated") != 1 || n.Health().State != "failing" {
			t.Fatal(n.trace(), n.Health())
		}
		if _, leads := n.View().Leader(); leads && n.View().Self {
			t.Fatal("an isolated node leads")
		}
		inc := n.Self().Incarnation
		d.on("beat", nil)
		advance(11 * time.Second)
		if !n.View().Self || n.told("rejoined") != 1 || n.Self().Incarnation != inc || n.Health().State != "ready" {
			t.Fatal(n.trace(), n.Health())
		}
		if peer.told("restarted") != 0 {
			t.Fatal(peer.trace())
		}
	})
	bubble(t, "servicegroup-25 quick restart", func(t *testing.T) {
		d := newFake()
		n, o := start(t, d, "n1"), start(t, d, "n2")
		advance(25 * time.Second)
		d.on("leave", refuse) // a crash
		_ = n.stop()
		d.on("leave", nil)
		advance(2 * time.Second)
		start(t, d, "n1")
		advance(30 * time.Second)
		if o.told("restarted n1") != 1 || o.told("down n1") != 0 || o.told("unknown n1") != 0 || o.told("left n1") != 0 {
			t.Fatal(o.trace())
		}
		for _, v := range o.views {
			if m, ok := v.Member("n1"); ok && m.State != servicegroup.Up {
				t.Fatalf("%+v", m)
			}
		}
		var both servicegroup.Event
		for i := 1; i < len(o.views); i++ {
			for _, e := range servicegroup.Diff(o.views[i-1], o.views[i]) {
				if e.Kind == servicegroup.EventRestarted {
					both = e
				}
			}
		}
		if both.Old.Incarnation != 1 || both.Member.Incarnation != 2 {
			t.Fatalf("%+v", both)
		}
	})
	bubble(t, "servicegroup-62 record created once, version saved once", func(t *testing.T) {
		d := newFake()
		n := start(t, d, "n1", func(c *servicegroup.Config) { c.Version = "1" })
		advance(30 * time.Second)
		if d.count("join") != 1 {
			t.Fatalf("%d joins", d.count("join"))
		}
		_ = n.stop()
		a := start(t, d, "n1", func(c *servicegroup.Config) { c.Version = "2" })
		b := start(t, d, "n1", func(c *servicegroup.Config) { c.Version = "2" }) // a sibling races it
		advance(30 * time.Second)
		<-a.done
		all, err := d.Driver.Members(t.Context(), "drover")
		if err != nil || len(all) != 1 || all[0].Version != "2" || all[0].Instance != b.Self().Instance || d.count("join") != 3 {
			t.Fatalf("%v %+v, %d joins", err, all, d.count("join"))
		}
	})
}

func TestSpecSiblings(t *testing.T) {
	bubble(t, "servicegroup-19 siblings join together", func(t *testing.T) {
		for seed := range uint64(500) {
			d := newFake()
			r := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			d.on("join", func(context.Context) error {
				mu.Lock()
				wait := time.Duration(r.IntN(3)) * time.Millisecond
				mu.Unlock()
				time.Sleep(wait)
				return nil
			})
			set := func(c *servicegroup.Config) { c.Env.Rand = rand.NewPCG(seed, uint64(len(d.beats))) }
			nodes := []*node{start(t, d, "n1", set), start(t, d, "n1", set)}
			advance(5 * time.Millisecond)
			slices.SortFunc(nodes, func(a, b *node) int { return int(a.Self().Incarnation - b.Self().Incarnation) })
			if a, b := nodes[0].Self().Incarnation, nodes[1].Self().Incarnation; a != 1 || b != 2 {
				t.Fatalf("seed %d: incarnations %d and %d", seed, a, b)
			}
			advance(11 * time.Second)
			<-nodes[0].done
			if all, _ := d.Driver.Members(t.Context(), "drover"); len(all) != 1 || !errors.Is(nodes[0].err, servicegroup.ErrFenced) {
				t.Fatalf("seed %d: %v, %+v", seed, nodes[0].err, all)
			}
			if err := nodes[1].stop(); err != nil {
				t.Fatal(err)
			}
		}
	})
	bubble(t, "servicegroup-19 the fenced one is not restarted", func(t *testing.T) {
		d := newFake()
		var g drover.Group
		starts := 0
		g.Replicate("members", 1, func(int) drover.Component {
			starts++
			m, err := servicegroup.New(config(d, "n1"))
			if err != nil {
				t.Error(err)
			}
			return m
		}, drover.Restart(nil))
		done := make(chan error, 1)
		go func() { done <- g.Run(t.Context()) }()
		synctest.Wait()
		start(t, d, "n1")
		if err := <-done; !errors.Is(err, servicegroup.ErrFenced) || starts != 1 {
			t.Fatalf("%v after %d starts", err, starts)
		}
	})
}

func lastBeat(t testing.TB, d *fake, id string) time.Time {
	t.Helper()
	all, err := d.Driver.Members(t.Context(), "drover")
	for _, m := range all {
		if m.ID == id {
			return m.Seen
		}
	}
	t.Fatal(err, all)
	return time.Time{}
}
