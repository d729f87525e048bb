package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/bus"
)

var calls = []testCase{
	{name: "bus-01 echo", run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", echo))
		r.call(a, msg("svc", "x"), "x")
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				got, err := a.Call(context.Background(), msg("svc", fmt.Sprint(i)))
				if err != nil || string(got) != fmt.Sprint(i) {
					r.Errorf("call %d: %q, %v", i, got, err)
				}
			})
		}
		wg.Wait()
	}},
	{name: "bus-03 falsy values", run: func(r *rig) {
		a := r.start("a", nil)
		b := r.start("b", nil)
		type any_ = any
		bus.Topic[any_, any_]{Name: "svc"}.Handle(b.Bus, func(_ context.Context, v any_) (any_, error) { return v, nil })
		r.ok(b.Ready(context.Background()))
		for _, v := range []any{nil, 0.0, false, "", []any{}, map[string]any{}} {
			got, err := bus.Topic[any_, any_]{Name: "svc"}.Call(context.Background(), a.Bus, "", v)
			if err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", v) {
				r.Errorf("%#v came back as %#v, %v", v, got, err)
			}
		}
		r.start("c", nil, serving("empty", func(context.Context, *bus.Message) ([]byte, error) { return nil, nil }))
		got, err := a.Call(context.Background(), msg("empty", ""))
		if err != nil || got == nil || len(got) != 0 {
			r.Errorf("nothing came back as %v, %v", got, err)
		}
	}},
	{name: "bus-10 casts", run: func(r *rig) {
		var got tally
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			got.add(string(m.Body))
			return nil, nil
		}))
		for i := range 20 {
			r.ok(a.Cast(context.Background(), msg("svc", fmt.Sprint(i))))
		}
		r.eventually(5*time.Second, "20 casts arrive once", func() bool { return got.total() >= 20 })
		r.settle()
		for i := range 20 {
			if n := got.of(fmt.Sprint(i)); n != 1 {
				r.Errorf("cast %d arrived %d times", i, n)
			}
		}
	}},
	{name: "bus-11 any one, fairly", run: anyOne},
	{name: "bus-11 all forms of address", run: matrix},
	{name: "bus-13 fanout", run: func(r *rig) {
		var got tally
		for _, n := range []string{"a", "b"} {
			r.start(n, nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
				got.add(n + string(m.Body))
				return nil, nil
			}))
		}
		c := r.start("c", nil)
		for _, body := range []string{"1", "2"} {
			r.ok(c.Cast(context.Background(), &bus.Message{Topic: "svc", Fanout: true, Body: []byte(body)}))
		}
		r.eventually(5*time.Second, "each node gets both", func() bool { return got.total() >= 4 })
		r.settle()
		if got.of("a1") != 1 || got.of("a2") != 1 || got.of("b1") != 1 || got.of("b2") != 1 {
			r.Errorf("got %v", got.n)
		}
		_, err := c.Call(context.Background(), &bus.Message{Topic: "svc", Fanout: true})
		r.is(err, bus.ErrInvalid)
		r.ok(c.Cast(context.Background(), &bus.Message{Topic: "nobody", Fanout: true}))
	}},
	{name: "bus-14 scatter with a silent one", run: func(r *rig) {
		a := r.start("a", func(c *bus.Config) { c.Timeout = 2 * time.Second })
		r.start("b", nil, serving("svc", func(ctx context.Context, m *bus.Message) ([]byte, error) {
			if string(m.Body) == "5" {
				return silent(ctx, m)
			}
			return m.Body, nil
		}))
		next := 0
		for i, rep := range a.Scatter(context.Background(), numbered(10), 0) {
			switch {
			case i != next:
				r.Fatalf("item %d after %d", i, next-1)
			case i == 5:
				r.is(rep.Err, bus.ErrTimeout, context.DeadlineExceeded)
			case rep.Err != nil || string(rep.Body) != fmt.Sprint(i):
				r.Errorf("item %d: %q, %v", i, rep.Body, rep.Err)
			}
			next++
		}
		if next != 10 {
			r.Errorf("%d replies", next)
		}
	}},
	{name: "bus-15 scatter windows", run: scatters},
	{name: "bus-46 nothing is shared", run: func(r *rig) {
		seen := make(chan string, 2)
		hold := make(chan struct{})
		f := func(_ context.Context, m *bus.Message) ([]byte, error) {
			<-hold
			seen <- string(m.Body) + m.Header["k"]
			return nil, nil
		}
		a := r.start("a", nil, serving("own", f))
		r.start("b", nil, serving("svc", f))
		for _, topic := range []string{"svc", "own"} {
			m := &bus.Message{Topic: topic, Body: []byte("old"), Header: map[string]string{"k": "v"}}
			if topic == "own" {
				m.Node = "a"
			}
			r.ok(a.Cast(context.Background(), m))
			copy(m.Body, "new")
			m.Header["k"] = "w"
		}
		close(hold)
		for range 2 {
			if got := <-seen; got != "oldv" {
				r.Errorf("the handler sees %q", got)
			}
		}
	}},
	{name: "bus-47 sizes", run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			if m.Header["grow"] != "" {
				return append(m.Body, 'x'), nil
			}
			return m.Body[:1], nil
		}))
		full := bytes.Repeat([]byte("x"), 512<<10)
		r.call(a, &bus.Message{Topic: "svc", Body: full}, "x")
		_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Body: append(full, 'x')})
		r.is(err, bus.ErrInvalid)
		_, err = a.Call(context.Background(), &bus.Message{Topic: "svc", Body: full, Header: map[string]string{"grow": "1"}})
		var remote *bus.RemoteError
		if !errors.As(err, &remote) || remote.Code != bus.CodeTooLarge {
			r.Errorf("a reply that is too large: %v", err)
		}
		_, err = a.Call(context.Background(), &bus.Message{Topic: "svc", Body: []byte("x"), Header: map[string]string{"k": strings.Repeat("x", 16<<10)}})
		r.is(err, bus.ErrInvalid)
	}},
	{name: "bus-30 one id twice", run: func(r *rig) {
		var n atomic.Int32
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			n.Add(1)
			return nil, nil
		}))
		for range 3 {
			r.ok(a.Cast(context.Background(), &bus.Message{ID: "same", Topic: "svc"}))
		}
		r.eventually(5*time.Second, "one run", func() bool { return n.Load() == 1 })
		r.settle()
		if n.Load() != 1 {
			r.Errorf("%d runs", n.Load())
		}
		_, err := a.Call(context.Background(), &bus.Message{ID: "same", Topic: "svc"}, bus.Timeout(time.Second))
		r.is(err, bus.ErrTimeout) // not answered, not refused
	}},
}

func numbered(n int) (ms []*bus.Message) {
	for i := range n {
		ms = append(ms, msg("svc", fmt.Sprint(i)))
	}
	return ms
}

func anyOne(r *rig) {
	var got tally
	for _, n := range []string{"a", "b"} {
		r.start(n, nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			got.add(n)
			if got.add("body "+string(m.Body)) > 1 {
				r.Errorf("%s twice", m.Body)
			}
			return nil, nil
		}), serving("other", func(context.Context, *bus.Message) ([]byte, error) {
			r.Error("leaked to another topic")
			return nil, nil
		}))
	}
	c := r.start("c", nil)
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := range 100 {
				if _, err := c.Call(context.Background(), msg("svc", fmt.Sprint(w, " ", i))); err != nil {
					r.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if a, b := got.of("a"), got.of("b"); a+b != 1000 || a < 400 || b < 400 {
		r.Errorf("a handled %d, b %d of 1000", a, b)
	}
	for _, node := range []string{"a", "b"} {
		before := got.of(node)
		if _, err := c.Call(context.Background(), &bus.Message{Topic: "svc", Node: node, Body: []byte("to " + node)}); err != nil {
			r.Error(err)
		}
		if got.of(node) != before+1 {
			r.Errorf("a call to %s went elsewhere", node)
		}
	}
}

func scatters(r *rig) {
	a := r.start("a", func(c *bus.Config) { c.Timeout = 2 * time.Second })
	var now, most atomic.Int32
	r.start("b", nil, serving("svc", func(ctx context.Context, m *bus.Message) ([]byte, error) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		if string(m.Body) == "silent" {
			return silent(ctx, m)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
		return m.Body, nil
	}))
	run := func(ms []*bus.Message, parallel int, window int32, failed ...int) {
		r.Helper()
		r.eventually(5*time.Second, "the handlers of the last run end", func() bool { return now.Load() == 0 })
		most.Store(0)
		next, told := 0, atomic.Int32{}
		for i, rep := range a.Scatter(context.Background(), ms, parallel, bus.OnReply(func(int, bus.Reply) {
			if told.Add(1) == 1 {
				panic("once")
			}
		})) {
			fails := len(failed) > 0 && (failed[0] < 0 || failed[0] == i)
			if i != next || fails != (rep.Err != nil) {
				r.Fatalf("item %d at %d: %v", i, next, rep.Err)
			}
			next++
		}
		if next != len(ms) || parallel >= 0 && int(told.Load()) != len(ms) || most.Load() > window {
			r.Errorf("%d of %d replies, %d told, window %d of %d", next, len(ms), told.Load(), most.Load(), window)
		}
	}
	run(numbered(30), 10, 10)
	ms := numbered(10)
	ms[3] = msg("svc", "silent")
	run(ms, 2, 2, 3)
	run(numbered(10), 50, 10)
	run(numbered(40), 0, 16)
	run(nil, 3, 0)
	run(numbered(3), -1, 0, -1)
	for i := range a.Scatter(context.Background(), numbered(100), 4) {
		if i == 2 {
			break
		}
	}
	r.eventually(5*time.Second, "what was broken off ends", func() bool { return now.Load() == 0 && a.Stats().Waiters == 0 })
}
