// Package storetest is what every store package must pass: a check per numbered obligation of the Store interfaces.
//
//	func TestStore(t *testing.T) { storetest.Run(t, func(t testing.TB) testkit.Stores { return open(t) }) }
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// Run checks the stores that open gives; each check opens its own, empty one.
//
// What the checks find by type assertion: Advance(d), which moves the store's clock forward; AfterFailover(ctx) error, which
// raises the store's incarnation; Conflict(ctx, tx) error, which makes an open transaction fail as a serialization failure
// does. Without them the checks that need them are skipped. A store with a method Remote(), which keeps no transaction open, and one with one
// transaction at a time are asked nothing about open ones.
func Run(t *testing.T, open func(t testing.TB) testkit.Stores) {
	t.Run("tx", func(t *testing.T) { transactions(t, open) })
	t.Run("insert", func(t *testing.T) { inserts(t, open) })
	t.Run("claim", func(t *testing.T) { claims(t, open) })
	t.Run("move", func(t *testing.T) { moves(t, open) })
	t.Run("log", func(t *testing.T) { logs(t, open) })
	t.Run("finish", func(t *testing.T) { finishes(t, open) })
	t.Run("waits", func(t *testing.T) { waits(t, open) })
	t.Run("settings", func(t *testing.T) { settings(t, open) })
	t.Run("list", func(t *testing.T) { lists(t, open) })
	t.Run("queues", func(t *testing.T) { queues(t, open) })
	t.Run("places", func(t *testing.T) { places(t, open) })
	t.Run("lending", func(t *testing.T) { lending(t, open) })
	t.Run("items", func(t *testing.T) { items(t, open) })
	t.Run("leases", func(t *testing.T) { leases(t, open) })
	t.Run("ledger", func(t *testing.T) { ledger(t, open) })
	t.Run("records", func(t *testing.T) { records(t, open) })
	t.Run("tracker", func(t *testing.T) { trackers(t, open) })
	t.Run("outbox", func(t *testing.T) { outboxes(t, open) })
	t.Run("agents", func(t *testing.T) { agents(t, open) })
	t.Run("commits", func(t *testing.T) { commits(t, open) })
}

// in runs f in a transaction that must commit.
func in(t testing.TB, s store.Runner, f func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	if err := s.InTx(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// failing runs f in a transaction and answers its error.
func failing(t testing.TB, s store.Runner, f func(ctx context.Context, tx store.Tx) error) error {
	t.Helper()
	err := s.InTx(t.Context(), f)
	if err == nil {
		t.Fatal("no error")
	}
	return err
}

// advance moves the store's clock, or skips the check.
func advance(t testing.TB, s testkit.Stores, d time.Duration) {
	t.Helper()
	a, ok := s.(interface{ Advance(d time.Duration) })
	if !ok {
		t.Skip("this store's clock cannot be moved")
	}
	a.Advance(d)
}
