package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
)

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
