package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func ledger(t *testing.T, open func(t testing.TB) testkit.Stores) {
	for _, c := range []struct {
		name  string
		check func(t *testing.T, l *ledgerStore)
	}{
		{"take 1: guard", takeGuard},
		{"take 2: the store's future", takeFuture},
		{"take 3, 4: one of two", takeOne},
		{"take 5, 6: three attempts", takeAttempts},
		{"done: guard", doneGuard},
		{"last", lastDue},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLeaseStore(t, open)
			c.check(t, &ledgerStore{l, l.Ledger()})
		})
	}
}

type ledgerStore struct {
	*leaseStore
	d lease.LedgerStore
}

func (s *ledgerStore) take(tok lease.Token, name string, due time.Time) (epoch int64, wait time.Duration) {
	s.t.Helper()
	in(s.t, s, func(ctx context.Context, tx store.Tx) (err error) {
		epoch, wait, err = s.d.Take(ctx, tx, tok, name, due)
		return err
	})
	return epoch, wait
}

// no checks that the due time is not to be had.
func (s *ledgerStore) no(tok lease.Token, name string, due time.Time) {
	s.t.Helper()
	if epoch, wait := s.take(tok, name, due); epoch != 0 || wait != 0 {
		s.t.Errorf("epoch %d, wait %v; want neither", epoch, wait)
	}
}

func (s *ledgerStore) yes(tok lease.Token, name string, due time.Time, above int64) int64 {
	s.t.Helper()
	epoch, wait := s.take(tok, name, due)
	if epoch <= above || wait != 0 {
		s.t.Errorf("epoch %d, wait %v; want an epoch above %d", epoch, wait, above)
	}
	return epoch
}

func (s *ledgerStore) done(name string, epoch int64) error {
	return s.InTx(s.t.Context(), func(ctx context.Context, tx store.Tx) error { return s.d.Done(ctx, tx, name, epoch, "ok") })
}

func (s *ledgerStore) last(name string) (at time.Time) {
	s.t.Helper()
	in(s.t, s, func(ctx context.Context, tx store.Tx) (err error) {
		at, err = s.d.Last(ctx, tx, name)
		return err
	})
	return at
}

// now is the store's clock, in whole seconds.
func (s *ledgerStore) now() (now time.Time) {
	s.t.Helper()
	in(s.t, s, func(_ context.Context, tx store.Tx) error {
		now = tx.Now()
		return nil
	})
	return now.Truncate(time.Second)
}

func (s *ledgerStore) end(tok lease.Token) {
	s.t.Helper()
	s.want(s.renew(tok, lease.Info{Name: tok.Node, State: lease.Active}, over), nil)
}

func takeGuard(t *testing.T, s *ledgerStore) {
	gone := s.open("gone", over)
	live := s.open("live", time.Hour)
	wrong := live
	wrong.Incarnation++
	for _, tok := range []lease.Token{gone, wrong, {}} {
		err := failing(t, s, func(ctx context.Context, tx store.Tx) error {
			_, _, err := s.d.Take(ctx, tx, tok, "gc", tx.Now())
			return err
		})
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%+v: %v", tok, err)
		}
	}
}

func takeFuture(t *testing.T, s *ledgerStore) {
	a := s.open("a", time.Hour)
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		if _, wait, err := s.d.Take(ctx, tx, a, "gc", tx.Now().Add(2*time.Second)); wait != time.Second || err != nil {
			t.Errorf("due in 2s: wait %v, %v; want 1s", wait, err)
		}
		if epoch, wait, err := s.d.Take(ctx, tx, a, "gc", tx.Now().Add(time.Second)); epoch == 0 || wait != 0 || err != nil {
			t.Errorf("due in 1s: epoch %d, wait %v, %v", epoch, wait, err)
		}
		return nil
	})
}

func takeOne(t *testing.T, s *ledgerStore) {
	a, b := s.open("a", time.Hour), s.open("b", time.Hour)
	due := s.now()
	first := s.yes(a, "gc", due, b.Epoch)
	first = s.yes(a, "gc", due, first) // it did not hear of the first answer
	if epoch, wait := s.take(b, "gc", due); epoch != 0 || wait <= 59*time.Minute || wait > time.Hour {
		s.t.Errorf("epoch %d, wait %v; want none until the session is over", epoch, wait)
	}
	s.no(b, "gc", due.Add(time.Second/2)) // an unfinished run of a live session
	s.yes(b, "other", due, first)
	s.want(s.done("gc", first), nil)
	s.no(b, "gc", due)
	s.no(b, "gc", due.Add(-time.Minute))
	s.yes(b, "gc", due.Add(time.Second/2), first)
}

func takeAttempts(t *testing.T, s *ledgerStore) {
	due := s.now()
	epoch := int64(0)
	for _, node := range []string{"a", "b", "c"} {
		tok := s.open(node, time.Hour)
		epoch = s.yes(tok, "gc", due, epoch)
		s.end(tok)
	}
	d := s.open("d", time.Hour)
	if epoch, wait := s.take(d, "gc", due); epoch != -1 || wait != 0 {
		t.Errorf("epoch %d, wait %v; want -1: given up", epoch, wait)
	}
	next := s.yes(d, "gc", due.Add(time.Second/2), epoch) // a later one is no attempt of it
	s.want(s.done("gc", epoch), store.ErrConflict)        // late
	s.end(d)                                              // unfinished
	e := s.open("e", time.Hour)
	s.no(e, "gc", due)                                  // an older one never again
	next = s.yes(e, "gc", due.Add(time.Second/2), next) // second attempt
	s.want(s.done("gc", next), nil)
	s.no(e, "gc", due.Add(time.Second/2))
	if got := s.last("gc"); !got.Equal(due.Add(time.Second / 2)) {
		t.Errorf("last %v", got)
	}
}

func doneGuard(t *testing.T, s *ledgerStore) {
	a, b := s.open("a", time.Hour), s.open("b", time.Hour)
	due := s.now()
	epoch := s.yes(a, "gc", due, 0)
	s.want(s.done("gc", epoch+1), store.ErrConflict)
	s.want(s.done("no", epoch), store.ErrConflict)
	s.no(b, "gc", due.Add(time.Second/2))
	s.want(s.done("gc", epoch), nil)
	s.want(s.done("gc", epoch), nil)
	next := s.yes(a, "gc", due.Add(time.Second/4), epoch)
	s.want(s.done("gc", epoch), store.ErrConflict)
	s.yes(a, "gc", due.Add(time.Second/2), next) // whose end it could not note
	s.want(s.done("gc", next), store.ErrConflict)
}

func lastDue(t *testing.T, s *ledgerStore) {
	if got := s.last("gc"); !got.IsZero() {
		t.Errorf("never run: %v", got)
	}
	due := s.now().Add(-time.Hour)
	s.yes(s.open("a", time.Hour), "gc", due, 0)
	if got := s.last("gc"); !got.Equal(due) {
		t.Errorf("got %v, want %v", got, due)
	}
}
