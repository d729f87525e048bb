package hypervisor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
)

func simHost(t *testing.T, cfg sim.Config) *sim.Driver {
	t.Helper()
	if cfg.ID == "" {
		cfg.ID = "33333333-0000-4000-8000-00000000000a"
	}
	d, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestPool(t *testing.T) {
	bubble(t, "hyp-25 a hundred hosts, one hangs", func(t *testing.T) {
		var opens atomic.Int64
		p, err := hypervisor.NewPool(hypervisor.PoolConfig{Open: func(ctx context.Context, host string) (hypervisor.Driver, error) {
			opens.Add(1)
			if host == "h7" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			time.Sleep(10 * time.Millisecond)
			return simHost(t, sim.Config{}), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		var wg sync.WaitGroup
		for i := range 100 {
			for range 5 {
				wg.Go(func() {
					host := fmt.Sprint("h", i)
					d, give, err := p.Get(t.Context(), host)
					switch {
					case host == "h7":
						if !errors.Is(err, hypervisor.ErrGone) || time.Since(at) != hypervisor.PingLimit {
							t.Errorf("after %v: %v", time.Since(at), err)
						}
						return
					case err != nil || time.Since(at) != 10*time.Millisecond:
						t.Errorf("%s after %v: %v", host, time.Since(at), err)
						return
					}
					defer give()
					if _, err := d.Info(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if n := opens.Load(); n != 100 {
			t.Errorf("%d opens of 100 hosts", n)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := p.Get(t.Context(), "h1"); !errors.Is(err, hypervisor.ErrClosed) {
			t.Error(err)
		}
	})
	bubble(t, "hyp-25 a failed open is tried again, with backoff", func(t *testing.T) {
		var tries []time.Duration
		at, up := time.Now(), false
		p, err := hypervisor.NewPool(hypervisor.PoolConfig{Open: func(context.Context, string) (hypervisor.Driver, error) {
			tries = append(tries, time.Since(at))
			if !up {
				return nil, errors.New("no route")
			}
			return simHost(t, sim.Config{}), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for time.Since(at) < 30*time.Second {
			if _, _, err := p.Get(t.Context(), "h"); !errors.Is(err, hypervisor.ErrGone) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(tries) < 9 || len(tries) > 14 {
			t.Errorf("%d tries in 30 s: %v", len(tries), tries)
		}
		up = true
		time.Sleep(6 * time.Second)
		d, give, err := p.Get(t.Context(), "h")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // in use
		if _, err := d.Info(t.Context()); err != nil {
			t.Error(err)
		}
		give()
		time.Sleep(9 * time.Minute)
		if _, err := d.Info(t.Context()); err != nil {
			t.Errorf("closed after 9 minutes: %v", err)
		}
		time.Sleep(11 * time.Minute)
		if _, err := d.Info(t.Context()); !errors.Is(err, hypervisor.ErrClosed) {
			t.Errorf("not closed after 10 idle minutes: %v", err)
		}
		other, _, err := p.Get(t.Context(), "h")
		if err != nil || other == d {
			t.Errorf("the closed one is handed out: %v", err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("bad config", func(t *testing.T) {
		for _, c := range []hypervisor.PoolConfig{{}, {Open: func(context.Context, string) (hypervisor.Driver, error) { return nil, nil }, Idle: -1}} {
			if _, err := hypervisor.NewPool(c); !errors.Is(err, hypervisor.ErrInvalid) {
				t.Error(err)
			}
		}
	})
}
