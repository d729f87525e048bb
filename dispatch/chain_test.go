package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// attach names its machines three ways.
type attach struct {
	VM    dispatch.UUID   `param:"vm,required,entity=vm,access=operate"`
	Disks []dispatch.UUID `param:"disks,entity=disk,access=use"`
	Nics  []struct {
		Net dispatch.UUID `param:"net,entity=net"`
	} `param:"nics"`
	For string `param:"for"`
}

func (a *attach) Entities() []dispatch.Entity {
	return []dispatch.Entity{{Type: "zone", ID: "z1", Access: "use"}}
}

func (a *attach) Owner() string { return a.For }

func TestAccess(t *testing.T) {
	const disk1, disk2, net1 = "11111111-8b86-d011-b42d-00c04fc964ff", "22222222-8b86-d011-b42d-00c04fc964ff", "33333333-8b86-d011-b42d-00c04fc964ff"
	t.Run("dispatch-40 refused by permit", func(t *testing.T) {
		var seen []string
		r := dispatch.Registry{Stages: probes(&seen), Permit: func(context.Context, any, dispatch.CommandInfo) error { return errors.New("no") }}
		dispatch.Sync(&r, "c", func(context.Context, empty) (int, error) { return 0, nil })
		_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c"})
		if !errors.Is(err, dispatch.ErrDenied) || slices.Contains(seen, "bind") {
			t.Errorf("%v, reached %v", err, seen)
		}
		if i := dispatch.Public(err, false).Info(); i.ErrorCode != 432 || i.CSErrorCode != 9999 || i.Status != 403 {
			t.Errorf("%+v", i)
		}
	})
	t.Run("dispatch-40 all entities in one call", func(t *testing.T) {
		db := &memory.Store{}
		var calls atomic.Int32
		var types []string
		var got []dispatch.Entity
		r := &dispatch.Registry{Tx: db}
		r.Entities = func(_ context.Context, typ string, ids []string) (map[string]dispatch.Entity, error) {
			types = append(types, fmt.Sprint(typ, len(ids)))
			out := map[string]dispatch.Entity{}
			for _, id := range ids {
				out[id] = dispatch.Entity{Type: typ, ID: id, Removed: id == disk2}
			}
			return out, nil
		}
		r.Authorize = func(ctx context.Context, c *dispatch.Command) error {
			calls.Add(1)
			got = dispatch.EntitiesOf(ctx)
			if c.Value.(*attach).For == "other" {
				return errors.New("not yours")
			}
			return nil
		}
		manager(t, db, func(m *job.Manager) {
			dispatch.Async(r, m, "attach", func(context.Context, store.Tx, *attach) (string, error) { return "a1", nil },
				func(context.Context, attach) (int, error) { return 0, nil })
		}, submitOnly)
		params := map[string]string{"vm": someID, "disks": disk1 + "," + disk1, "nics[3].net": net1}
		accept(t, r, dispatch.Command{Name: "attach", Params: params, Caller: user("ann")})
		want := []dispatch.Entity{
			{Type: "vm", ID: someID, Access: "operate"}, {Type: "disk", ID: disk1, Access: "use"}, {Type: "disk", ID: disk1, Access: "use"},
			{Type: "net", ID: net1}, {Type: "zone", ID: "z1", Access: "use"}, {Type: "account", ID: "account-ann", Access: "own"},
		}
		if calls.Load() != 1 || !slices.Equal(got, want) || !slices.Equal(types, []string{"vm1", "disk1", "net1"}) {
			t.Errorf("%d calls with %+v, asked %v", calls.Load(), got, types)
		}
		params["for"] = "other"
		_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "attach", Params: params, Caller: user("ann")})
		if dispatch.CodeOf(err) != dispatch.Forbidden || got[5].ID != "other" {
			t.Errorf("%v for %+v", err, got)
		}
		params["disks"] = disk1 + "," + disk2
		_, err = r.Dispatch(t.Context(), &dispatch.Command{Name: "attach", Params: params, Caller: user("ann")})
		wantField(t, err, "disks[1]", dispatch.NoSuchEntity)
	})
	t.Run("dispatch-10 roles inside structures", func(t *testing.T) {
		type c struct {
			L []struct {
				A string `param:"a"`
				S string `param:"s,required,roles=admin"`
			} `param:"l"`
		}
		var r dispatch.Registry
		dispatch.Sync(&r, "c", func(_ context.Context, x c) (string, error) { return x.L[0].A + x.L[0].S, nil })
		params := map[string]string{"l[0].a": "x", "l[0].s": "y"}
		for roles, want := range map[string]string{"admin": "xy", "user": "x"} {
			if out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: params, Caller: user("ann", roles)}); err != nil || out != want {
				t.Errorf("%s: %v %v", roles, out, err)
			}
		}
	})
	t.Run("dispatch-08 strict", func(t *testing.T) {
		var r dispatch.Registry
		dispatch.Sync(&r, "c", func(_ context.Context, x verb) (int, error) { return 1, nil })
		_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: map[string]string{"vm": "1", "page": "1", "zz": "2"}, Strict: true})
		wantField(t, err, "page", dispatch.Unknown)
	})
}

func TestOptionalStages(t *testing.T) {
	t.Run("dispatch-44 rate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := dispatch.Registry{Stages: dispatch.Standard().After("permit", "rate", dispatch.Rate(5, time.Second))}
			dispatch.Sync(&r, "c", func(context.Context, empty) (int, error) { return 0, nil })
			call := func(name string) error {
				_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Caller: user(name)})
				return err
			}
			for i := range 5 {
				if err := call("ann"); err != nil {
					t.Errorf("%d: %v", i+1, err)
				}
			}
			var e *dispatch.Error
			if err := call("ann"); !errors.As(err, &e) || e.Code != dispatch.RateLimited || e.RetryAfter != 200*time.Millisecond || !e.Retryable {
				t.Errorf("the sixth: %+v", e)
			}
			if err := call("bob"); err != nil {
				t.Errorf("the other caller: %v", err)
			}
			time.Sleep(e.RetryAfter)
			if err := call("ann"); err != nil {
				t.Errorf("after RetryAfter: %v", err)
			}
			if err := call("ann"); dispatch.CodeOf(err) != dispatch.RateLimited {
				t.Errorf("again: %v", err)
			}
		})
	})
	t.Run("dispatch-18 audit and freeze in both passes", func(t *testing.T) {
		var db memory.Store
		var mu sync.Mutex
		var told []string
		var passes []bool
		stages := dispatch.Standard().After("permit", "freeze", dispatch.Freeze("frozen")).Before("lookup", "audit", dispatch.Audit(func(ctx context.Context, c *dispatch.Command, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(c.Name, c.Params, dispatch.CodeOf(err), dispatch.Executing(ctx)))
		})).Before("validate", "mine", func(next dispatch.Handler) dispatch.Handler {
			return dispatch.HandlerFunc(func(ctx context.Context, c *dispatch.Command) (any, error) {
				mu.Lock()
				passes = append(passes, dispatch.Executing(ctx))
				mu.Unlock()
				return next.Dispatch(ctx, c)
			})
		})
		r := dispatch.Registry{Stages: stages}
		m := manager(t, &db, func(m *job.Manager) {
			dispatch.Async(&r, m, "stop", nil, func(context.Context, verb) (int, error) { return 0, nil })
			dispatch.Async(&r, m, "frozen", nil, func(context.Context, verb) (int, error) { return 0, nil })
		})
		final(t, m, accept(t, &r, dispatch.Command{Name: "stop", Params: map[string]string{"vm": "1", "signature": "canary"}}).JobID)
		if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "frozen", Params: map[string]string{"vm": "1"}}); dispatch.CodeOf(err) != dispatch.Draining {
			t.Errorf("frozen: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(told) // the job may end before its submission is told
		if want := []string{"frozenmap[vm:1]drainingfalse", "stopmap[vm:1]false", "stopmap[vm:1]true"}; !slices.Equal(told, want) || len(passes) != 2 || passes[0] || !passes[1] {
			t.Errorf("told %q, passes %v", told, passes)
		}
	})
	t.Run("dispatch-43 one blocked for ever", func(t *testing.T) {
		var r dispatch.Registry
		block := make(chan struct{})
		dispatch.Sync(&r, "c", func(_ context.Context, c verb) (int, error) {
			if c.VM == "stuck" {
				<-block
			}
			return 1, nil
		})
		ask := func(vm string) error {
			_, err := r.Dispatch(context.Background(), &dispatch.Command{Name: "c", Params: map[string]string{"vm": vm}})
			return err
		}
		var all, rest sync.WaitGroup
		all.Go(func() { _ = ask("stuck") })
		for range 999 {
			rest.Go(func() {
				if err := ask("1"); err != nil {
					t.Error(err)
				}
			})
		}
		rest.Wait()
		close(block)
		all.Wait()
	})
}

func TestGeneralTexts(t *testing.T) {
	for _, traced := range []bool{true, false} {
		book := &logbook{}
		env := drover.Env{Logger: book.logger()}
		if traced {
			env.Tracer = &spans{}
		}
		for _, code := range []dispatch.Code{dispatch.Internal, dispatch.NoCapacity, dispatch.Unavailable} {
			t.Run(fmt.Sprint("dispatch-34 ", code, traced), func(t *testing.T) {
				var db memory.Store
				r := dispatch.Registry{Env: env}
				fail := func(context.Context, empty) (int, error) {
					e := dispatch.Errorf(code, "host h1 is on fire")
					e.Meta = map[string]string{"host": "h1"}
					return 0, e
				}
				dispatch.Sync(&r, "now", fail)
				m := manager(t, &db, func(m *job.Manager) { dispatch.Async(&r, m, "later", nil, fail) })
				_, now := r.Dispatch(t.Context(), &dispatch.Command{Name: "now"})
				j := final(t, m, accept(t, &r, dispatch.Command{Name: "later"}).JobID)
				_, later := job.Result[int](j)
				for what, err := range map[string]error{"sync": now, "job": later} {
					if a := dispatch.Public(err, true); a.Text != "host h1 is on fire" || a.Meta["host"] != "h1" || a.Code != code {
						t.Errorf("%s, admin: %+v", what, a)
					}
					p := dispatch.Public(err, false)
					if p.Trace == "" || p.Text != "The operation could not be completed. Reference: "+p.Trace || p.Meta != nil || p.Code != code {
						t.Errorf("%s, others: %+v", what, p)
					}
					if !strings.Contains(book.String(), p.Trace) && !traced {
						t.Errorf("%s: the log does not have %s", what, p.Trace)
					}
				}
			})
		}
	}
}

// machine is a listed item.
type machine struct{ ID string }

func (m machine) Resource() string { return "vm/" + m.ID }

func TestPending(t *testing.T) {
	db := newShaky()
	r := dispatch.Registry{Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}, Tx: db}
	m := manager(t, db, func(m *job.Manager) {
		dispatch.Async(&r, m, "stop", nil, func(context.Context, verb) (int, error) { return 0, nil },
			dispatch.ResourceOf(func(c verb) string { return "vm/" + c.VM }))
		dispatch.Async(&r, m, "deploy", func(_ context.Context, _ store.Tx, c *deploy) (string, error) { return c.Name, nil },
			func(context.Context, deploy) (int, error) { return 0, nil }, dispatch.ResourceOf(func(c deploy) string { return "vm/" + c.Name }))
	}, submitOnly, func(c *job.Config) { c.Tx = db })
	r.Jobs = m
	dispatch.List(&r, "list", func(context.Context, empty) (dispatch.Page[machine], error) {
		var p dispatch.Page[machine]
		for i := range 1200 {
			p.Items = append(p.Items, machine{fmt.Sprint(i)})
		}
		p.Total = len(p.Items)
		return p, nil
	})
	ask := func(caller map[string]string) dispatch.Page[machine] {
		t.Helper()
		out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "list", Caller: caller})
		if err != nil {
			t.Fatal(err)
		}
		return out.(dispatch.Page[machine])
	}
	stop := func(vm string, caller map[string]string) string {
		return accept(t, &r, dispatch.Command{Name: "stop", Params: map[string]string{"vm": vm}, Caller: caller}).JobID
	}
	ann, bob := user("ann"), user("bob")
	first := stop("7", ann)
	stop("7", ann) // not the oldest
	stop("500", ann)
	stop("1199", ann)
	stop("8", bob)
	t.Run("dispatch-35 live jobs of 1200 items", func(t *testing.T) {
		db.lists.Store(0)
		p := ask(ann)
		want := dispatch.PendingJob{JobID: first, State: string(job.Ready), Command: "stop"}
		if len(p.Jobs) != 3 || p.Jobs["vm/7"] != want || p.Jobs["vm/8"].JobID != "" || db.lists.Load() != 3 || p.Total != 1200 {
			t.Errorf("%+v with %d queries", p.Jobs, db.lists.Load())
		}
		if p := ask(user("root", "admin")); len(p.Jobs) != 4 {
			t.Errorf("admin: %+v", p.Jobs)
		}
	})
	t.Run("dispatch-35 store away", func(t *testing.T) {
		db.noLists.Store(true)
		defer db.noLists.Store(false)
		if p := ask(ann); p.Jobs != nil || len(p.Items) != 1200 {
			t.Errorf("%+v", p.Jobs)
		}
	})
	t.Run("dispatch-36 what was just accepted", func(t *testing.T) {
		a := accept(t, &r, dispatch.Command{Name: "deploy", Params: map[string]string{"name": "42"}, Caller: ann})
		if j := ask(ann).Jobs["vm/42"]; j.JobID != a.JobID || j.State == "" || j.Command != "deploy" {
			t.Errorf("%+v, accepted %+v", j, a)
		}
	})
}

func TestCodes(t *testing.T) {
	mine := dispatch.CodeInfo{Code: "test-quota", ErrorCode: 532, CSErrorCode: 1, Status: 403}
	full := errors.New("quota")
	dispatch.RegisterCode(mine, full)
	dispatch.RegisterCode(mine)
	if dispatch.CodeOf(fmt.Errorf("x: %w", full)) != mine.Code || mine.Code.Info() != mine || dispatch.Code("nosuch").Info().Status != 500 {
		t.Error("not registered")
	}
	other := mine
	other.Status = 409
	if panicText(func() { dispatch.RegisterCode(other) }) == "" {
		t.Error("other columns: no panic")
	}
}
