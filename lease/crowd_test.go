package lease_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// TestCrowd: sessions by the thousand that died make no difference to those that live; 10 000 with DROVER_LONG.
func TestCrowd(t *testing.T) {
	t.Run("lease-12 many sessions", func(t *testing.T) {
		n := 1000
		if os.Getenv("DROVER_LONG") != "" {
			n = 10_000
		}
		st := fixture.PostgresStore(t, fixture.Postgres(t).Database(t), drover.Env{Logger: quiet})
		in := func(f func(ctx context.Context, tx store.Tx) error) {
			t.Helper()
			if err := st.InTx(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		var last lease.Token
		for i := 0; i < n; i += 500 { // over as soon as it is open, the last one's lease too
			in(func(ctx context.Context, tx store.Tx) (err error) {
				for k := i; k < min(i+500, n); k++ {
					if last, err = st.Leases().Open(ctx, tx, lease.Info{Name: fmt.Sprint("s", k), State: lease.Active}, "p", 3*time.Second); err != nil {
						return err
					}
				}
				_, err = st.Leases().Acquire(ctx, tx, last, fmt.Sprint("held by ", i))
				return err
			})
		}
		in(func(ctx context.Context, tx store.Tx) error {
			_, err := st.Leases().Acquire(ctx, tx, last, "x")
			return err
		})
		s := session(t, st, "survivor")
		var now time.Time
		for end := time.Now().Add(3 * time.Second); now.Before(end); time.Sleep(50 * time.Millisecond) {
			in(func(_ context.Context, tx store.Tx) error {
				now = tx.Now()
				return nil
			})
		}
		var dead []lease.Token
		sweeps := 0
		for ; len(dead) < n; sweeps++ {
			before := len(dead)
			in(func(ctx context.Context, tx store.Tx) (err error) {
				dead, err = s.Dead(ctx, tx)
				return err
			})
			if len(dead) <= before {
				t.Fatalf("sweep %d: %d dead, before it %d", sweeps, len(dead), before)
			}
		}
		for i := 1; i < n; i++ {
			if dead[i].Epoch <= dead[i-1].Epoch {
				t.Fatalf("%+v after %+v", dead[i], dead[i-1])
			}
		}
		if sweeps > n/100+1 {
			t.Errorf("%d sweeps for %d sessions", sweeps, n)
		}
		if tok := mustAcquire(t, s); !last.Less(tok) {
			t.Errorf("%+v after %+v", tok, last)
		}
		best := time.Hour
		for range 3 {
			at := time.Now()
			if err := s.Announce(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(at))
		}
		if t.Logf("%d sessions dead in %d sweeps, then a renewal took %v", n, sweeps, best); best > time.Second {
			t.Errorf("a renewal took %v", best)
		}
	})
}
