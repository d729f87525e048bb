package lease_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

func TestAcquire(t *testing.T) {
	t.Run("lease-07 held, and own again", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a, b := r.proc("a"), r.proc("b")
			x := a.acquire("x")
			at := r.at()
			_, err := b.Acquire(t.Context(), "x")
			held := new(lease.HeldError)
			if !errors.Is(err, lease.ErrHeld) || !errors.As(err, &held) || held.Holder != x.Token() || r.at() != at {
				t.Errorf("held: %v after %v", err, r.at()-at)
			}
			check(t, "own again", a.acquire("x").Token(), x.Token())
			_, err = a.Acquire(t.Context(), "")
			check(t, "no name", errors.Is(err, lease.ErrConfig), true)
		})
	})
	t.Run("release frees for all who hold it here", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			x, y := a.acquire("x"), a.acquire("x")
			c, err := y.Held()
			check(t, "held", err, nil)
			check(t, "release", x.Release(t.Context()), nil)
			check(t, "closed", isClosed(c), true)
			_, err = y.Held()
			check(t, "held", err, lease.ErrLost)
			check(t, "released twice", errors.Is(y.Release(t.Context()), store.ErrConflict), true)
			if z := a.acquire("x"); !x.Token().Less(z.Token()) {
				t.Errorf("%+v after %+v", z.Token(), x.Token())
			}
		})
	})
	t.Run("release not stored: never answered again", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			x := a.acquire("x")
			a.failing(errDown, false)
			check(t, "release", x.Release(t.Context()), errDown)
			a.failing(nil, false)
			y := a.acquire("x")
			if !x.Token().Less(y.Token()) {
				t.Errorf("%+v after %+v", y.Token(), x.Token())
			}
			check(t, "release again", errors.Is(x.Release(t.Context()), store.ErrConflict), true)
			_, err := y.Held()
			check(t, "the new one", err, nil)
		})
	})
}

func TestLead(t *testing.T) {
	fast := func(c *lease.Config) { c.TTL = 10 * time.Second }
	for _, c := range []struct {
		name   string
		change func(*lease.Config)
		bound  time.Duration
	}{
		{"lease-03 crash", func(*lease.Config) {}, 31 * time.Second},
		{"lease-03 crash, fast session", fast, 11 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				a, b := r.proc("a", c.change), r.proc("b", c.change)
				la := a.lead("x", nil)
				tok := la.began(t, 0)
				lb := b.lead("x", nil)
				r.pass(c.bound * 3)
				lb.idle(t)
				a.crash()
				check(t, "f's ctx", la.causes, []error{lease.ErrLost})
				if got := lb.began(t, c.bound); !tok.Less(got) {
					t.Errorf("%+v after %+v", got, tok)
				}
				la.stop()
				lb.stop()
			})
		})
	}
	for _, c := range []struct {
		name   string
		change func(*lease.Config)
		bound  time.Duration
	}{
		{"lease-03 job-83 f returns, with hints", func(*lease.Config) {}, 200 * time.Millisecond},
		{"lease-03 f returns, without", func(c *lease.Config) { c.Notify = nil }, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				a, b := r.proc("a", c.change), r.proc("b", c.change)
				end := make(chan error)
				la := a.lead("x", func(context.Context, lease.Token) error { return <-end })
				la.began(t, 0)
				lb := b.lead("x", nil)
				r.pass(1700 * time.Millisecond)
				end <- errDown
				lb.began(t, c.bound)
				<-la.done
				check(t, "Lead", la.err, errDown)
				lb.stop()
				check(t, "Lead of b", lb.err, nil)
			})
		})
	}
	t.Run("lost, then leads again", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			la := a.lead("x", nil)
			first := la.began(t, 0)
			a.failing(errDown, false)
			r.pass(26 * time.Second)
			check(t, "f's ctx", la.causes, []error{lease.ErrLost})
			a.failing(nil, false)
			if second := la.began(t, 12*time.Second); !first.Less(second) || second.Incarnation != 2 {
				t.Errorf("%+v after %+v", second, first)
			}
			la.stop()
			check(t, "Lead", la.err, nil)
		})
	})
	t.Run("panic, Goexit", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a, b := r.proc("a"), r.proc("b")
			la := a.lead("x", func(context.Context, lease.Token) error { panic("boom") })
			<-la.done
			p := new(drover.PanicError)
			check(t, "panic", errors.As(la.err, &p) && p.Value == "boom", true)
			lb := b.lead("x", nil)
			lb.began(t, 0)
			lb.stop()
		})
	})
	t.Run("one Lead per session and name", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a := r.proc("a")
			l1 := a.lead("x", nil)
			l1.began(t, 0)
			l2 := a.lead("x", nil)
			r.pass(10 * time.Second)
			l2.idle(t)
			l1.stop()
			l2.began(t, time.Second)
			l2.stop()
		})
	})
	t.Run("session ends for good, ctx ends while waiting, bad name", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			a, b := r.proc("a"), r.proc("b")
			a.acquire("x")
			lb, lc := b.lead("x", nil), b.lead("x", nil)
			lc.stop()
			check(t, "ctx ended", lc.err, nil)
			b.stop()
			synctest.Wait()
			check(t, "session ended", isClosed(lb.done) && errors.Is(lb.err, lease.ErrLost), true)
			ld := a.lead("\x00", nil)
			<-ld.done
			check(t, "bad name", errors.Is(ld.err, lease.ErrConfig), true)
		})
	})
}

func TestLedger(t *testing.T) {
	t.Run("lease-11", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			nodes := []*proc{r.proc("a"), r.proc("b")}
			var ls []*lease.Ledger
			for _, p := range nodes {
				ls = append(ls, lease.NewLedger(p.Session, r.store.Ledger()))
			}
			ctx, due := t.Context(), time.Now()
			take := func(l *lease.Ledger, due time.Time) int64 {
				t.Helper()
				epoch, wait, err := l.Take(ctx, "gc", due)
				if err != nil || wait != 0 {
					t.Fatal(epoch, wait, err)
				}
				return epoch
			}
			first := take(ls[0], due)
			check(t, "ours", first > 0, true)
			epoch, wait, err := ls[1].Take(ctx, "gc", due)
			check(t, "the other", epoch, 0)
			check(t, "until the first may be dead", wait, 30*time.Second)
			check(t, "the other", err, nil)
			_, wait, err = ls[1].Take(ctx, "gc", due.Add(2*time.Second))
			check(t, "2s ahead", wait, time.Second)
			check(t, "2s ahead", err, nil)
			for try := range 2 { // the holder dies twice more: three attempts in all
				nodes[try].crash()
				r.pass(31 * time.Second)
				nodes = append(nodes, r.proc("c"+string(rune('0'+try))))
				ls = append(ls, lease.NewLedger(nodes[2+try].Session, r.store.Ledger()))
				next := take(ls[1+try], due)
				check(t, "next attempt", next > first, true)
				err := ls[1+try].Done(ctx, "gc", first, "late")
				check(t, "Done with an old epoch", errors.Is(err, store.ErrConflict), true)
				first = next
			}
			nodes[2].crash()
			r.pass(31 * time.Second)
			check(t, "abandoned", take(ls[3], due), -1)
			last, err := ls[3].Last(ctx, "gc")
			check(t, "last", last.Equal(due.Truncate(time.Microsecond)), true)
			check(t, "last", err, nil)
			_, err = ls[3].Held()
			check(t, "held", err, nil)
		})
	})
}
