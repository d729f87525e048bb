package lease_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

var errDown = errors.New("store is down")

func TestSession(t *testing.T) {
	t.Run("opens, renews, closes", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			<-a.Ready()
			tok := a.Token()
			check(t, "token", tok.Node, "a")
			a.Serve([]string{"k2", "k1"}, []string{"q"})
			r.pass(10 * time.Minute)
			check(t, "still the same", a.Token(), tok)
			all, err := a.List(t.Context())
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			check(t, "served", all[0].Kinds, []string{"k1", "k2"})
			check(t, "announce", a.Announce(t.Context(), false), nil)
			all, _ = a.List(t.Context())
			check(t, "state", all[0].State, lease.Draining)
			a.stop()
			check(t, "Run", a.err, nil)
			check(t, "second Run", a.Run(t.Context()), drover.ErrUsed)
			all, _ = a.List(t.Context())
			check(t, "closed", all[0].State, lease.Dead)
		})
	})
	t.Run("left to its lease while something is bound", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			ctx, release := a.With(t.Context())
			a.stop()
			check(t, "cause", context.Cause(ctx), lease.ErrLost)
			all, _ := a.List(t.Context())
			check(t, "row", all[0].State, lease.Active)
			r.pass(31 * time.Second)
			release()
			all, _ = a.List(t.Context())
			check(t, "row after its lease", all[0].State, lease.Dead)
		})
	})
	t.Run("With ends with its parent, and at once while none is open", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a", func(c *lease.Config) { c.Tx = &proc{r: r, fail: errDown} })
			ctx, release := a.With(t.Context())
			defer release()
			check(t, "cause", context.Cause(ctx), lease.ErrLost)
			_, err := a.Held()
			check(t, "held", err, lease.ErrLost)
			_, err = a.Acquire(t.Context(), "x")
			check(t, "acquire", err, lease.ErrLost)
			b := r.proc("b")
			parent, cancel := context.WithCancelCause(t.Context())
			ctx, release = b.With(parent)
			defer release()
			cancel(errDown)
			check(t, "cause", context.Cause(ctx), errDown)
		})
	})
	t.Run("Step alone, without goroutines", stepAlone)
	t.Run("opening whose answer is lost is not taken for another process", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			a.failing(errDown, false)
			r.pass(26 * time.Second)
			a.failing(errDown, true)
			r.pass(20 * time.Second)
			a.failing(nil, false)
			r.pass(11 * time.Second)
			if _, err := a.Held(); err != nil {
				t.Errorf("not open again: %v", err)
			}
		})
	})
}

func stepAlone(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, err := lease.New(lease.Config{Env: drover.Env{Node: "a", Logger: quiet}, Tx: r.store, Store: r.store.Leases()})
		if err != nil {
			t.Fatal(err)
		}
		next, err := s.Step(t.Context())
		check(t, "first step", err, nil)
		check(t, "next", time.Until(next), 10*time.Second)
		held, err := s.Held()
		check(t, "held", err, nil)
		ctx, release := s.With(t.Context())
		defer release()
		r.pass(25 * time.Second)
		if _, err := s.Held(); !errors.Is(err, lease.ErrLost) || !isClosed(held) || ctx.Err() == nil {
			t.Errorf("after 25s without a step: %v", err)
		}
		_, err = s.Step(t.Context())
		check(t, "step", err, nil)
		check(t, "incarnation", s.Token().Incarnation, 2)
	})
}

func TestLoss(t *testing.T) {
	t.Run("lease-06 store errors", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			ctx, release := a.With(t.Context())
			held, _ := a.Held()
			r.pass(9 * time.Second)
			a.failing(errDown, false)
			before := a.count()
			r.pass(25*time.Second - r.at() - time.Millisecond)
			if n := a.count() - before; n < 5 || n > 10 {
				t.Errorf("%d tries in 15s, want them to back off from 250ms", n)
			}
			if ctx.Err() != nil || isClosed(held) {
				t.Errorf("given up at %v", r.at())
			}
			r.pass(2 * time.Millisecond)
			check(t, "cause at 25s", context.Cause(ctx), lease.ErrLost)
			check(t, "held closed", isClosed(held), true)
			a.failing(nil, false)
			release()
			r.pass(10 * time.Second)
			check(t, "next incarnation", a.Token().Incarnation, 2)
			b := r.proc("b")
			b.failing(errDown, false)
			r.pass(15 * time.Second) // one renewal fails, the next does not: nothing lost
			b.failing(nil, false)
			r.pass(time.Minute)
			check(t, "incarnation", b.Token().Incarnation, 1)
		})
	})
	t.Run("lease-06 stuck f", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a, b := r.proc("a"), r.proc("b")
			free := make(chan struct{})
			defer close(free)
			la := a.lead("x", func(context.Context, lease.Token) error { <-free; return nil })
			tok := la.began(t, 0)
			lb := b.lead("x", nil)
			la.cancel()
			r.pass(10*time.Second - time.Millisecond)
			check(t, "before 10s", isClosed(la.done), false)
			r.pass(2 * time.Millisecond)
			check(t, "at 10s", isClosed(la.done), true)
			if !errors.Is(la.err, drover.ErrStuck) {
				t.Errorf("Lead: %v", la.err)
			}
			r.pass(time.Minute)
			lb.idle(t) // f may still act: the lease stays with the session
			a.crash()
			if got := lb.began(t, 32*time.Second); !tok.Less(got) {
				t.Errorf("%+v after %+v", got, tok)
			}
			lb.stop()
		})
	})
	t.Run("lease-06 stuck f, session lost", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			free := make(chan struct{})
			defer close(free)
			la := a.lead("x", func(context.Context, lease.Token) error { <-free; return nil })
			la.began(t, 0)
			a.failing(errDown, false)
			r.pass(25*time.Second + time.Millisecond)
			a.failing(nil, false)
			r.pass(10 * time.Second)
			check(t, "stuck", errors.Is(la.err, drover.ErrStuck), true)
		})
	})
	t.Run("lease-09 a thousand leases", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			for i := range 1000 {
				a.acquire("x" + string(rune('a'+i%26)) + strings.Repeat("y", i/26))
			}
			r.pass(10*time.Second - r.at()%(10*time.Second) + time.Second)
			before := a.count()
			r.pass(100 * time.Second)
			check(t, "transactions in 100s", a.count()-before, 10)
		})
	})
	t.Run("lease-10 restart under the same name", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			old := a.acquire("x")
			ctx, release := a.With(t.Context())
			defer release()
			b := r.proc("a")
			got := b.acquire("x").Token()
			if got.Incarnation != old.Token().Incarnation+1 || got.Epoch <= old.Token().Epoch {
				t.Errorf("taken over with %+v after %+v", got, old.Token())
			}
			check(t, "the old process's token", errors.Is(old.Release(t.Context()), store.ErrConflict), true)
			r.pass(10 * time.Second)
			check(t, "old ctx", context.Cause(ctx), lease.ErrLost)
			<-a.done
			if !errors.Is(a.err, lease.ErrLost) || !drover.IsPermanent(a.err) {
				t.Errorf("old Run: %v", a.err)
			}
			r.pass(2 * time.Hour)
			check(t, "the new one goes on", b.Token().Incarnation, 2)
		})
	})
	t.Run("lease-05 row deleted, store restored", lostRows)
}

// forgetful stands for a store whose rows someone deleted.
type forgetful struct{ lease.Store }

func (forgetful) Renew(context.Context, store.Tx, lease.Token, lease.Info, time.Duration) error {
	return store.ErrConflict
}

func lostRows(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a := r.proc("a")
		x := a.acquire("x")
		check(t, "release", x.Release(t.Context()), nil) // deletes the row
		again := a.acquire("x")
		if again.Token().Epoch <= x.Token().Epoch {
			t.Errorf("epoch %d after %d, whose row is gone", again.Token().Epoch, x.Token().Epoch)
		}
		f := r.proc("f", func(c *lease.Config) { c.Store = forgetful{c.Store} })
		ctx, release := f.With(t.Context())
		defer release()
		before := f.Token()
		r.pass(10 * time.Second)
		check(t, "session row gone", context.Cause(ctx), lease.ErrLost)
		check(t, "next", f.Token().Epoch > before.Epoch && f.Token().Incarnation == before.Incarnation+1, true)

		old := a.Token()
		if err := r.store.AfterFailover(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t, "old token refused", errors.Is(again.Release(t.Context()), store.ErrConflict), true)
		r.pass(10 * time.Second)
		if got := a.Token(); got.Store == old.Store || !old.Less(got) || got.Less(old) {
			t.Errorf("after the restore %+v, before %+v", got, old)
		}
		var copied memory.Store // another database altogether
		check(t, "token of another database", errors.Is(copied.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			return copied.Leases().Renew(ctx, tx, a.Token(), lease.Info{Name: "a", State: lease.Active}, time.Minute)
		}), store.ErrConflict), true)
	})
}

func TestConfig(t *testing.T) {
	good := func() lease.Config {
		s := &memory.Store{}
		return lease.Config{Tx: s, Store: s.Leases()}
	}
	for _, c := range []struct {
		name, field string
		change      func(*lease.Config)
	}{
		{"lease-07 renew above a third", "Renew", func(c *lease.Config) { c.TTL, c.Renew = 5*time.Second, 3*time.Second }},
		{"lease-07 margin below a tenth", "Margin", func(c *lease.Config) { c.TTL, c.Margin = 20*time.Second, time.Second }},
		{"margin of a third", "Margin", func(c *lease.Config) { c.Margin = 10 * time.Second }},
		{"TTL below a second", "TTL", func(c *lease.Config) { c.TTL = time.Second - 1 }},
		{"negative TTL", "TTL", func(c *lease.Config) { c.TTL = -time.Second }},
		{"endless TTL", "TTL", func(c *lease.Config) { c.TTL = 1 << 62 }},
		{"negative renew", "Renew", func(c *lease.Config) { c.Renew = -1 }},
		{"negative margin", "Margin", func(c *lease.Config) { c.Margin = -1 }},
		{"no runner", "Tx", func(c *lease.Config) { c.Tx = nil }},
		{"no store", "Store", func(c *lease.Config) { c.Store = nil }},
		{"long name", "Name", func(c *lease.Config) { c.Name = strings.Repeat("x", 129) }},
		{"unprintable name", "Name", func(c *lease.Config) { c.Name = "a\nb" }},
		{"broken UTF-8", "Name", func(c *lease.Config) { c.Name = "a\xff" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good()
			c.change(&cfg)
			_, err := lease.New(cfg)
			if !errors.Is(err, lease.ErrConfig) || !errors.Is(err, drover.ErrConfig) || !strings.Contains(err.Error(), c.field+":") {
				t.Errorf("got %v, want ErrConfig naming %s", err, c.field)
			}
		})
	}
	if _, err := lease.New(good()); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func TestToken(t *testing.T) {
	tok := func(s string, e int64) lease.Token { return lease.Token{Store: s, Epoch: e} }
	for _, c := range []struct {
		a, b lease.Token
		less bool
	}{
		{tok("d.1", 1), tok("d.1", 2), true},
		{tok("d.1", 2), tok("d.1", 1), false},
		{tok("d.1", 2), tok("d.1", 2), false},
		{tok("d.9", 9), tok("d.10", 1), true},
		{tok("d.10", 1), tok("d.9", 9), false},
		{tok("d", 1), tok("d", 2), true},
		{tok("", 0), tok("d.1", 1), true},
		{tok("a.2", 9), tok("b.1", 1), true},
	} {
		if got := c.a.Less(c.b); got != c.less {
			t.Errorf("%v < %v: %v", c.a, c.b, got)
		}
	}
}
