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

// leaseStore wraps each method in a transaction of its own.
type leaseStore struct {
	testkit.Stores
	t testing.TB
	l lease.Store
}

func newLeaseStore(t testing.TB, open func(t testing.TB) testkit.Stores) *leaseStore {
	s := open(t)
	return &leaseStore{s, t, s.Leases()}
}

func (s *leaseStore) open(name string, ttl time.Duration) lease.Token {
	s.t.Helper()
	tok, err := s.tryOpen(lease.Info{Name: name, State: lease.Active}, name+"'s process", ttl)
	if err != nil {
		s.t.Fatal(err)
	}
	return tok
}

func (s *leaseStore) tryOpen(i lease.Info, process string, ttl time.Duration) (tok lease.Token, err error) {
	err = s.InTx(s.t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
		tok, err = s.l.Open(ctx, tx, i, process, ttl)
		return err
	})
	return tok, err
}

func (s *leaseStore) renew(tok lease.Token, i lease.Info, ttl time.Duration) error {
	return s.InTx(s.t.Context(), func(ctx context.Context, tx store.Tx) error { return s.l.Renew(ctx, tx, tok, i, ttl) })
}

func (s *leaseStore) close(tok lease.Token) error {
	return s.InTx(s.t.Context(), func(ctx context.Context, tx store.Tx) error { return s.l.Close(ctx, tx, tok) })
}

func (s *leaseStore) sweep(limit int) (dead []int64) {
	s.t.Helper()
	in(s.t, s, func(ctx context.Context, tx store.Tx) error {
		toks, err := s.l.Sweep(ctx, tx, limit)
		dead = nil
		for _, tok := range toks {
			dead = append(dead, tok.Epoch)
		}
		return err
	})
	return dead
}

func (s *leaseStore) list() (all []lease.Info) {
	s.t.Helper()
	in(s.t, s, func(ctx context.Context, tx store.Tx) (err error) {
		all, err = s.l.List(ctx, tx)
		return err
	})
	return all
}

func (s *leaseStore) acquire(tok lease.Token, name string) (got lease.Token, err error) {
	err = s.InTx(s.t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
		got, err = s.l.Acquire(ctx, tx, tok, name)
		return err
	})
	return got, err
}

func (s *leaseStore) mustAcquire(tok lease.Token, name string) lease.Token {
	s.t.Helper()
	got, err := s.acquire(tok, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

func (s *leaseStore) release(tok lease.Token, name string) error {
	return s.InTx(s.t.Context(), func(ctx context.Context, tx store.Tx) error { return s.l.Release(ctx, tx, tok, name) })
}

// hinted runs f and waits for the hint, which real stores deliver a little later.
func (s *leaseStore) hinted(topic string, f func()) {
	s.t.Helper()
	c, stop := s.Notifier().Wake(topic)
	defer stop()
	drain(c)
	f()
	select {
	case <-c:
	case <-time.After(5 * time.Second):
		s.t.Errorf("no hint on %q", topic)
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func (s *leaseStore) want(err, target error) {
	s.t.Helper()
	if !errors.Is(err, target) {
		s.t.Errorf("got %v, want %v", err, target)
	}
}
