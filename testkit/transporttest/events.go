package transporttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover/bus"
)

// heard subscribes to pattern, and collects name and subject of what comes.
func heard(b *bus.Bus, into *list, name, pattern string, opts ...bus.CallOption) (stop func()) {
	return b.Subscribe(pattern, func(_ context.Context, e bus.Event) { into.add("%s:%s", name, e.Subject) }, opts...)
}

func (r *rig) publish(b *node, subjects ...string) {
	r.Helper()
	for _, s := range subjects {
		r.ok(b.Publish(context.Background(), nil, bus.Event{Subject: s}))
	}
}

// hears waits until into has these, in any order, and no more.
func (r *rig) hears(into *list, want ...string) {
	r.Helper()
	slices.Sort(want)
	r.eventually(3*time.Second, fmt.Sprint(want), func() bool { return len(into.all()) >= len(want) })
	r.settle()
	got := into.all()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		r.Fatalf("heard %v, want %v", got, want)
	}
	into.mu.Lock()
	into.s = nil
	into.mu.Unlock()
}

var eventCases = []testCase{
	{name: "bus-50 subjects", run: func(r *rig) {
		a, b := r.start("a", nil), r.start("b", nil)
		for _, n := range []*node{a, b} { // as publisher and as listener
			var got list
			heard(n.Bus, &got, "exact", "job.state$")
			heard(n.Bus, &got, "tree", "job.state")
			stop := heard(n.Bus, &got, "root", "")
			r.ok(n.Ready(context.Background()))
			r.publish(a, "job", "job.state", "job.state.vm", "vm.state", "job.statement")
			r.hears(&got, "exact:job.state", "tree:job.state", "tree:job.state.vm",
				"root:job", "root:job.state", "root:job.state.vm", "root:vm.state", "root:job.statement")
			stop()
			r.publish(a, "job.state")
			r.hears(&got, "exact:job.state", "tree:job.state")
		}
	}},
	{name: "bus-51 order and groups", run: func(r *rig) {
		a := r.start("a", nil)
		var got list
		heard(a.Bus, &got, "low", "x", bus.As("one"))
		heard(a.Bus, &got, "high", "x.y", bus.As("one"))
		heard(a.Bus, &got, "twin", "x.y", bus.As("one"))
		heard(a.Bus, &got, "else", "x", bus.As("two"))
		heard(a.Bus, &got, "free", "x.y")
		r.publish(a, "x.y", "x")
		r.hears(&got, "high:x.y", "else:x.y", "free:x.y", "low:x", "else:x")
	}},
	{name: "bus-52 patterns", run: func(r *rig) {
		a := r.start("a", nil)
		for _, c := range []struct{ pattern, subject, want string }{
			{"vm.{id}.state", "vm.42.state", "map[id:42]"},
			{"vm.{id}.{what}", "vm.42.state", "map[id:42 what:state]"},
			{"vm.*.state", "vm.42.state", "map[]"},
			{"vm.4?.state", "vm.42.state", "map[]"},
			{"vm.4?.state", "vm.52.state", ""},
			{"host-*.{x}", "host-7.up", "map[x:up]"},
			{"host-*.{x}", "guest-7.up", ""},
			{"{a}.x.{b}", "p.q.x.r", ""},
			{"{a}.x.{b}", "p.x.r", "map[a:p b:r]"},
			{"a.{x}.b*.?", "a.1.bcd.e", "map[x:1]"},
			{"a.{x}$", "a.1.b", ""},
		} {
			got := make(chan string, 1)
			stop := a.Subscribe(c.pattern, func(_ context.Context, e bus.Event) { got <- fmt.Sprint(e.Params) })
			r.publish(a, c.subject)
			r.settle()
			s := ""
			select {
			case s = <-got:
			default:
			}
			if s != c.want {
				r.Errorf("%s on %s: %q, want %q", c.pattern, c.subject, s, c.want)
			}
			stop()
		}
		for _, bad := range []string{"a..b", "{x", "a.{x}.{x}", "$", "a b", "{}"} {
			func() {
				defer func() {
					if recover() == nil {
						r.Errorf("pattern %q is taken", bad)
					}
				}()
				a.Subscribe(bad, func(context.Context, bus.Event) {})
			}()
		}
		for _, bad := range []string{"", "a..b", "a.*", "a b", "."} {
			r.is(a.Publish(context.Background(), nil, bus.Event{Subject: bad}), bus.ErrInvalid)
		}
	}},
	{name: "bus-53 stopping", run: func(r *rig) {
		a := r.start("a", nil)
		var got list
		var stop func()
		stop = a.Subscribe("s", func(_ context.Context, e bus.Event) {
			got.add("first")
			stop()
		})
		heard(a.Bus, &got, "all", "s")
		heard(a.Bus, &got, "once", "s", bus.Once())
		r.publish(a, "s", "s", "s")
		r.hears(&got, "first", "all:s", "all:s", "all:s", "once:s")
		heard(a.Bus, &got, "again", "s")
		r.publish(a, "s")
		r.hears(&got, "all:s", "again:s")
	}},
	{name: "bus-54 local only", run: func(r *rig) {
		a, b := r.start("a", nil), r.start("b", nil)
		var here, there list
		heard(a.Bus, &here, "a", "cfg")
		heard(b.Bus, &there, "b", "cfg")
		r.ok(a.Ready(context.Background()))
		r.ok(b.Ready(context.Background()))
		r.ok(a.Publish(context.Background(), nil, bus.Event{Subject: "cfg.mine"}, bus.LocalOnly()))
		r.publish(a, "cfg.ours")
		r.hears(&here, "a:cfg.mine", "a:cfg.ours")
		r.hears(&there, "b:cfg.ours")
	}},
	{name: "bus-55 fields", run: func(r *rig) {
		a, b := r.start("a", nil), r.start("b", nil)
		got := make(chan bus.Event, 1)
		b.Subscribe("vm", func(_ context.Context, e bus.Event) { got <- e })
		r.ok(b.Ready(context.Background()))
		before := time.Now().Add(-time.Millisecond)
		r.ok(a.Publish(context.Background(), nil, bus.Event{Subject: "vm.up", Data: []byte("d"), Order: "o"}))
		e := <-got
		if e.ID == "" || e.Subject != "vm.up" || e.Node != "a" || string(e.Data) != "d" || e.Order != "o" || e.Time.Before(before) || e.Time.After(time.Now()) || e.Missed != 0 {
			r.Errorf("%+v", e)
		}
	}},
	{name: "bus-56 inside a subscription", run: func(r *rig) {
		a := r.start("a", nil)
		var got list
		var stop func()
		stop = a.Subscribe("s$", func(ctx context.Context, _ bus.Event) {
			r.publish(a, "s.inner")
			heard(a.Bus, &got, "new", "s.inner")
			r.publish(a, "s.inner")
			stop()
			got.add("outer")
		})
		r.publish(a, "s")
		r.hears(&got, "outer", "new:s.inner")
	}},
	{name: "bus-57 a slow subscription", run: func(r *rig) {
		a := r.start("a", nil)
		hold := make(chan struct{})
		var missed, n int64
		done := make(chan struct{})
		a.Subscribe("a$", func(_ context.Context, e bus.Event) {
			<-hold
			n++
			missed += e.Missed
			if string(e.Data) == "last" {
				close(done)
			}
		})
		var other list
		heard(a.Bus, &other, "b", "b")
		for range 1500 {
			r.ok(a.Publish(context.Background(), nil, bus.Event{Subject: "a"}, bus.LocalOnly()))
		}
		r.publish(a, "b")
		r.hears(&other, "b:b")
		r.ok(a.Publish(context.Background(), nil, bus.Event{Subject: "a", Data: []byte("last")}, bus.LocalOnly()))
		close(hold)
		<-done
		if n+missed != 1501 || n < 1024 || a.Stats().Missed != missed {
			r.Errorf("%d came, %d missed, of 1501", n, missed)
		}
	}},
	{name: "bus-58 a subscription panics", run: func(r *rig) {
		a := r.start("a", nil)
		var got list
		a.Subscribe("s", func(_ context.Context, e bus.Event) {
			got.add("p")
			panic("once more")
		})
		heard(a.Bus, &got, "other", "s")
		r.publish(a, "s", "s")
		r.hears(&got, "p", "p", "other:s", "other:s")
	}},
	{name: "bus-59 subscribe, check, wait", run: func(r *rig) {
		a, b := r.start("a", nil), r.start("b", nil)
		rounds := 10_000
		if !r.virtual {
			rounds = 200
		}
		var mu sync.Mutex
		ready := -1
		wake := make(chan struct{}, 1)
		a.Subscribe("s", func(context.Context, bus.Event) {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		r.ok(a.Ready(context.Background()))
		next := make(chan int, 1)
		go func() {
			for i := range next {
				mu.Lock()
				ready = i
				mu.Unlock()
				_ = b.Publish(context.Background(), nil, bus.Event{Subject: "s"})
			}
		}()
		for i := range rounds {
			next <- i
			for {
				mu.Lock()
				ok := ready >= i
				mu.Unlock()
				if ok {
					break
				}
				select {
				case <-wake:
				case <-time.After(10 * time.Second):
					r.Fatalf("round %d: the event is lost", i)
				}
			}
		}
		close(next)
	}},
}
