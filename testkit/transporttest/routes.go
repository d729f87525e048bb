package transporttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/ring"
)

// members is a membership that tests change.
type members struct {
	mu    sync.Mutex
	view  bus.View
	watch map[int]func(bus.View)
	n     int
}

func newMembers(epoch int64, nodes ...string) *members {
	m := &members{watch: map[int]func(bus.View){}}
	m.view = viewOf(epoch, nodes...)
	return m
}

func viewOf(epoch int64, nodes ...string) bus.View {
	v := bus.View{Epoch: epoch, Ring: ring.New(nodes)}
	for _, n := range v.Ring.Members() {
		v.Up = append(v.Up, bus.Peer{Node: n})
	}
	return v
}

func (m *members) View() bus.View { m.mu.Lock(); defer m.mu.Unlock(); return m.view }

func (m *members) Watch(f func(bus.View)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	n := m.n
	m.watch[n] = f
	return func() { m.mu.Lock(); defer m.mu.Unlock(); delete(m.watch, n) }
}

func (m *members) set(v bus.View) {
	m.mu.Lock()
	m.view = v
	var fs []func(bus.View)
	for _, f := range m.watch {
		fs = append(fs, f)
	}
	m.mu.Unlock()
	for _, f := range fs {
		f(v)
	}
}

// keyOf finds a key that node owns.
func keyOf(v bus.View, node string) string {
	for i := 0; ; i++ {
		if o, _ := v.Ring.Owner(fmt.Sprint("k", i)); o == node {
			return fmt.Sprint("k", i)
		}
	}
}

// where answers the node that ran.
func where(name string) handler {
	return func(context.Context, *bus.Message) ([]byte, error) { return []byte(name), nil }
}

func (r *rig) member(name string, m *members, f handler) *node {
	r.Helper()
	return r.start(name, func(c *bus.Config) {
		if m != nil {
			c.Members = m
		}
	}, serving("svc", f))
}

var routes = []testCase{
	{name: "bus-16 the owner of a key", run: func(r *rig) {
		m := newMembers(1, "a", "b")
		a := r.member("a", m, where("a"))
		r.member("b", m, where("b"))
		for _, n := range []string{"a", "b"} {
			r.call(a, &bus.Message{Topic: "svc", Key: keyOf(m.View(), n)}, n)
		}
		m.set(viewOf(2))
		_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Key: "k"})
		r.is(err, bus.ErrNoRoute)
		c := r.start("c", nil)
		_, err = c.Call(context.Background(), &bus.Message{Topic: "svc", Key: "k"})
		r.is(err, bus.ErrInvalid)
	}},
	{name: "bus-23 a node is lost", run: func(r *rig) {
		m := newMembers(1, "a", "b")
		unknown := viewOf(2, "a", "b")
		unknown.Up = unknown.Up[:1] // b is in the ring, and nobody knows whether it is up
		a := r.member("a", m, where("a"))
		r.start("b", nil, serving("svc", silent), serving("any", silent))
		errs := make(chan error, 3)
		for _, x := range []*bus.Message{{Topic: "svc", Node: "b"}, {Topic: "svc", Key: keyOf(m.View(), "b")}, {Topic: "any"}} {
			go func() { errs <- errOf(a.Call(context.Background(), x, bus.Timeout(50*time.Second))) }()
		}
		time.Sleep(1300 * time.Millisecond) // until the third is known to be b's
		m.set(unknown)
		r.settle()
		if len(errs) != 0 {
			r.Fatalf("a member of which nobody knows fails calls: %v", <-errs)
		}
		began := time.Now()
		m.set(viewOf(3, "a"))
		for range 3 {
			err := <-errs
			if r.is(err, bus.ErrNodeLost); !bus.Unknown(err) {
				r.Error(err)
			}
		}
		if d := time.Since(began); d > 100*time.Millisecond && r.virtual {
			r.Errorf("after %v", d)
		}
		_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Node: "b"})
		r.is(err, bus.ErrNoRoute)
	}},
	{name: "bus-26 a node joins under keyed calls", run: func(r *rig) {
		m := newMembers(1, "a", "b")
		var runs tally
		f := func(name string) handler {
			return func(_ context.Context, x *bus.Message) ([]byte, error) {
				runs.add(string(x.Body))
				time.Sleep(2 * time.Millisecond)
				return []byte(name), nil
			}
		}
		a := r.member("a", m, f("a"))
		r.member("b", m, f("b"))
		r.member("c", m, f("c"))
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if _, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Key: fmt.Sprint("k", i), Body: []byte(fmt.Sprint(i))}); err != nil {
					r.Errorf("call %d: %v", i, err)
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		m.set(viewOf(2, "a", "b", "c"))
		wg.Wait()
		for i := range 100 {
			if n := runs.of(fmt.Sprint(i)); n != 1 {
				r.Errorf("call %d ran %d times", i, n)
			}
		}
		v := m.View()
		for i := range 20 {
			owner, _ := v.Ring.Owner(fmt.Sprint("k", i))
			r.call(a, &bus.Message{Topic: "svc", Key: fmt.Sprint("k", i), Body: []byte("again")}, owner)
		}
	}},
	{name: "bus-27 stale views", run: func(r *rig) {
		old, fresh := viewOf(4, "a", "b"), viewOf(5, "a", "b", "c")
		var key string // b's in the old view, c's in the new one
		for i := 0; key == ""; i++ {
			k := fmt.Sprint("k", i)
			was, _ := old.Ring.Owner(k)
			if is, _ := fresh.Ring.Owner(k); was == "b" && is == "c" {
				key = k
			}
		}
		sender, receivers := newMembers(4, "a", "b"), newMembers(5, "a", "b", "c")
		a := r.member("a", sender, where("a"))
		sender.view = viewOf(4, "a", "b")
		sender.view.Up = append(sender.view.Up, bus.Peer{Node: "c"})
		r.member("b", receivers, where("b"))
		r.member("c", receivers, where("c"))
		time.AfterFunc(100*time.Millisecond, func() { sender.set(fresh) })
		r.call(a, &bus.Message{Topic: "svc", Key: key}, "c")
		if n := a.Stats().Reroutes; n != 1 {
			r.Errorf("%d reroutes", n)
		}
		// Two that disagree for ever: two sends, then the error.
		left, right := newMembers(0, "d", "e"), newMembers(0, "d", "e")
		var sends atomic.Int32
		d := r.member("d", left, where("d"))
		split := newMembers(0, "f")
		r.start("e", func(c *bus.Config) { c.Members = split }, func(b *bus.Bus) {
			b.Serve("svc", endpoint(map[string]handler{"handle": func(context.Context, *bus.Message) ([]byte, error) {
				sends.Add(1)
				return nil, nil
			}}))
		})
		_, err := d.Call(context.Background(), &bus.Message{Topic: "svc", Key: keyOf(right.View(), "e")})
		r.is(err, bus.ErrNotOwner)
		if n := d.Stats().Reroutes; sends.Load() != 0 || n != 1 || !bus.NotRun(err) {
			r.Errorf("%d ran, %d sent again", sends.Load(), n)
		}
	}},
	{name: "bus-28 a node stops under load", run: func(r *rig) {
		a := r.start("a", nil)
		var nodes []*node
		for _, n := range []string{"b", "c", "d"} {
			nodes = append(nodes, r.start(n, nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
				time.Sleep(3 * time.Millisecond)
				return []byte(n), nil
			})))
		}
		var wg sync.WaitGroup
		for i := range 200 {
			if i == 100 {
				wg.Go(func() {
					if err := nodes[0].Stop(); err != nil {
						r.Error(err)
					}
				})
			}
			wg.Go(func() {
				if _, err := a.Call(context.Background(), msg("svc", ""), bus.Retry(quick), bus.Timeout(20*time.Second)); err != nil && !bus.NotRun(err) {
					r.Errorf("call %d: %v", i, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
	}},
	{name: "bus-64 an inbox of another life", run: func(r *rig) {
		release := make(chan struct{})
		first := r.start("a", func(c *bus.Config) { c.Incarnation = 1 })
		b := r.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			<-release
			return m.Body, nil
		}))
		go func() { _, _ = first.Call(context.Background(), msg("svc", "old"), bus.Timeout(20*time.Second)) }()
		r.eventually(5*time.Second, "the call runs", func() bool { return b.Stats().Running == 1 })
		go func() { _ = first.Stop() }()
		second := r.start("a2", func(c *bus.Config) { c.Incarnation = 2 })
		close(release)
		r.call(second, msg("svc", "new"), "new")
		if n := second.Stats().LateReplies; n != 0 {
			r.Errorf("%d replies of another life arrived", n)
		}
	}},
	{name: "bus-85 a node restarts", run: func(r *rig) {
		a := r.start("a", nil)
		first := r.start("b", func(c *bus.Config) { c.Incarnation = 1 }, serving("svc", where("first")))
		r.call(a, &bus.Message{Topic: "svc", Node: "b"}, "first")
		r.ok(first.Stop())
		r.start("b", func(c *bus.Config) { c.Incarnation = 2 }, serving("svc", where("second")))
		r.call(a, &bus.Message{Topic: "svc", Node: "b"}, "second", bus.Retry(quick))
		r.call(a, msg("svc", ""), "second", bus.Retry(quick))
	}},
	{name: "bus-88 names", run: func(r *rig) {
		long := make([]byte, 255)
		for i := range long {
			long[i] = 'x'
		}
		names := []string{"n.1", "n*", "n>", "n 1", "узел/é", string(long[:120])}
		m := newMembers(1, names...)
		var first *node
		for _, n := range names {
			x := r.member(n, m, where(n))
			if first == nil {
				first = x
			}
		}
		for _, n := range names {
			r.call(first, &bus.Message{Topic: "svc", Node: n}, n)
			r.call(first, &bus.Message{Topic: "svc", Key: keyOf(m.View(), n)}, n)
		}
		for _, k := range []string{"a.b", "*", ">", "a b", "ключ", string(long)} {
			owner, _ := m.View().Ring.Owner(k)
			r.call(first, &bus.Message{Topic: "svc", Key: k}, owner)
		}
		for _, bad := range []string{"a\nb", "\xff", string(long) + "x"} {
			_, err := first.Call(context.Background(), &bus.Message{Topic: "svc", Key: bad})
			if !errors.Is(err, bus.ErrInvalid) {
				r.Errorf("key %q: %v", bad, err)
			}
		}
	}},
}
