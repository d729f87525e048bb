package transporttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
)

func quick() backoff.BackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(5*time.Millisecond), backoff.WithMaxInterval(50*time.Millisecond))
}

var dispatches = []testCase{
	{name: "bus-32 endpoints", run: func(r *rig) {
		a := r.start("a", nil)
		// A topic per row: endpoints {namespace, legacy, version}, what is asked, and which answers: -1 version, -2 method.
		type ep struct {
			ns, legacy, version string
			method              string
		}
		rows := []struct {
			eps                 []ep
			ns, version, method string
			want                int
		}{
			{nil, "", "", "foo", -1},
			{[]ep{{"", "-", "", "foo"}}, "", "", "foo", 0},
			{[]ep{{"", "-", "", "foo"}}, "", "1.0", "foo", 0},
			{[]ep{{"", "-", "", "foo"}}, "", "", "bar", -2},
			{[]ep{{"", "-", "", "foo"}}, "", "", "_x", -2},
			{[]ep{{"", "-", "", "foo"}, {"t", "-", "", "foo"}}, "t", "", "foo", 1},
			{[]ep{{"", "-", "", "foo"}, {"t", "-", "", "foo"}}, "u", "", "foo", -1},
			{[]ep{{"", "-", "1.5", "foo"}, {"", "-", "3.4", "foo"}}, "", "3.2", "foo", 1},
			{[]ep{{"", "-", "1.5", "foo"}, {"", "-", "3.0", "foo"}}, "", "3.2", "foo", -1},
			{[]ep{{"t", "", "", "foo"}}, "", "", "foo", 0},
			{[]ep{{"t", "s", "", "foo"}}, "w", "", "foo", -1},
		}
		b := r.start("b", nil)
		for i, row := range rows {
			var eps []*bus.Endpoint
			for j, e := range row.eps {
				x := &bus.Endpoint{Namespace: e.ns, Version: e.version}
				if e.legacy != "-" {
					x.Legacy = []string{e.legacy, ""}
					if e.legacy == "" {
						x.Legacy = []string{""}
					}
				}
				bus.HandleFunc(x, e.method, func(context.Context, *bus.Message) ([]byte, error) { return []byte(fmt.Sprint(j)), nil })
				eps = append(eps, x)
			}
			b.Serve(fmt.Sprint("svc", i), eps...)
		}
		r.ok(b.Ready(context.Background()))
		for i, row := range rows {
			got, err := a.Call(context.Background(), &bus.Message{Topic: fmt.Sprint("svc", i), Namespace: row.ns, Version: row.version, Method: row.method})
			var d *bus.DispatchError
			switch {
			case row.want >= 0 && (err != nil || string(got) != fmt.Sprint(row.want)):
				r.Errorf("row %d: %q, %v", i, got, err)
			case row.want < 0 && (!errors.As(err, &d) || d.UnknownMethod != (row.want == -2) || !errors.Is(err, bus.ErrUnsupported)):
				r.Errorf("row %d: %q, %v", i, got, err)
			}
		}
		if p, err := bus.Ping(context.Background(), a.Bus, "svc1@b"); err != nil || p.Node != "b" || p.Incarnation != b.Incarnation() {
			r.Errorf("ping: %+v, %v", p, err)
		}
		got, err := a.Call(context.Background(), &bus.Message{Topic: "svc1", Namespace: "drover.base", Method: "describe"})
		if err != nil || string(got) != `[{"topic":"svc1","namespace":"","version":"1.0","methods":["foo"]}]` {
			r.Errorf("describe: %s, %v", got, err)
		}
	}},
	{name: "bus-34 caps", run: func(r *rig) {
		r.start("b", nil, func(b *bus.Bus) {
			b.Serve("svc", fill(&bus.Endpoint{Version: "1.9"}, map[string]handler{"handle": echo}), fill(&bus.Endpoint{Version: "2.0"}, map[string]handler{"handle": echo}))
		})
		for i, c := range []struct {
			limit, version string
			ok             bool
		}{{"", "1.1", true}, {"1.1", "1.0", true}, {"1.0", "1.1", false}, {"2.0", "1.0", false}, {"1.0", "", true}} {
			a := r.start(fmt.Sprint("a", i), func(cfg *bus.Config) {
				if c.limit != "" {
					cfg.Caps = map[string]string{"svc": c.limit}
				}
			})
			_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Version: c.version})
			cast := a.Cast(context.Background(), &bus.Message{Topic: "svc", Version: c.version})
			if (err == nil) != c.ok || (cast == nil) != c.ok || a.Can("svc", c.version) != c.ok || !c.ok && !errors.Is(err, bus.ErrUnsupported) {
				r.Errorf("%+v: call %v, cast %v", c, err, cast)
			}
		}
	}},
	{name: "bus-44 middleware", run: func(r *rig) {
		var order list
		around := func(name string) func(bus.Handler) bus.Handler {
			return func(next bus.Handler) bus.Handler {
				return bus.HandlerOf(func(ctx context.Context, m *bus.Message) error {
					order.add("%s", name)
					defer order.add("%s", name)
					return next.Handle(ctx, m)
				})
			}
		}
		before := func(name string) func(bus.Sender) bus.Sender {
			return func(next bus.Sender) bus.Sender {
				return bus.SenderOf(func(ctx context.Context, m *bus.Message) ([]byte, error) {
					order.add("%s", name)
					defer order.add("%s", name)
					if string(m.Body) == "mine" {
						return []byte("answered"), nil
					}
					return next.Send(ctx, m)
				})
			}
		}
		a := r.start("a", func(c *bus.Config) { c.Send = []func(bus.Sender) bus.Sender{before("A"), before("B")} })
		r.start("b", func(c *bus.Config) { c.Serve = []func(bus.Handler) bus.Handler{around("a"), around("b")} }, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			order.add("h")
			return m.Body, nil
		}))
		r.call(a, msg("svc", "x"), "x")
		r.call(a, msg("svc", "mine"), "answered")
		if got := order.String(); got != "A B a b h b a B A A A" {
			r.Errorf("order %s", got)
		}
	}},
	{name: "bus-45 trace and baggage", run: traced},
	{name: "bus-45 identity", run: func(r *rig) {
		type key struct{}
		identity := bus.Identity{
			Inject:  func(ctx context.Context) string { s, _ := ctx.Value(key{}).(string); return s },
			Extract: func(ctx context.Context, s string) context.Context { return context.WithValue(ctx, key{}, s) },
		}
		set := func(c *bus.Config) { c.Identity = identity }
		var b *node
		a := r.start("a", set)
		b = r.start("b", set, serving("svc", func(ctx context.Context, m *bus.Message) ([]byte, error) {
			if s, _ := ctx.Value(key{}).(string); s != string(m.Body) {
				r.Errorf("%q is seen as %q", m.Body, s)
			}
			return b.Call(ctx, msg("end", ""))
		}))
		r.start("c", set, serving("end", func(ctx context.Context, _ *bus.Message) ([]byte, error) {
			s, _ := ctx.Value(key{}).(string)
			p, _ := bus.PeerFrom(ctx)
			return []byte(s + " by " + p.Node), nil
		}))
		for _, who := range []string{"alice", "", "bob"} {
			got, err := a.Call(context.WithValue(context.Background(), key{}, who), msg("svc", who))
			if err != nil || string(got) != who+" by b" {
				r.Errorf("%s: %q, %v", who, got, err)
			}
		}
	}},
}

// traced: trace and baggage are seen in the handler and in what it calls, and are gone when the next call takes the same worker.
func traced(r *rig) {
	read := func(ctx context.Context) string {
		s := ""
		if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
			s = sc.TraceID().String()
		}
		return s + " " + baggage.FromContext(ctx).Member("tenant").Value()
	}
	one := func(c *bus.Config) { c.Workers = 1 }
	var b *node
	b = r.start("b", one, serving("svc", func(ctx context.Context, _ *bus.Message) ([]byte, error) {
		inner, err := b.Call(ctx, msg("end", ""))
		return []byte(read(ctx) + "|" + string(inner)), err
	}))
	r.start("c", one, serving("end", func(ctx context.Context, _ *bus.Message) ([]byte, error) { return []byte(read(ctx)), nil }))
	a := r.start("a", nil)
	m, err := baggage.NewMember("tenant", "t1")
	r.ok(err)
	bag, err := baggage.New(m)
	r.ok(err)
	id := trace.TraceID{1, 2, 3}
	with := trace.ContextWithSpanContext(baggage.ContextWithBaggage(context.Background(), bag),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{4}, TraceFlags: trace.FlagsSampled}))
	for i := range 4 {
		ctx, want := context.Background(), " | "
		if i%2 == 0 {
			ctx, want = with, id.String()+" t1|"+id.String()+" t1"
		}
		got, err := a.Call(ctx, msg("svc", ""))
		if err != nil || string(got) != want {
			r.Errorf("call %d: %q, %v; want %q", i, got, err, want)
		}
	}
}

var workers = []testCase{
	{name: "bus-39 starting and stopping", run: func(r *rig) {
		b := bus.New(r.net.Open(r, "x"), bus.Config{Env: drover.Env{Node: "x"}})
		r.ok(b.Drain(context.Background()))
		r.ok(b.Drain(context.Background()))
		if err := b.Run(context.Background()); !errors.Is(err, drover.ErrUsed) {
			r.Errorf("Run after Drain: %v", err)
		}
		_, err := b.Call(context.Background(), msg("svc", ""))
		r.is(err, bus.ErrNotSent)
		n := r.start("y", nil, serving("svc", echo))
		r.is(n.Run(context.Background()), drover.ErrRunning)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if i%2 == 0 {
					_ = n.Drain(context.Background())
				} else {
					_ = n.Stop()
				}
			})
		}
		wg.Wait()
		r.is(n.Cast(context.Background(), msg("svc", "")), bus.ErrNotSent)
		bad := bus.New(r.net.Open(r, "z"), bus.Config{Env: drover.Env{Node: "z"}, Timeout: -1})
		r.is(bad.Run(context.Background()), bus.ErrInvalid, drover.ErrConfig)
		r.is(bad.Cast(context.Background(), msg("svc", "")), bus.ErrInvalid)
	}},
	{name: "bus-40 calls in circles", run: func(r *rig) {
		var a, b *node
		f := func(self **node, other string) handler {
			return func(ctx context.Context, m *bus.Message) ([]byte, error) {
				if m.Body[0] == '0' {
					return m.Body, nil
				}
				return (*self).Call(ctx, &bus.Message{Topic: other, Body: []byte{m.Body[0] - 1}})
			}
		}
		a = r.start("a", nil, func(x *bus.Bus) {
			x.Serve("pa", endpoint(map[string]handler{"handle": f(&a, "pb")}))
			x.Serve("self", endpoint(map[string]handler{"handle": f(&a, "self")}))
		})
		b = r.start("b", nil, func(x *bus.Bus) { x.Serve("pb", endpoint(map[string]handler{"handle": f(&b, "pa")})) })
		var wg sync.WaitGroup
		for _, topic := range []string{"self", "pa"} {
			for range 64 {
				wg.Go(func() {
					if got, err := a.Call(context.Background(), msg(topic, "8"), bus.Timeout(30*time.Second)); err != nil || string(got) != "0" {
						r.Errorf("%s: %q, %v", topic, got, err)
					}
				})
			}
		}
		wg.Wait()
	}},
	{name: "bus-41 re-entry of a limited endpoint", run: func(r *rig) {
		var a *node
		a = r.start("a", nil, func(b *bus.Bus) {
			b.Serve("svc", fill(&bus.Endpoint{Limit: 1}, map[string]handler{"handle": func(ctx context.Context, m *bus.Message) ([]byte, error) {
				if string(m.Body) == "in" {
					return m.Body, nil
				}
				return a.Call(ctx, msg("svc", "in"))
			}}))
		})
		_, err := a.Call(context.Background(), msg("svc", "out"))
		if err == nil || !strings.Contains(err.Error(), "reentrant") {
			r.Errorf("%v", err)
		}
		r.call(a, msg("svc", "in"), "in")
	}},
	{name: "bus-42 a flood starves nobody", long: true, run: func(r *rig) {
		const work = 10 * time.Millisecond
		r.start("s", nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			time.Sleep(work)
			return nil, nil
		}))
		flood, other := r.start("flood", nil), r.start("other", nil)
		var wg sync.WaitGroup
		var ran, refused atomic.Int32
		for range 10_000 {
			wg.Go(func() {
				switch _, err := flood.Call(context.Background(), msg("svc", "")); {
				case err == nil:
					ran.Add(1)
				case errors.Is(err, bus.ErrBusy):
					refused.Add(1)
				default:
					r.Errorf("of the flood: %v", err)
				}
			})
		}
		time.Sleep(time.Millisecond)
		for range 10 {
			wg.Go(func() {
				began := time.Now()
				if _, err := other.Call(context.Background(), msg("svc", "")); err != nil {
					r.Error(err)
				}
				if d := time.Since(began); d > 3*work+10*time.Millisecond {
					r.Errorf("waited %v", d-work)
				}
			})
		}
		wg.Wait()
		if ran.Load() < 512 || ran.Load()+refused.Load() != 10_000 {
			r.Errorf("of the flood %d ran and %d were refused", ran.Load(), refused.Load())
		}
	}},
	{name: "bus-43 a full queue", run: func(r *rig) {
		release := make(chan struct{})
		var ran atomic.Int32
		a := r.start("a", nil)
		b := r.start("b", func(c *bus.Config) { c.Workers, c.Queue = 1, 8 }, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			<-release
			ran.Add(1)
			return nil, nil
		}))
		errs := make(chan error, 20)
		for range 9 {
			go func() { errs <- errOf(a.Call(context.Background(), msg("svc", ""), bus.Timeout(20*time.Second))) }()
		}
		r.eventually(5*time.Second, "one runs, eight wait", func() bool { s := b.Stats(); return s.Running == 1 && s.Queue == 8 })
		_, err := a.Call(context.Background(), msg("svc", ""))
		var busy *bus.BusyError
		if !errors.As(err, &busy) || busy.RetryAfter != time.Second || !bus.NotRun(err) {
			r.Errorf("the tenth: %v", err)
		}
		close(release)
		for range 9 {
			r.ok(<-errs)
		}
	}},
	{name: "bus-95 nothing is left", run: func(r *rig) {
		a := r.start("a", nil)
		b := r.start("b", nil, serving("svc", echo))
		n := 10_000
		if !r.virtual {
			n = 1000
		}
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range n / 16 {
					if _, err := a.Call(context.Background(), msg("svc", "x")); err != nil {
						r.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, x := range []*node{a, b} {
			r.ok(x.Drain(context.Background()))
			r.ok(x.Stop())
			if s := x.Stats(); s.Waiters != 0 || s.Queue != 0 || s.Running != 0 {
				r.Errorf("left: %+v", s)
			}
		} // a bubble does not end while a goroutine of it lives
	}},
}
