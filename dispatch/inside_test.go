package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

func onVM(c verb) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: c.VM} }

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
