package transporttest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/bus"
)

var deadlines = []testCase{
	{name: "bus-06 a silent handler", long: true, run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", silent))
		began := time.Now()
		_, err := a.Call(context.Background(), msg("svc", ""))
		r.is(err, bus.ErrTimeout, context.DeadlineExceeded)
		if d := time.Since(began); d != 60*time.Second || !bus.Unknown(err) {
			r.Errorf("after %v: %v", d, err)
		}
	}},
	{name: "bus-07 which timeout counts", long: true, run: func(r *rig) {
		r.start("b", nil, serving("svc", silent))
		took := func(cfg, ctx time.Duration, opts ...bus.CallOption) time.Duration {
			r.Helper()
			c := r.start("c"+cfg.String()+ctx.String()+time.Now().String()[:25], func(c *bus.Config) { c.Timeout = cfg })
			call := context.Background()
			if ctx > 0 {
				var cancel context.CancelFunc
				call, cancel = context.WithTimeout(call, ctx)
				defer cancel()
			}
			began := time.Now()
			if _, err := c.Call(call, msg("svc", ""), opts...); !errors.Is(err, context.DeadlineExceeded) {
				r.Error(err)
			}
			return time.Since(began)
		}
		for _, c := range []struct{ got, want time.Duration }{
			{took(0, 0), 60 * time.Second},
			{took(21*time.Second, 0), 21 * time.Second},
			{took(21*time.Second, 0, bus.Timeout(21100*time.Millisecond)), 21100 * time.Millisecond},
			{took(0, 0, bus.Timeout(0)), 0},
			{took(0, 5*time.Second, bus.Timeout(30*time.Second)), 5 * time.Second},
			{took(0, 0, bus.Timeout(60*time.Second), bus.Monitor(10*time.Second)), 60 * time.Second},
		} {
			if c.got != c.want {
				r.Errorf("ended after %v, want %v", c.got, c.want)
			}
		}
	}},
	{name: "bus-08 no time left", run: func(r *rig) {
		var got tally
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			got.add("ran")
			return nil, nil
		}))
		past, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		for _, err := range []error{
			errOf(a.Call(past, msg("svc", ""))), a.Cast(past, msg("svc", "")),
			errOf(a.Call(context.Background(), msg("svc", ""), bus.Timeout(time.Millisecond))),
			a.Cast(context.Background(), msg("svc", ""), bus.Timeout(time.Millisecond)),
			errOf(a.Call(context.Background(), msg("svc", ""), bus.Timeout(-time.Second))),
		} {
			r.is(err, bus.ErrNotSent, context.DeadlineExceeded)
			if !bus.NotRun(err) {
				r.Error("it may have run")
			}
		}
		r.settle()
		if got.total() != 0 {
			r.Error("something was sent")
		}
	}},
	{name: "bus-19 the caller leaves", run: func(r *rig) {
		ended := make(chan error, 8)
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(ctx context.Context, m *bus.Message) ([]byte, error) {
			if string(m.Body) == "other" {
				time.Sleep(1500 * time.Millisecond)
				return m.Body, nil
			}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil, nil
		}))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := a.Call(context.Background(), msg("svc", "other")); err != nil {
				r.Errorf("another call: %v", err)
			}
		})
		for _, node := range []string{"b", ""} { // known at once who executes it, or when that says so
			ctx, cancel := context.WithCancel(context.Background())
			began := time.Now()
			time.AfterFunc(200*time.Millisecond, cancel)
			_, err := a.Call(ctx, &bus.Message{Topic: "svc", Node: node})
			if r.is(err, context.Canceled); !bus.Unknown(err) || bus.NotRun(err) {
				r.Errorf("%v", err)
			}
			if cause := <-ended; !errors.Is(cause, bus.ErrCancelled) {
				r.Errorf("the handler's ctx ended with %v", cause)
			}
			if d := time.Since(began); d > 1700*time.Millisecond {
				r.Errorf("the handler ended after %v", d)
			}
		}
		wg.Wait()
	}},
	{name: "bus-20 unrelated replies move no deadline", long: true, run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", func(c *bus.Config) { c.Workers, c.Queue = 2048, 2048 }, serving("svc", silent))
		r.start("c", nil, serving("other", echo))
		stop := make(chan struct{})
		chatter := make(chan struct{})
		go func() {
			defer close(chatter)
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Second):
					if _, err := a.Call(context.Background(), msg("other", "x")); err != nil {
						r.Error(err)
					}
				}
			}
		}()
		for _, n := range []int{1, 1000} {
			began := time.Now()
			var wg sync.WaitGroup
			var late atomic.Int32
			for range n {
				wg.Go(func() {
					_, err := a.Call(context.Background(), msg("svc", ""))
					if !errors.Is(err, bus.ErrTimeout) || time.Since(began) != 60*time.Second {
						late.Add(1)
					}
				})
			}
			wg.Wait()
			r.settle() // the chatter of the same instant
			if late.Load() != 0 || a.Stats().Waiters != 0 {
				r.Errorf("of %d calls %d did not end at 60 s; %d wait still", n, late.Load(), a.Stats().Waiters)
			}
		}
		close(stop)
		<-chatter
	}},
	{name: "bus-22 late replies", run: func(r *rig) {
		release := make(chan struct{})
		a := r.start("a", nil)
		r.start("b", func(c *bus.Config) { c.Workers = 1200 }, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			<-release
			return m.Body, nil
		}))
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if i%2 == 0 {
					time.AfterFunc(600*time.Millisecond, cancel)
				}
				// on a slow machine some do not get out in time
				if _, err := a.Call(ctx, msg("svc", "x"), bus.Timeout(900*time.Millisecond)); !bus.Unknown(err) && !errors.Is(err, bus.ErrNotSent) {
					r.Error(err)
				}
			})
		}
		wg.Wait()
		if n := a.Stats().Waiters; n != 0 {
			r.Errorf("%d waiters", n)
		}
		close(release) // those whose deadline is over are dropped by the receiver or by us
		r.settle()
		if s := a.Stats(); s.Waiters != 0 {
			r.Errorf("%+v", s)
		}
		r.start("d", nil, serving("late", echo))
		r.call(a, msg("late", "mine"), "mine")
	}},
	{name: "bus-35 heartbeats", long: true, run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			time.Sleep(10 * time.Second)
			return []byte("done"), nil
		}))
		r.call(a, msg("svc", ""), "done", bus.Timeout(100*time.Second), bus.Monitor(2*time.Second))
	}},
	{name: "bus-37 bad monitors", run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", echo))
		_, err := a.Call(context.Background(), msg("svc", ""), bus.Monitor(1900*time.Millisecond))
		r.is(err, bus.ErrInvalid)
		r.call(a, msg("svc", "x"), "x", bus.Monitor(2*time.Second))
	}},
	{name: "bus-49 waiting counts", long: true, run: func(r *rig) {
		left := make(chan time.Duration, 10)
		a := r.start("a", nil)
		b := r.start("b", func(c *bus.Config) { c.Workers = 1 }, serving("svc", func(ctx context.Context, m *bus.Message) ([]byte, error) {
			if string(m.Body) == "block" {
				time.Sleep(3 * time.Second)
				return nil, nil
			}
			d, _ := ctx.Deadline()
			left <- time.Until(d)
			return nil, nil
		}))
		r.ok(a.Cast(context.Background(), msg("svc", "block")))
		r.settle()
		if _, err := a.Call(context.Background(), msg("svc", ""), bus.Timeout(5*time.Second)); err != nil {
			r.Fatal(err)
		}
		if d := <-left; d > 2*time.Second {
			r.Errorf("%v left of 5s after 3s in a queue", d)
		}
		r.ok(a.Cast(context.Background(), msg("svc", "block")))
		r.ok(a.Cast(context.Background(), msg("svc", "block")))
		r.settle()
		_, err := a.Call(context.Background(), msg("svc", ""), bus.Timeout(5*time.Second))
		r.is(err, bus.ErrTimeout)
		time.Sleep(5 * time.Second)
		if s := b.Stats(); len(left) != 0 || s.Expired != 1 {
			r.Errorf("it ran after its time: %+v", s)
		}
	}},
}
