package dispatch_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// nodeOn runs a manager on db with a session of 30 s; it is stopped at the end.
func nodeOn(t *testing.T, db *shaky, name string, register func(m *job.Manager)) *job.Manager {
	t.Helper()
	env := drover.Env{Node: name}
	s, err := lease.New(lease.Config{Env: env, Tx: db, Store: db.Leases(), TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m, err := job.New(job.Config{Env: env, Tx: db, Store: db.Store.Jobs(), Session: s, StopTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	register(m)
	var g drover.Group
	g.Add("session", s)
	g.Add("jobs", m)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

func TestLostNode(t *testing.T) {
	for name, fail := range map[string]bool{"runs again": false, "fails": true} {
		t.Run("dispatch-48 "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, runs := newShaky(), make(chan string, 10)
				b := &shaky{Store: a.Store}
				let := make(chan struct{})
				var abandoned atomic.Int32
				register := func(node string, r *dispatch.Registry) func(m *job.Manager) {
					return func(m *job.Manager) {
						opts := []dispatch.Option{}
						if fail {
							opts = append(opts, dispatch.Job(job.OnLost(job.Fail), job.Abandon(func(context.Context, *job.Job) error { abandoned.Add(1); return nil })))
						}
						dispatch.Async(r, m, "stop", nil, func(ctx context.Context, c verb) (string, error) {
							runs <- fmt.Sprint(node, " ", dispatch.Caller(ctx).(map[string]string)["user"], " ", c.VM)
							if node == "a" {
								<-let
							}
							return node, nil
						}, opts...)
					}
				}
				var ra, rb dispatch.Registry
				nodeOn(t, a, "a", register("a", &ra))
				t.Cleanup(func() { close(let) }) // before a is stopped
				acc := accept(t, &ra, dispatch.Command{Name: "stop", Params: map[string]string{"vm": "1"}, Caller: user("ann")})
				if got := <-runs; got != "a ann 1" {
					t.Error(got)
				}
				mb := nodeOn(t, b, "b", register("b", &rb))
				a.down.Store(true)
				j := final(t, mb, acc.JobID)
				if fail {
					failedWith(t, j, dispatch.Lost)
					if abandoned.Load() != 1 {
						t.Errorf("the hook ran %d times", abandoned.Load())
					}
					return
				}
				if got := <-runs; got != "b ann 1" || j.State != job.Succeeded {
					t.Errorf("%s, %s", got, j.State)
				}
			})
		})
	}
}

func TestCreateOnPostgres(t *testing.T) {
	dsn := testkit.Postgres(t).Database(t)
	db := testkit.PostgresStore(t, dsn, drover.Env{})
	host := testkit.OpenPostgres(t, dsn, 4)
	if _, err := host.ExecContext(t.Context(), "CREATE TABLE vm (id TEXT PRIMARY KEY, name TEXT)"); err != nil {
		t.Fatal(err)
	}
	var created atomic.Int32
	var refuse, again atomic.Bool
	r := dispatch.Registry{Tx: db}
	m := manager(t, db, func(m *job.Manager) {
		dispatch.Async(&r, m, "deploy", func(ctx context.Context, tx store.Tx, c *deploy) (string, error) {
			n := created.Add(1)
			b, err := db.Bun(tx)
			if err != nil {
				return "", err
			}
			id := fmt.Sprintf("vm-%s-%d", c.Name, n)
			if _, err := b.ExecContext(ctx, "INSERT INTO vm VALUES (?, ?)", id, c.Name); err != nil {
				return "", err
			}
			if again.CompareAndSwap(true, false) { // as the server says it of a lost race
				_, err = b.ExecContext(ctx, "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure'; END $$")
			}
			return id, err
		}, func(context.Context, deploy) (int, error) { return 0, nil })
	}, func(c *job.Config) { c.Store = full{db.Jobs(), &refuse} })
	ask := func(name string) (dispatch.Accepted, error) {
		out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "deploy", Params: map[string]string{"name": name}})
		a, _ := out.(dispatch.Accepted)
		return a, err
	}
	t.Run("dispatch-26 insert fails on PostgreSQL", func(t *testing.T) {
		refuse.Store(true)
		defer refuse.Store(false)
		if a, err := ask("x"); err == nil || created.Load() != 1 || countRows(t, host, "vm") != 0 || jobsStored(t, m) != 0 {
			t.Errorf("%+v %v, created %d times", a, err, created.Load())
		}
	})
	t.Run("dispatch-26 serialization failure on PostgreSQL", func(t *testing.T) {
		created.Store(0)
		again.Store(true)
		a, err := ask("y")
		if err != nil || created.Load() != 2 || countRows(t, host, "vm") != 1 || a.Entity != "vm-y-2" || final(t, m, a.JobID).State != job.Succeeded {
			t.Errorf("%+v %v, created %d times", a, err, created.Load())
		}
	})
}

func TestTurnsOnPostgres(t *testing.T) {
	t.Run("dispatch-31 two stops of one machine", func(t *testing.T) {
		dsn := testkit.Postgres(t).Database(t)
		var running, most atomic.Int32
		var state atomic.Value
		state.Store("on")
		var regs [2]dispatch.Registry
		var ms [2]*job.Manager
		for n := range regs {
			db := testkit.PostgresStore(t, dsn, drover.Env{})
			ms[n] = manager(t, db, func(m *job.Manager) {
				dispatch.Async(&regs[n], m, "stop", nil, func(_ context.Context, c verb) (int, error) {
					most.Store(max(most.Load(), running.Add(1)))
					defer running.Add(-1)
					if state.Load() != "on" {
						return 0, dispatch.Errorf(dispatch.WrongState, "machine %s is off", c.VM)
					}
					time.Sleep(50 * time.Millisecond)
					state.Store("off")
					return 1, nil
				}, dispatch.SyncKey(onVM))
			}, named(fmt.Sprint("n", n)))
		}
		var wg sync.WaitGroup
		var ids [2]string
		for n := range regs {
			wg.Go(func() {
				out, err := regs[n].Dispatch(t.Context(), &dispatch.Command{Name: "stop", Params: map[string]string{"vm": "1"}})
				if err != nil {
					t.Error(err)
					return
				}
				ids[n] = out.(dispatch.Accepted).JobID
			})
		}
		wg.Wait()
		x, y := final(t, ms[0], ids[0]), final(t, ms[1], ids[1])
		if x.State == job.Failed {
			x, y = y, x
		}
		if x.State != job.Succeeded || most.Load() != 1 {
			t.Errorf("%s, %d at once", x.State, most.Load())
		}
		failedWith(t, y, dispatch.WrongState)
	})
}
