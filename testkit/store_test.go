package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/testkit"
)

// hosted is a store with a table of the host's.
type hosted struct {
	*sqlite.Store
	bun *bun.DB
}

func openHosted(t testing.TB, env drover.Env) (testkit.Stores, error) {
	db := fixture.OpenSQLite(t, fixture.SQLiteFile(t))
	h := hosted{sqlite.New(db, sqlite.Config{Env: env}), db}
	_, err := db.Exec(`CREATE TABLE host_effect (job TEXT PRIMARY KEY, node TEXT NOT NULL)`)
	return h, errors.Join(err, h.Migrate(context.Background()))
}

func TestStore(t *testing.T) {
	t.Parallel()
	testkit.Explore(t, 10, func(w *testkit.World) {
		w.JobInvariants()
		w.LeaseInvariants()
		own := w.Store().(hosted)
		var jobs *job.Manager
		build := func(n *testkit.Node) drover.Component {
			m, err := job.New(job.Config{Env: n.Env, DB: n.Store})
			if err != nil {
				w.T.Fatal(err)
			}
			job.Handle(m, "effect", func(ctx context.Context, _ int) (struct{}, error) {
				if err := n.Env.Sleep(ctx, 2*time.Second); err != nil {
					return struct{}{}, err
				}
				if err := testkit.Read(ctx, n.Store, "effects"); err != nil {
					return struct{}{}, err
				}
				j, _ := job.FromContext(ctx)
				return struct{}{}, n.Store.InTx(ctx, func(ctx context.Context, x store.Tx) error {
					q, err := own.Bun(testkit.Inner(x))
					if err != nil {
						return err
					}
					_, err = q.NewRaw(`INSERT INTO host_effect (job, node) VALUES (?, ?)`, j.ID, n.Name()).Exec(ctx)
					return errors.Join(err, job.FinishTx(ctx, x, struct{}{}))
				})
			})
			jobs = m
			return m
		}
		a := w.Node("a", build)
		w.Node("b", build)
		stop := w.Chaos(testkit.Hostile)
		for i := range 5 {
			r := job.Request{ID: fmt.Sprintf("00000000-0000-7000-8000-%012d", i), Kind: "effect", Args: i}
			for _, err := jobs.Submit(w.T.Context(), r); err != nil; _, err = jobs.Submit(w.T.Context(), r) {
				w.Advance(time.Second)
			}
		}
		stop()
		w.Heal()
		a.Restart()
		w.Advance(3 * time.Minute)
		for table, want := range map[string]int{"host_effect": 5, "drover_job WHERE state = 'succeeded'": 5} {
			var n int
			if err := own.bun.NewRaw(`SELECT count(*) FROM `+table).Scan(context.Background(), &n); err != nil || n != want {
				w.T.Errorf("%s: %d rows, want %d: %v", table, n, want, err)
			}
		}
	}, testkit.Store(openHosted), testkit.AtMost(50))
	t.Run("not of a node", func(t *testing.T) {
		if err := testkit.Read(t.Context(), hosted{}, ""); err == nil {
			t.Error("read")
		}
	})
}
