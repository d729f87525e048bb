package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// over is a TTL with which a session is over as soon as it is open.
const over = 0

func leases(t *testing.T, open func(t testing.TB) testkit.Stores) {
	for _, c := range []struct {
		name  string
		check func(t *testing.T, l *leaseStore)
	}{
		{"open 1: tokens", openTokens},
		{"open 2: ends the older one", openEndsOlder},
		{"open 3, renew 2: replaced", openReplaced},
		{"renew 1: guard", renewGuard},
		{"close: frees, with hints", closeFrees},
		{"sweep 1, 4: marks what is over, once", sweepMarks},
		{"sweep 2: hints", sweepHints},
		{"sweep 3: forgets after an hour", sweepForgets},
		{"list", listAll},
		{"acquire 1, 2, 3", acquireRules},
		{"acquire 4: one of many", acquireRace},
		{"release: guard", releaseGuard},
		{"rollback leaves nothing", leaseRollback},
		{"foreign transaction", leaseForeign},
		{"store incarnation", storeIncarnation},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, newLeaseStore(t, open)) })
	}
	t.Run("foreign store's transaction", func(t *testing.T) {
		a, b := newLeaseStore(t, open), newLeaseStore(t, open)
		err := failing(t, a, func(ctx context.Context, tx store.Tx) error {
			_, err := b.l.List(ctx, tx)
			return err
		})
		if !errors.Is(err, store.ErrForeign) {
			t.Fatalf("got %v, want store.ErrForeign", err)
		}
	})
}

func openTokens(t *testing.T, s *leaseStore) {
	a, b, a2 := s.open("a", time.Hour), s.open("b", time.Hour), s.open("a", time.Hour)
	if a.Node != "a" || b.Node != "b" || a.Store == "" || a.Store != b.Store {
		t.Errorf("tokens %+v, %+v", a, b)
	}
	if a.Epoch <= 0 || b.Epoch <= a.Epoch || a2.Epoch <= b.Epoch {
		t.Errorf("epochs do not rise: %d, %d, %d", a.Epoch, b.Epoch, a2.Epoch)
	}
	if a.Incarnation != 1 || b.Incarnation != 1 || a2.Incarnation != 2 {
		t.Errorf("incarnations %d, %d, %d, want 1, 1, 2", a.Incarnation, b.Incarnation, a2.Incarnation)
	}
	tok, err := s.tryOpen(lease.Info{Name: "c", State: lease.Active, Holder: lease.Token{Node: "c", Incarnation: 7, Store: a.Store, Epoch: 1}}, "p", time.Hour)
	if err != nil || tok.Incarnation != 8 {
		t.Errorf("after incarnation 7 of a row that is gone: %+v, %v", tok, err)
	}
}

func openEndsOlder(t *testing.T, s *leaseStore) {
	old := s.open("a", time.Hour)
	lead := s.mustAcquire(old, "x")
	now := s.open("a", time.Hour)
	if got := s.sweep(10); !slices.Equal(got, []int64{old.Epoch}) {
		t.Errorf("dead: %v, want %d", got, old.Epoch)
	}
	s.want(s.renew(old, lease.Info{Name: "a", State: lease.Active}, time.Hour), lease.ErrHeld)
	if _, err := s.acquire(old, "x"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("acquire with the old token: %v", err)
	}
	if got := s.mustAcquire(now, "x"); got.Epoch <= lead.Epoch || got.Incarnation != 2 {
		t.Errorf("taken over with %+v after %+v", got, lead)
	}
}

func openReplaced(t *testing.T, s *leaseStore) {
	i := lease.Info{Name: "a", State: lease.Active}
	first, err := s.tryOpen(i, "p1", time.Hour)
	s.want(err, nil)
	again := i
	again.Holder = first
	second, err := s.tryOpen(again, "p1", time.Hour)
	if err != nil || second.Incarnation != 2 {
		t.Fatalf("own process opens again: %+v, %v", second, err)
	}
	if third, err := s.tryOpen(again, "p1", time.Hour); err != nil || third.Incarnation != 3 {
		t.Fatalf("own process whose last opening was not answered: %+v, %v", third, err)
	}
	newer, err := s.tryOpen(i, "p2", time.Hour)
	s.want(err, nil)
	_, err = s.tryOpen(again, "p1", time.Hour)
	if held := new(lease.HeldError); !errors.As(err, &held) || held.Holder != newer {
		t.Errorf("replaced process opens: %v", err)
	}
	err = s.renew(second, i, time.Hour)
	if held := new(lease.HeldError); !errors.As(err, &held) || held.Holder.Incarnation <= second.Incarnation {
		t.Errorf("replaced process renews: %v", err)
	}
	s.want(s.renew(newer, i, time.Hour), nil)
}

func renewGuard(t *testing.T, s *leaseStore) {
	a := s.open("a", time.Hour)
	before := s.list()[0]
	i := lease.Info{Name: "a", State: lease.Draining, Kinds: []string{"k1", "k2"}, Queues: []string{"q"}}
	s.want(s.renew(a, i, 2*time.Hour), nil)
	got := s.list()[0]
	if got.State != lease.Draining || !slices.Equal(got.Kinds, i.Kinds) || !slices.Equal(got.Queues, i.Queues) || got.Holder != a {
		t.Errorf("stored %+v", got)
	}
	if d := got.Until.Sub(before.Until); d < time.Hour || d > time.Hour+time.Minute {
		t.Errorf("moved on by %v", d)
	}
	for _, wrong := range []lease.Token{
		{Node: "b", Incarnation: a.Incarnation, Store: a.Store, Epoch: a.Epoch},
		{Node: "a", Incarnation: a.Incarnation + 1, Store: a.Store, Epoch: a.Epoch},
		{Node: "a", Incarnation: a.Incarnation, Store: a.Store + "1", Epoch: a.Epoch},
		{Node: "a", Incarnation: a.Incarnation, Store: a.Store, Epoch: a.Epoch + 1},
	} {
		s.want(s.renew(wrong, i, 9*time.Hour), store.ErrConflict)
	}
	if s.list()[0].Until != got.Until {
		t.Error("a refused renewal wrote")
	}
	b := s.open("b", over)
	s.want(s.renew(b, lease.Info{Name: "b", State: lease.Active}, time.Hour), store.ErrConflict)
	s.want(s.close(a), nil)
	s.want(s.renew(a, i, time.Hour), store.ErrConflict)
}

func closeFrees(t *testing.T, s *leaseStore) {
	a, b := s.open("a", time.Hour), s.open("b", time.Hour)
	x := s.mustAcquire(a, "x")
	s.mustAcquire(b, "y")
	s.hinted(lease.Topic("x"), func() { s.want(s.close(a), nil) })
	if got := s.mustAcquire(b, "x"); got.Epoch <= x.Epoch {
		t.Errorf("epoch %d after %d", got.Epoch, x.Epoch)
	}
	s.want(s.close(a), nil)
	s.want(s.close(lease.Token{Node: "no", Incarnation: 1, Store: a.Store, Epoch: 1 << 40}), nil)
	if got, err := s.acquire(b, "y"); err != nil || got.Node != "b" {
		t.Errorf("another's lease after the close: %+v, %v", got, err)
	}
}

func sweepMarks(t *testing.T, s *leaseStore) {
	live := s.open("live", time.Hour)
	var gone []int64
	for i := range 5 {
		gone = append(gone, s.open(fmt.Sprint("gone", i), over).Epoch)
	}
	if got := s.sweep(2); !slices.Equal(got, gone[:2]) {
		t.Errorf("first two: %v of %v", got, gone)
	}
	if got := s.sweep(10); !slices.Equal(got, gone) {
		t.Errorf("all: %v, want %v", got, gone)
	}
	if got := s.sweep(10); !slices.Equal(got, gone) {
		t.Errorf("again: %v, want %v", got, gone)
	}
	s.want(s.renew(live, lease.Info{Name: "live", State: lease.Active}, time.Hour), nil)
}

func sweepHints(_ *testing.T, s *leaseStore) {
	a := s.open("a", time.Hour)
	s.mustAcquire(a, "x")
	s.want(s.renew(a, lease.Info{Name: "a", State: lease.Active}, over), nil)
	s.hinted(lease.Topic("x"), func() { s.sweep(10) })
}

func sweepForgets(t *testing.T, s *leaseStore) {
	a := s.open("a", time.Minute)
	x := s.mustAcquire(a, "x")
	advance(t, s.Stores, 2*time.Minute)
	if got := s.sweep(10); !slices.Equal(got, []int64{a.Epoch}) {
		t.Fatalf("dead: %v", got)
	}
	advance(t, s.Stores, lease.Keep-time.Second)
	if got := s.sweep(10); !slices.Equal(got, []int64{a.Epoch}) {
		t.Errorf("forgotten too early: %v", got)
	}
	advance(t, s.Stores, 2*time.Second)
	if got := s.sweep(10); len(got) != 0 || len(s.list()) != 0 {
		t.Errorf("kept after an hour: %v, %v", got, s.list())
	}
	if b := s.open("a", time.Minute); b.Epoch <= x.Epoch {
		t.Errorf("epoch %d after %d, whose rows are gone", b.Epoch, x.Epoch)
	}
}

func listAll(t *testing.T, s *leaseStore) {
	b, a, c := s.open("b", time.Hour), s.open("a", over), s.open("c", time.Hour)
	s.want(s.close(c), nil)
	s.sweep(10) // marks a
	s.mustAcquire(b, "y")
	x := s.mustAcquire(b, "x")
	var got []string
	for _, i := range s.list() {
		if i.Closed != (i.Name == "c") {
			t.Errorf("%s closed: %v", i.Name, i.Closed)
		}
		got = append(got, fmt.Sprint(i.Name, i.Named, i.State))
		switch {
		case i.Named && i.Name == "x" && i.Holder != x, !i.Named && i.Name == "a" && i.Holder != a:
			t.Errorf("holder of %s: %+v", i.Name, i.Holder)
		}
	}
	if want := []string{"afalsedead", "bfalseactive", "cfalsedead", "xtrueactive", "ytrueactive"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func acquireRules(t *testing.T, s *leaseStore) {
	a, b, gone := s.open("a", time.Hour), s.open("b", time.Hour), s.open("gone", over)
	if _, err := s.acquire(gone, "x"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("of a session that is over: %v", err)
	}
	x := s.mustAcquire(a, "x")
	if x.Epoch <= gone.Epoch || x.Node != "a" || x.Incarnation != a.Incarnation || x.Store != a.Store {
		t.Errorf("token %+v", x)
	}
	if again := s.mustAcquire(a, "x"); again != x {
		t.Errorf("own again: %+v, want %+v", again, x)
	}
	_, err := s.acquire(b, "x")
	if held := new(lease.HeldError); !errors.As(err, &held) || held.Holder != x || held.Name != "x" {
		t.Errorf("held: %v", err)
	}
	s.want(s.renew(a, lease.Info{Name: "a", State: lease.Active}, over), nil)
	got := s.mustAcquire(b, "x")
	if got.Epoch <= x.Epoch || got.Node != "b" {
		t.Errorf("holder is over: %+v after %+v", got, x)
	}
	s.want(s.release(x, "x"), store.ErrConflict)
}

func acquireRace(t *testing.T, s *leaseStore) {
	var toks []lease.Token
	for i := range 8 {
		toks = append(toks, s.open(fmt.Sprint("n", i), time.Hour))
	}
	for round := range 5 {
		name := fmt.Sprint("x", round)
		var mu sync.Mutex
		var won []lease.Token
		var wg sync.WaitGroup
		for _, tok := range toks {
			wg.Go(func() {
				got, err := s.acquire(tok, name)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, got)
				} else if !errors.Is(err, lease.ErrHeld) {
					t.Errorf("%s: %v", tok.Node, err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d winners: %v", len(won), won)
		}
	}
}

func releaseGuard(t *testing.T, s *leaseStore) {
	a, b := s.open("a", time.Hour), s.open("b", time.Hour)
	x := s.mustAcquire(a, "x")
	wrong := x
	wrong.Epoch++
	s.want(s.release(wrong, "x"), store.ErrConflict)
	s.want(s.release(x, "y"), store.ErrConflict)
	if _, err := s.acquire(b, "x"); !errors.Is(err, lease.ErrHeld) {
		t.Errorf("after refused releases: %v", err)
	}
	s.hinted(lease.Topic("x"), func() { s.want(s.release(x, "x"), nil) })
	s.want(s.release(x, "x"), store.ErrConflict)
	if got := s.mustAcquire(a, "x"); got.Epoch <= x.Epoch {
		t.Errorf("epoch %d after %d, whose row is gone", got.Epoch, x.Epoch)
	}
	s.want(s.release(x, "x"), store.ErrConflict)
}

func leaseRollback(t *testing.T, s *leaseStore) {
	a := s.open("a", time.Hour)
	before := s.list()
	boom := errors.New("boom")
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		b, err := s.l.Open(ctx, tx, lease.Info{Name: "a", State: lease.Active}, "p", time.Hour)
		if err != nil {
			return err
		}
		if _, err := s.l.Acquire(ctx, tx, b, "x"); err != nil {
			return err
		}
		if err := s.l.Renew(ctx, tx, b, lease.Info{Name: "a", State: lease.Draining}, 3*time.Hour); err != nil {
			return err
		}
		if err := s.l.Close(ctx, tx, b); err != nil {
			return err
		}
		return boom
	})
	s.want(err, boom)
	if got := s.list(); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("left behind:\n%v, was\n%v", got, before)
	}
	s.want(s.renew(a, lease.Info{Name: "a", State: lease.Active}, time.Hour), nil)
}

type foreignTx struct{ store.Tx }

func leaseForeign(t *testing.T, s *leaseStore) {
	ctx, tx := t.Context(), foreignTx{}
	_, openErr := s.l.Open(ctx, tx, lease.Info{Name: "a"}, "p", time.Hour)
	_, sweepErr := s.l.Sweep(ctx, tx, 1)
	_, listErr := s.l.List(ctx, tx)
	_, acquireErr := s.l.Acquire(ctx, tx, lease.Token{}, "x")
	_, _, takeErr := s.Ledger().Take(ctx, tx, lease.Token{}, "x", time.Time{})
	_, lastErr := s.Ledger().Last(ctx, tx, "x")
	for i, err := range []error{
		openErr, sweepErr, listErr, acquireErr, takeErr, lastErr,
		s.l.Renew(ctx, tx, lease.Token{}, lease.Info{}, time.Hour), s.l.Close(ctx, tx, lease.Token{}),
		s.l.Release(ctx, tx, lease.Token{}, "x"), s.Ledger().Done(ctx, tx, "x", 1, ""),
	} {
		if !errors.Is(err, store.ErrForeign) {
			t.Errorf("call %d: %v, want store.ErrForeign", i, err)
		}
	}
}

func storeIncarnation(t *testing.T, s *leaseStore) {
	f, ok := s.Stores.(interface {
		AfterFailover(ctx context.Context) error
	})
	if !ok {
		t.Skip("this store's incarnation cannot be raised")
	}
	a := s.open("a", time.Hour)
	x := s.mustAcquire(a, "x")
	if err := f.AfterFailover(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want(s.renew(a, lease.Info{Name: "a", State: lease.Active}, time.Hour), store.ErrConflict)
	s.want(s.release(x, "x"), store.ErrConflict)
	if got := s.sweep(10); !slices.Equal(got, []int64{a.Epoch}) {
		t.Errorf("dead: %v", got)
	}
	b := s.open("b", time.Hour)
	y := s.mustAcquire(b, "x")
	if b.Store == a.Store || !a.Less(b) || !x.Less(y) || b.Less(a) || b.Epoch <= x.Epoch {
		t.Errorf("not above: %+v, %+v after %+v, %+v", b, y, a, x)
	}
}
