package dispatch_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver of the test's database

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

// manager is a job manager on db that runs until the test ends.
func manager(t *testing.T, db job.DB, register func(m *job.Manager), tune ...func(*job.Config)) *job.Manager {
	t.Helper()
	cfg := job.Config{DB: db, Poll: 100 * time.Millisecond}
	for _, f := range tune {
		f(&cfg)
	}
	m, err := job.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(m)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	return m
}

type deploy struct {
	Name string `param:"name,required"`
}

type deployed struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Caller string `json:"caller"`
}

// disk is a database with a table of the host's own beside drover's.
func disk(t *testing.T) (*sqlite.Store, *bun.DB) {
	t.Helper()
	dsn, err := sqlite.DSN(filepath.Join(t.TempDir(), "host.db"))
	if err != nil {
		t.Fatal(err)
	}
	sqldb, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sqldb.Close() })
	db := bun.NewDB(sqldb, sqlitedialect.New())
	st := sqlite.New(db, sqlite.Config{})
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE vm (id TEXT PRIMARY KEY, name TEXT UNIQUE)"); err != nil {
		t.Fatal(err)
	}
	return st, db
}

func count(t *testing.T, db *bun.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM vm").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// insertVM is a create function: the host's row in the submitting transaction.
func insertVM(st *sqlite.Store, calls *atomic.Int32) func(context.Context, store.Tx, *deploy) (string, error) {
	return func(ctx context.Context, tx store.Tx, c *deploy) (string, error) {
		n := calls.Add(1)
		host, err := st.Bun(tx)
		if err != nil {
			return "", err
		}
		id := fmt.Sprintf("vm-%s-%d", c.Name, n)
		_, err = host.ExecContext(ctx, "INSERT INTO vm VALUES (?, ?)", id, c.Name)
		return id, err
	}
}

func jobsStored(t *testing.T, m *job.Manager) (n int) {
	t.Helper()
	for _, err := range m.List(t.Context(), job.Query{States: []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked, job.Succeeded, job.Failed, job.Cancelled}}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func submit(t *testing.T, r *dispatch.Registry, name string, params map[string]string) dispatch.Accepted {
	t.Helper()
	out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: name, Params: params, Caller: map[string]string{"user": "ann", "account": "a1"}})
	if err != nil {
		t.Fatal(err)
	}
	return out.(dispatch.Accepted)
}

func TestAsync(t *testing.T) {
	t.Run("dispatch-21 async", func(t *testing.T) {
		var db memory.Store
		var r dispatch.Registry
		var runs atomic.Int32
		release := make(chan struct{})
		m := manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "deploy", nil, func(ctx context.Context, c deploy) (deployed, error) {
				runs.Add(1)
				<-release
				return deployed{Name: c.Name, Caller: dispatch.Caller(ctx).(map[string]string)["user"]}, nil
			}, dispatch.SyncKey(func(c deploy) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: c.Name} }))
		})
		a := submit(t, &r, "deploy", map[string]string{"NAME": "web"})
		if a.JobID == "" || a.Replayed {
			t.Fatalf("%+v", a)
		}
		close(release)
		j, err := m.Wait(t.Context(), a.JobID)
		if err != nil {
			t.Fatal(err)
		}
		res, err := job.Result[deployed](j)
		if err != nil || res.Name != "web" || res.Caller != "ann" || runs.Load() != 1 || j.Kind != "cmd.deploy" || j.Sync.ID != "web" {
			t.Errorf("%+v %v, %d runs, job %+v", res, err, runs.Load(), j)
		}
	})
	t.Run("dispatch-02 async-create", func(t *testing.T) {
		st, db := disk(t)
		r := dispatch.Registry{Tx: st}
		var created atomic.Int32
		m := manager(t, st, func(m *job.Manager) {
			dispatch.Async(&r, m, "deploy", insertVM(st, &created), func(ctx context.Context, c deploy) (deployed, error) {
				return deployed{ID: dispatch.EntityID(ctx), Name: c.Name}, nil
			})
		})
		a := submit(t, &r, "deploy", map[string]string{"name": "web"})
		j, err := m.Wait(t.Context(), a.JobID)
		if err != nil {
			t.Fatal(err)
		}
		res, err := job.Result[deployed](j)
		if err != nil || a.Entity != "vm-web-1" || res.ID != a.Entity || created.Load() != 1 || count(t, db) != 1 {
			t.Errorf("%+v, %+v, %v, created %d times", a, res, err, created.Load())
		}
	})
	t.Run("dispatch-03 create fails", func(t *testing.T) {
		st, db := disk(t)
		r := dispatch.Registry{Tx: st}
		m := manager(t, st, func(m *job.Manager) {
			dispatch.Async(&r, m, "deploy", func(ctx context.Context, tx store.Tx, c *deploy) (string, error) {
				host, err := st.Bun(tx)
				if err != nil {
					return "", err
				}
				if _, err := host.ExecContext(ctx, "INSERT INTO vm VALUES ('x', 'x')"); err != nil {
					return "", err
				}
				return "", dispatch.Errorf(dispatch.Allocation, "no address left in %s", "net1")
			}, func(ctx context.Context, c deploy) (deployed, error) { return deployed{}, nil })
		})
		_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "deploy", Params: map[string]string{"name": "web"}})
		if dispatch.CodeOf(err) != dispatch.Allocation || jobsStored(t, m) != 0 || count(t, db) != 0 {
			t.Errorf("%v, %d jobs, %d rows", err, jobsStored(t, m), count(t, db))
		}
	})
	t.Run("dispatch-23 create here, run there", func(t *testing.T) {
		var db memory.Store
		type node struct {
			reg dispatch.Registry
			m   *job.Manager
		}
		var front, back node
		var mu sync.Mutex
		created, ran := map[string]string{}, map[string]string{}
		started := make(chan struct{})
		for name, n := range map[string]*node{"front": &front, "back": &back} {
			n.reg.Tx = &db
			n.m = manager(t, &db, func(m *job.Manager) {
				dispatch.Async(&n.reg, m, "deploy", func(ctx context.Context, tx store.Tx, c *deploy) (string, error) {
					mu.Lock()
					defer mu.Unlock()
					created["vm-1"] = name
					return "vm-1", nil
				}, func(ctx context.Context, c deploy) (deployed, error) {
					<-started
					mu.Lock()
					defer mu.Unlock()
					ran[dispatch.EntityID(ctx)] = name
					return deployed{ID: dispatch.EntityID(ctx)}, nil
				})
			}, func(c *job.Config) {
				if name == "front" {
					c.Queues = map[string]int{}
				}
			})
		}
		a := submit(t, &front.reg, "deploy", map[string]string{"name": "web"})
		mu.Lock()
		if created[a.Entity] != "front" || ran[a.Entity] != "" {
			t.Errorf("created %v, ran %v", created, ran)
		}
		mu.Unlock()
		close(started)
		if j, err := front.m.Wait(t.Context(), a.JobID); err != nil || j.State != job.Succeeded {
			t.Fatalf("%+v %v", j, err)
		}
		if ran["vm-1"] != "back" {
			t.Errorf("ran %v", ran)
		}
	})
}

// chain counts an error and the longest line of its causes.
func chain(e *job.Error) int {
	longest := 0
	for i := range e.Causes {
		longest = max(longest, chain(&e.Causes[i]))
	}
	return longest + 1
}

func TestPublic(t *testing.T) {
	for _, c := range []dispatch.Code{dispatch.Internal, dispatch.NoCapacity, dispatch.Unavailable} {
		err := dispatch.Errorf(c, "host h1 is on fire")
		if got := dispatch.Public(err, true).Text; got != "host h1 is on fire" {
			t.Error(got)
		}
		if got := dispatch.Public(err, false).Text; got != "The operation could not be completed. Reference: " {
			t.Error(got)
		}
	}
	if dispatch.Public(nil, false) != nil {
		t.Error("nil is no error")
	}
}
