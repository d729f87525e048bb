package tracker_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	fixture "github.com/drover-cloud/drover/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

// The database stops as SIGSTOP stops it, without a word: calls end by their own deadlines, and nothing needs a restart when it is back.
func TestFrozenPostgres(t *testing.T) {
	t.Run("trk-45 PostgreSQL stops in the midst of an audit", func(t *testing.T) {
		server := fixture.FreshPostgres(t)
		db := fixture.PostgresStore(t, server.Database(t), quiet())
		h := host()
		tr, _ := build(t, func(c *tracker.Config) { c.Tx, c.Store, c.AuditTimeout = db, db.Tracker(), 3*time.Second }, h)
		if err := take(t.Context(), tr, "before", "h1"); err != nil {
			t.Fatal(err)
		}
		within := func(what string, limit time.Duration, f func() error) {
			t.Helper()
			begun := time.Now()
			if err := f(); err == nil {
				t.Errorf("%s: no error of a server that is stopped", what)
			}
			if d := time.Since(begun); d > limit {
				t.Errorf("%s ended after %v", what, d)
			}
		}
		server.Freeze(t)
		h.res.MemoryMiB++
		audit := make(chan error, 1)
		go func() { _, err := tr.Audit(t.Context(), "h1"); audit <- err }()
		for range 3 {
			within("a claim", 3*time.Second, func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				return take(ctx, tr, "frozen", "h1")
			})
		}
		within("the audit", 6*time.Second, func() error { return <-audit })
		if u, ok := tr.Usage("h1"); !ok || u.Used.MemoryMiB != 16 {
			t.Errorf("%+v", u)
		}
		server.Thaw(t)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for { // connections given up meanwhile are made anew
			if err := take(ctx, tr, "after", "h1"); err == nil {
				break
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		r, err := tr.Audit(ctx, "h1")
		if err != nil || r.Usage.Capacity.MemoryMiB != h.res.MemoryMiB {
			t.Fatalf("%+v, %v", r, err)
		}
		rows, err := tr.Claims(ctx, "h1")
		if err != nil || r.Usage.InFlight != len(rows) {
			t.Errorf("%d in flight, %+v, %v", r.Usage.InFlight, rows, err)
		}
	})
}
