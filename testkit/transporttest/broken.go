package transporttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
)

// broken needs a network that has a broker.
var broken = []testCase{
	{name: "bus-80 the broker dies under load", run: func(r *rig) {
		k, ok := r.net.(Breaker)
		if !ok {
			r.Skip("no broker")
		}
		var runs tally
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			if runs.add(string(m.Body)) > 1 {
				r.Errorf("%s ran twice", m.Body)
			}
			return m.Body, nil
		}))
		var wg sync.WaitGroup
		var good, late atomic.Int32
		stop := make(chan struct{})
		for w := range 20 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
					began := time.Now()
					_, err := a.Call(context.Background(), msg("svc", fmt.Sprint(w, " ", i)), bus.Timeout(3*time.Second))
					if time.Since(began) > 4*time.Second {
						late.Add(1)
					}
					if err == nil {
						good.Add(1)
					}
				}
			})
		}
		time.Sleep(time.Second)
		k.Kill(r)
		time.Sleep(awayFor())
		k.Restart(r)
		before := good.Load()
		r.eventually(15*time.Second, "service resumes", func() bool { return good.Load() > before+20 })
		close(stop)
		wg.Wait()
		if late.Load() > 0 {
			r.Errorf("%d calls ended late", late.Load())
		}
	}},
	{name: "bus-81 an audit meets a dead broker", run: func(r *rig) {
		k, ok := r.net.(Breaker)
		if !ok {
			r.Skip("no broker")
		}
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", echo))
		audit := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			return errOf(a.Call(ctx, msg("svc", "x")))
		}
		r.ok(audit())
		k.Kill(r)
		began := time.Now()
		if err := audit(); err == nil || time.Since(began) > 3*time.Second {
			r.Errorf("%v after %v", err, time.Since(began))
		}
		k.Restart(r)
		r.eventually(15*time.Second, "the next cycle succeeds", func() bool { return audit() == nil })
	}},
	{name: "bus-82 silence", run: func(r *rig) {
		h, ok := r.net.(Holer)
		if !ok {
			r.Skip("no way to swallow traffic")
		}
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", echo))
		r.call(a, msg("svc", "x"), "x")
		heal := h.BlackHole("a")
		began := time.Now()
		_, err := a.Call(context.Background(), msg("svc", "x"), bus.Timeout(2*time.Second))
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, bus.ErrNotSent) || time.Since(began) > 3*time.Second {
			r.Errorf("%v after %v", err, time.Since(began))
		}
		heal()
		r.eventually(30*time.Second, "calls succeed again", func() bool {
			_, err := a.Call(context.Background(), msg("svc", "x"), bus.Timeout(2*time.Second))
			return err == nil
		})
	}},
	{name: "bus-82 silence is noticed", run: noticed},
	{name: "bus-64 the caller's link is down for a while", run: func(r *rig) {
		h, ok := r.net.(Holer)
		if !ok {
			r.Skip("no way to swallow traffic")
		}
		release := make(chan struct{})
		a := r.start("a", nil)
		b := r.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			if string(m.Body) == "hold" {
				<-release
			}
			return m.Body, nil
		}))
		got := make(chan error, 1)
		go func() {
			body, err := a.Call(context.Background(), msg("svc", "hold"), bus.Timeout(60*time.Second))
			if err == nil && string(body) != "hold" {
				err = fmt.Errorf("%q", body)
			}
			got <- err
		}()
		r.eventually(5*time.Second, "it runs", func() bool { return b.Stats().Running == 1 })
		heal := h.BlackHole("a")
		time.Sleep(2 * time.Second)
		heal()
		r.eventually(30*time.Second, "the caller is back", func() bool {
			_, err := a.Call(context.Background(), msg("svc", "x"), bus.Timeout(2*time.Second))
			return err == nil
		})
		close(release)
		if err := <-got; err != nil {
			r.Errorf("the call that waited: %v", err)
		}
	}},
	{name: "bus-87 ten reconnects under load", run: reconnects},
	{name: "bus-86 away", run: func(r *rig) {
		k, ok := r.net.(Breaker)
		if !ok {
			r.Skip("no broker")
		}
		a := r.start("a", nil)
		k.Kill(r)
		r.settle()
		began := time.Now()
		err := a.Cast(context.Background(), msg("svc", "x"))
		if !bus.NotRun(err) && !errors.Is(err, bus.ErrNodeLost) || time.Since(began) > 2*time.Second {
			r.Errorf("%v after %v", err, time.Since(began))
		}
		k.Restart(r)
	}},
}

// noticed: a connection that swallows everything is given up within 30 s, and calls end on time until then.
func noticed(r *rig) {
	h, ok := r.net.(Holer)
	if !ok || os.Getenv("DROVER_LONG") == "" {
		r.Skip("takes half a minute: DROVER_LONG=1, on a network that can swallow traffic")
	}
	a := r.start("a", nil)
	r.start("b", nil, serving("svc", echo))
	r.call(a, msg("svc", "x"), "x")
	heal := h.BlackHole("a")
	defer heal()
	began := time.Now()
	for i := 0; ; i++ {
		asked := time.Now()
		// another topic has another lane, whose circuit is closed
		_, err := a.Call(context.Background(), msg(fmt.Sprint("other", i), "x"), bus.Timeout(1500*time.Millisecond))
		if d := time.Since(asked); err == nil || d > 2500*time.Millisecond {
			r.Fatalf("%v after %v", err, d)
		}
		if strings.Contains(err.Error(), "no connection") { // it waits for another one
			break
		}
		if time.Since(began) > 33*time.Second {
			r.Fatalf("not noticed within 30 s: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	heal()
	r.eventually(30*time.Second, "calls succeed again", func() bool {
		_, err := a.Call(context.Background(), msg("svc", "x"), bus.Timeout(2*time.Second))
		return err == nil
	})
}

// awayFor is how long a broker is dead.
func awayFor() time.Duration {
	if os.Getenv("DROVER_LONG") == "" {
		return 3 * time.Second
	}
	return 10 * time.Second
}

// counted counts what a transport delivers.
type counted struct {
	bus.Transport
	n atomic.Int64
}

func (c *counted) Receive(ctx context.Context, a bus.Address, h bus.Handler) error {
	return c.Transport.Receive(ctx, a, countedHandler{h, c})
}

// Run runs the transport.
func (c *counted) Run(ctx context.Context) error {
	if r, ok := c.Transport.(drover.Component); ok {
		return r.Run(ctx)
	}
	<-ctx.Done()
	return nil
}

type countedHandler struct {
	bus.Handler
	c *counted
}

func (h countedHandler) Standing() { bus.Standing(h.Handler) }

func (h countedHandler) Handle(ctx context.Context, m *bus.Message) error {
	h.c.n.Add(1)
	return h.Handler.Handle(ctx, m)
}

// reconnects: after ten reconnects under load there are as many goroutines as before, and each message is delivered once.
func reconnects(r *rig) {
	cut, ok := r.net.(Cutter)
	if !ok {
		r.Skip("connections cannot be cut")
	}
	a := r.start("a", nil)
	arrivals := &counted{}
	r.wrap = func(x bus.Transport) bus.Transport { arrivals.Transport = x; return arrivals }
	var fan, twice tally
	b := r.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
		if twice.add(string(m.Body)) > 1 {
			r.Errorf("%s ran twice", m.Body)
		}
		return m.Body, nil
	}), serving("fan", func(_ context.Context, m *bus.Message) ([]byte, error) {
		fan.add(string(m.Body))
		return nil, nil
	}))
	r.wrap = nil
	n := 0
	works := func() bool {
		n++
		_, err := a.Call(context.Background(), msg("svc", fmt.Sprint("works ", n)), bus.Timeout(2*time.Second))
		return err == nil
	}
	r.eventually(10*time.Second, "a first call", works)
	before := runtime.NumGoroutine()
	stop := r.flood(a, "svc", 8)
	for i := range 10 {
		cut.Cut([]string{"a", "b"}[i%2])
		r.eventually(20*time.Second, "calls after a cut", works)
	}
	if stop() == 0 {
		r.Error("there was no load")
	}
	r.eventually(20*time.Second, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before+8 })
	if s := a.Stats(); s.Waiters != 0 {
		r.Errorf("%+v", s)
	}
	seen := arrivals.n.Load()
	r.ok(a.Cast(context.Background(), &bus.Message{Topic: "fan", Fanout: true, Body: []byte("x")}))
	r.eventually(5*time.Second, "a fanout after the cuts", func() bool { return fan.of("x") == 1 })
	r.settle()
	if d := arrivals.n.Load() - seen; d != 1 {
		r.Errorf("delivered %d times: the place is consumed more than once", d)
	}
	var got list
	heard(b.Bus, &got, "b", "after")
	r.ok(b.Ready(context.Background()))
	r.publish(a, "after.cuts")
	r.hears(&got, "b:after.cuts")
}
