package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

func onVM(c verb) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: c.VM} }

// verb is a command on one machine.
type verb struct {
	VM string `param:"vm,required"`
}

func TestIdentity(t *testing.T) {
	t.Run("dispatch-22 each f its own caller", func(t *testing.T) {
		var db memory.Store
		var mu sync.Mutex
		seen := map[string]string{} // by job
		var regs [2]dispatch.Registry
		var ms [2]*job.Manager
		var strangers atomic.Int32
		for n := range regs {
			r := &regs[n]
			r.Restore = func(_ context.Context, id map[string]string) (any, error) {
				today := user(id["user"], "role-"+id["user"])
				return today, nil
			}
			ms[n] = manager(t, &db, func(m *job.Manager) {
				dispatch.Async(r, m, "who", nil, func(ctx context.Context, c verb) (int, error) {
					caller := dispatch.Caller(ctx).(map[string]string)
					j, _ := job.FromContext(ctx)
					name, version := dispatch.Name(ctx)
					mu.Lock()
					defer mu.Unlock()
					seen[j.ID] = fmt.Sprint(caller["user"], caller["roles"], trace.SpanContextFromContext(ctx).TraceID(), name, version, dispatch.Executing(ctx))
					return 0, nil
				})
				job.Handle(m, "plain", func(ctx context.Context, _ struct{}) (int, error) {
					name, _ := dispatch.Name(ctx)
					if dispatch.Caller(ctx) != nil || dispatch.EntitiesOf(ctx) != nil || name != "" || dispatch.StartID(ctx) != "" {
						strangers.Add(1)
					}
					return 0, nil
				})
			}, named(fmt.Sprint("n", n)))
		}
		want := map[string]string{}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				name := fmt.Sprint("user", i%10)
				tid := trace.TraceID{byte(i + 1), 7}
				ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: trace.SpanID{1}}))
				out, err := regs[i%2].Dispatch(ctx, &dispatch.Command{Name: "who", Params: map[string]string{"vm": "1"}, Caller: user(name)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want[out.(dispatch.Accepted).JobID] = fmt.Sprint(name, "role-"+name+",", tid, "who", "1", true)
				mu.Unlock()
				if _, err := ms[i%2].Submit(ctx, job.Request{Kind: "plain"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for id := range want {
			final(t, ms[0], id)
		}
		mu.Lock()
		defer mu.Unlock()
		for id, w := range want {
			if seen[id] != w {
				t.Errorf("saw %s, want %s", seen[id], w)
			}
		}
		eventually(t, "plain jobs end", func() bool {
			n := 0
			for range ms[0].List(t.Context(), job.Query{Kinds: []string{"plain"}}) {
				n++
			}
			return n == 0
		})
		if strangers.Load() > 0 || len(want) != 100 {
			t.Errorf("%d jobs saw the caller of another, %d commands", strangers.Load(), len(want))
		}
	})
	t.Run("dispatch-21 one trace", func(t *testing.T) {
		rec := &spans{}
		env := drover.Env{Tracer: rec}
		r := dispatch.Registry{Env: env}
		var db memory.Store
		m := manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "stop", nil, func(context.Context, verb) (int, error) { return 0, nil })
		}, func(c *job.Config) { c.Env = env })
		a := accept(t, &r, dispatch.Command{Name: "stop", Params: map[string]string{"vm": "1"}})
		final(t, m, a.JobID)
		eventually(t, "spans", func() bool { return rec.find("job.run cmd.stop") != nil })
		first, run := rec.find("dispatch stop"), rec.find("job.run cmd.stop")
		if first == nil || run.sc.TraceID() != first.sc.TraceID() {
			t.Errorf("%+v and %+v", first, run)
		}
	})
	t.Run("dispatch-49 identity", func(t *testing.T) {
		var db memory.Store
		refuse := errors.New("gone")
		r := dispatch.Registry{
			Identify: func(c any) map[string]string { id, _ := c.(map[string]string); return id },
			Restore: func(_ context.Context, id map[string]string) (any, error) {
				if id["user"] == "leaver" {
					return nil, refuse
				}
				return id, nil
			},
		}
		m := manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "stop", nil, func(context.Context, verb) (int, error) { return 0, nil })
		})
		cmd := dispatch.Command{Name: "stop", Params: map[string]string{"vm": "1"}}
		cmd.Caller = map[string]string{"user": "ann", "note": strings.Repeat("x", 8<<10)}
		if _, err := r.Dispatch(t.Context(), &cmd); dispatch.CodeOf(err) != dispatch.Invalid {
			t.Errorf("large identity: %v", err)
		}
		cmd.Caller = 42
		if _, err := r.Dispatch(t.Context(), &cmd); dispatch.CodeOf(err) != dispatch.Internal {
			t.Errorf("no identity: %v", err)
		}
		if n := jobsStored(t, m); n != 0 {
			t.Errorf("%d jobs", n)
		}
		cmd.Caller = user("leaver")
		failedWith(t, final(t, m, accept(t, &r, cmd).JobID), dispatch.Forbidden)
	})
}

// guarded is a command whose rule can be tightened.
type guarded struct {
	VM dispatch.UUID `param:"vm,required,entity=vm"`
}

var tightened atomic.Bool

func (guarded) Validate() error {
	if tightened.Load() {
		return errors.New("not on Sundays")
	}
	return nil
}

func TestRevalidation(t *testing.T) {
	for name, c := range map[string]struct {
		change func(gone, fired *atomic.Bool)
		want   dispatch.Code
	}{
		"entity deleted":    {func(gone, _ *atomic.Bool) { gone.Store(true) }, dispatch.NotFound},
		"role withdrawn":    {func(_, fired *atomic.Bool) { fired.Store(true) }, dispatch.Forbidden},
		"rule tightened":    {func(_, _ *atomic.Bool) { tightened.Store(true) }, dispatch.Invalid},
		"nothing happened":  {func(_, _ *atomic.Bool) {}, ""},
		"all of them, once": {func(gone, fired *atomic.Bool) { fired.Store(true); gone.Store(true) }, dispatch.Forbidden},
	} {
		t.Run("dispatch-30 "+name, func(t *testing.T) {
			defer tightened.Store(false)
			var db memory.Store
			var gone, fired atomic.Bool
			var ran atomic.Int32
			make := func(m *job.Manager) *dispatch.Registry {
				r := &dispatch.Registry{
					Entities: func(_ context.Context, typ string, ids []string) (map[string]dispatch.Entity, error) {
						out := map[string]dispatch.Entity{}
						for _, id := range ids {
							if !gone.Load() {
								out[id] = dispatch.Entity{Type: typ, ID: id}
							}
						}
						return out, nil
					},
					Restore: func(_ context.Context, id map[string]string) (any, error) {
						if fired.Load() {
							return user(id["user"]), nil
						}
						return id, nil
					},
				}
				dispatch.Async(r, m, "stop", nil, func(context.Context, guarded) (int, error) { ran.Add(1); return 0, nil }, dispatch.Roles("operator"))
				return r
			}
			var r *dispatch.Registry
			front := manager(t, &db, func(m *job.Manager) { r = make(m) }, submitOnly)
			a := accept(t, r, dispatch.Command{Name: "stop", Params: map[string]string{"vm": someID}, Caller: user("ann", "operator")})
			c.change(&gone, &fired)
			manager(t, &db, func(m *job.Manager) { make(m) }, named("back"))
			j := final(t, front, a.JobID)
			if c.want == "" {
				if j.State != job.Succeeded || ran.Load() != 1 {
					t.Errorf("%s %+v", j.State, j.Error)
				}
				return
			}
			failedWith(t, j, c.want)
			if ran.Load() != 0 {
				t.Error("f was called")
			}
		})
	}
}

func TestInside(t *testing.T) {
	t.Run("dispatch-37 a command in a handler is a child", func(t *testing.T) {
		var db memory.Store
		var r dispatch.Registry
		var mu sync.Mutex
		callers := map[string]string{}
		m := manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "child", nil, func(ctx context.Context, c verb) (int, error) {
				if c.VM == "slow" {
					<-ctx.Done()
					return 0, ctx.Err()
				}
				mu.Lock()
				callers["child"] = dispatch.Caller(ctx).(map[string]string)["user"]
				mu.Unlock()
				return 7, nil
			}, dispatch.Cancellable())
			dispatch.Sync(&r, "look", func(ctx context.Context, c verb) (int, error) {
				mu.Lock()
				callers["look"] = dispatch.Caller(ctx).(map[string]string)["user"]
				mu.Unlock()
				return 1, nil
			})
			dispatch.Async(&r, m, "parent", nil, func(ctx context.Context, c verb) (int, error) {
				if out, err := r.Dispatch(ctx, &dispatch.Command{Name: "look", Params: map[string]string{"vm": c.VM}}); err != nil || out != 1 {
					return 0, fmt.Errorf("sync in a handler: %v %w", out, err)
				}
				j, _ := job.FromContext(ctx)
				out, err := r.Dispatch(ctx, &dispatch.Command{Name: "child", Params: map[string]string{"vm": c.VM}, Idem: "of " + j.ID}) // it parks, and runs again
				if err != nil {
					return 0, err
				}
				return job.Await[int](ctx, out.(dispatch.Accepted).JobID)
			}, dispatch.Cancellable(), dispatch.Job(job.Timeout(time.Minute)))
		})
		a := accept(t, &r, dispatch.Command{Name: "parent", Params: map[string]string{"vm": "1"}, Caller: user("ann")})
		j := final(t, m, a.JobID)
		if n, err := job.Result[int](j); err != nil || n != 7 {
			t.Fatalf("%d %v", n, err)
		}
		mu.Lock()
		if callers["child"] != "ann" || callers["look"] != "ann" {
			t.Errorf("callers %v", callers)
		}
		mu.Unlock()
		all := func(parent string) (js []*job.Job) {
			for j, err := range m.List(t.Context(), job.Query{Parent: parent, States: []job.State{job.Running, job.Ready, job.Succeeded, job.Cancelled}}) {
				if err != nil {
					t.Fatal(err)
				}
				js = append(js, j)
			}
			return js
		}
		if js := all(a.JobID); len(js) != 1 || js[0].Kind != "cmd.child" || js[0].Identity["user"] != "ann" {
			t.Errorf("%d children", len(js))
		}
		b := accept(t, &r, dispatch.Command{Name: "parent", Params: map[string]string{"vm": "slow"}, Caller: user("ann")})
		eventually(t, "the child runs", func() bool { js := all(b.JobID); return len(js) == 1 && js[0].State == job.Running })
		if _, err := m.Cancel(t.Context(), b.JobID, "enough"); err != nil {
			t.Fatal(err)
		}
		child := all(b.JobID)[0]
		if j := final(t, m, child.ID); j.State != job.Cancelled {
			t.Errorf("child %s %+v", j.State, j.Error)
		}
	})
	t.Run("dispatch-37 a child of the same key borrows the turn", func(t *testing.T) {
		var db memory.Store
		var r dispatch.Registry
		var mu sync.Mutex
		var order []string
		said := func(s string) { mu.Lock(); defer mu.Unlock(); order = append(order, s) }
		var jobs *job.Manager
		jobs = manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "stop", nil, func(context.Context, verb) (int, error) { said("stop"); return 0, nil }, dispatch.SyncKey(onVM))
			for _, way := range []string{"parks", "blocks"} {
				dispatch.Async(&r, m, way, nil, func(ctx context.Context, c verb) (int, error) {
					j, _ := job.FromContext(ctx)
					out, err := r.Dispatch(ctx, &dispatch.Command{Name: "stop", Params: map[string]string{"vm": c.VM}, Idem: "of " + j.ID})
					if err != nil {
						return 0, err
					}
					id := out.(dispatch.Accepted).JobID
					if way == "parks" {
						_, err = job.Await[int](ctx, id)
					} else {
						_, err = jobs.Wait(ctx, id)
					}
					if err == nil {
						said(way)
					}
					return 0, err
				}, dispatch.SyncKey(onVM))
			}
			dispatch.Async(&r, m, "outsider", nil, func(context.Context, verb) (int, error) { said("outsider"); return 0, nil }, dispatch.SyncKey(onVM))
		})
		for _, way := range []string{"parks", "blocks"} {
			order = nil
			params := map[string]string{"vm": "1"}
			a := accept(t, &r, dispatch.Command{Name: way, Params: params})
			b := accept(t, &r, dispatch.Command{Name: "outsider", Params: params})
			if j := final(t, jobs, a.JobID); j.State != job.Succeeded {
				t.Errorf("%s: %s %+v", way, j.State, j.Error)
			}
			final(t, jobs, b.JobID)
			mu.Lock()
			if got := fmt.Sprint(order); got != "[stop "+way+" outsider]" {
				t.Error(got)
			}
			mu.Unlock()
		}
	})
	t.Run("dispatch-37 children are accepted while draining", func(t *testing.T) {
		var db memory.Store
		var r dispatch.Registry
		let, in := make(chan struct{}), make(chan struct{})
		m := manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "child", nil, func(context.Context, verb) (int, error) { return 0, nil })
			dispatch.Async(&r, m, "parent", nil, func(ctx context.Context, c verb) (string, error) {
				close(in)
				<-let
				out, err := r.Dispatch(ctx, &dispatch.Command{Name: "child", Params: map[string]string{"vm": "1"}})
				if err != nil {
					return "", err
				}
				return out.(dispatch.Accepted).JobID, nil
			})
		})
		a := accept(t, &r, dispatch.Command{Name: "parent", Params: map[string]string{"vm": "1"}})
		<-in
		drained := make(chan error, 1)
		go func() { drained <- m.Drain(context.Background()) }()
		eventually(t, "drains", func() bool { return m.Accepting() != nil })
		close(let)
		j := final(t, m, a.JobID)
		if id, err := job.Result[string](j); err != nil || id == "" {
			t.Errorf("%q %v", id, err)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
	t.Run("dispatch-47 cancel", func(t *testing.T) {
		var db memory.Store
		var r dispatch.Registry
		started := make(chan struct{}, 2)
		let := make(chan struct{})
		body := func(ctx context.Context, _ verb) (int, error) {
			started <- struct{}{}
			select {
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			case <-let:
				return 1, nil
			}
		}
		m := manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "soft", nil, body, dispatch.Cancellable())
			dispatch.Async(&r, m, "hard", nil, body)
		})
		soft := accept(t, &r, dispatch.Command{Name: "soft", Params: map[string]string{"vm": "1"}})
		hard := accept(t, &r, dispatch.Command{Name: "hard", Params: map[string]string{"vm": "1"}})
		<-started
		<-started
		if _, err := m.Cancel(t.Context(), soft.JobID, "no"); err != nil {
			t.Error(err)
		}
		if j := final(t, m, soft.JobID); j.State != job.Cancelled {
			t.Errorf("%s %+v", j.State, j.Error)
		}
		if _, err := m.Cancel(t.Context(), hard.JobID, "no"); dispatch.CodeOf(err) != dispatch.WrongState || !errors.Is(err, job.ErrNotCancellable) {
			t.Errorf("not cancellable: %v", err)
		}
		close(let)
		if j := final(t, m, hard.JobID); j.State != job.Succeeded {
			t.Errorf("%s", j.State)
		}
	})
	t.Run("dispatch-38 versions and nodes", func(t *testing.T) {
		var db memory.Store
		var old, both dispatch.Registry
		register := func(r *dispatch.Registry, m *job.Manager, version string) {
			dispatch.Async(r, m, "stop", nil, func(context.Context, verb) (string, error) { return "v" + version, nil }, dispatch.Version(version))
		}
		manager(t, &db, func(m *job.Manager) { register(&old, m, "1") }, named("old"))
		front := manager(t, &db, func(m *job.Manager) { register(&both, m, "1"); register(&both, m, "2") }, submitOnly)
		ask := func(version string) dispatch.Accepted {
			return accept(t, &both, dispatch.Command{Name: "stop", Version: version, Params: map[string]string{"vm": "1"}})
		}
		two, one := ask(""), ask("1")
		if v, err := job.Result[string](final(t, front, one.JobID)); err != nil || v != "v1" {
			t.Errorf("%q %v", v, err)
		}
		if j, err := front.Get(t.Context(), two.JobID); err != nil || j.State != job.Ready || j.Kind != "cmd.stop@2" {
			t.Errorf("%+v %v", j, err)
		}
		var late dispatch.Registry
		manager(t, &db, func(m *job.Manager) { register(&late, m, "2") }, named("new"))
		if v, err := job.Result[string](final(t, front, two.JobID)); err != nil || v != "v2" {
			t.Errorf("%q %v", v, err)
		}
		if _, err := both.Dispatch(t.Context(), &dispatch.Command{Name: "stop", Version: "3"}); !errors.Is(err, dispatch.ErrUnknown) {
			t.Error(err)
		}
	})
}

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
