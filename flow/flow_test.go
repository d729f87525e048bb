package flow_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
)

var errBoom = errors.New("boom")

var quiet = drover.Env{Logger: slog.New(slog.DiscardHandler)}

// trail is a state that remembers what was called.
type trail struct {
	Calls []string
	Err   error
	Ended []error
}

func (s *trail) add(format string, args ...any) {
	s.Calls = append(s.Calls, fmt.Sprintf(format, args...))
}

func do(name string, err error) func(context.Context, *trail) error {
	return func(_ context.Context, s *trail) error {
		s.add("do %s", name)
		return err
	}
}

func undo(name string, err error) func(context.Context, *trail) error {
	return func(_ context.Context, s *trail) error {
		s.add("undo %s", name)
		return err
	}
}

// abc is a flow of steps a, b, c… of which those named fail.
func abc(steps string, fails map[string]error, opts ...flow.Option) *flow.Flow[trail] {
	f := flow.New[trail]("f").Env(quiet)
	for _, c := range steps {
		f.Then(string(c), do(string(c), fails[string(c)]), undo(string(c), nil), opts...)
	}
	return f.Finally(func(_ context.Context, s *trail, err error) { s.Ended = append(s.Ended, err) })
}

func (s *trail) want(t *testing.T, calls string) {
	t.Helper()
	if got := strings.Join(s.Calls, ", "); got != calls {
		t.Errorf("called: %s\n  want: %s", got, calls)
	}
}

func wantStep(t *testing.T, err error, step string, cause error) {
	t.Helper()
	_ = failure(t, err, step, cause)
}

// failure checks what wantStep does and gives the error.
func failure(t *testing.T, err error, step string, cause error) *flow.Error {
	t.Helper()
	var e *flow.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *flow.Error", err)
	}
	if e.Step != step || !errors.Is(err, cause) {
		t.Errorf("got %v, want step %q and %v", err, step, cause)
	}
	return e
}

func TestForward(t *testing.T) {
	t.Parallel()
	t.Run("flow-01 in order", func(t *testing.T) {
		var s trail
		if err := abc("abc", nil).Run(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
		s.want(t, "do a, do b, do c")
		if len(s.Ended) != 1 || s.Ended[0] != nil {
			t.Errorf("Finally: %v", s.Ended)
		}
	})
	t.Run("flow-02 failure", func(t *testing.T) {
		var s trail
		err := abc("abc", map[string]error{"b": errBoom}).Run(t.Context(), &s)
		wantStep(t, err, "b", errBoom)
		s.want(t, "do a, do b, undo b, undo a")
		if len(s.Ended) != 1 || s.Ended[0] != err { //nolint:errorlint // the very error
			t.Errorf("Finally: %v", s.Ended)
		}
	})
	t.Run("flow-07 when, empty", func(t *testing.T) {
		never := flow.When(func(context.Context, *trail) (bool, error) { return false, nil })
		var s trail
		f := abc("a", nil).Then("n", do("n", nil), undo("n", nil), never).Then("z", do("z", errBoom), nil)
		wantStep(t, f.Run(t.Context(), &s), "z", errBoom)
		s.want(t, "do a, do z, undo a")
		s = trail{}
		if err := abc("abc", nil, never).Run(t.Context(), &s); err != nil || len(s.Calls) != 0 || len(s.Ended) != 1 {
			t.Errorf("all skipped: %v, %v", err, s)
		}
		if err := abc("", nil).Run(t.Context(), &s); !errors.Is(err, flow.ErrEmpty) {
			t.Errorf("empty: %v", err)
		}
		s = trail{}
		f = abc("a", nil).Then("w", do("w", nil), undo("w", nil), flow.When(func(context.Context, *trail) (bool, error) { return false, errBoom }))
		wantStep(t, f.Run(t.Context(), &s), "w", errBoom)
		s.want(t, "do a, undo a")
	})
	t.Run("flow-08 replaced", replaced)
	t.Run("flow-09 continue", func(t *testing.T) {
		var s trail
		err := abc("abc", map[string]error{"a": flow.Continue(errBoom)}).Run(t.Context(), &s)
		wantStep(t, err, "a", errBoom)
		s.want(t, "do a, do b, do c")
		s = trail{}
		other := errors.New("other")
		err = abc("abc", map[string]error{"a": flow.Continue(errBoom), "b": flow.Continue(other)}).Run(t.Context(), &s)
		if e := failure(t, err, "a", errBoom); !errors.Is(err, other) || !strings.HasPrefix(e.Err.Error(), "boom") {
			t.Errorf("both: %v", err)
		}
		s = trail{}
		err = abc("abc", map[string]error{"a": flow.Continue(errBoom), "c": other}).Run(t.Context(), &s)
		wantStep(t, err, "c", other)
		s.want(t, "do a, do b, do c, undo c, undo b, undo a")
	})
	t.Run("flow-11 finally", func(t *testing.T) {
		for _, fails := range []map[string]error{nil, {"b": errBoom}} {
			var s trail
			f := abc("ab", fails)
			f.Finally(func(context.Context, *trail, error) { panic("in finally") })
			f.Finally(func(_ context.Context, s *trail, _ error) { s.add("last first") })
			err := f.Run(t.Context(), &s)
			if (err != nil) != (fails != nil) || len(s.Ended) != 1 || s.Ended[0] != err { //nolint:errorlint // the very error
				t.Errorf("%v: %v, %v", fails, err, s.Ended)
			}
			if n := len(s.Calls); s.Calls[n-1] != "last first" {
				t.Errorf("%v", s.Calls)
			}
		}
	})
	t.Run("flow-13 nothing but the return counts", func(t *testing.T) {
		var wg sync.WaitGroup
		calls := 0
		f := abc("", nil).Then("x", func(context.Context, *trail) error {
			calls++
			wg.Go(func() {
				defer func() { _ = recover() }()
				panic("later")
			})
			return nil
		}, undo("x", nil))
		var s trail
		err := f.Run(t.Context(), &s)
		wg.Wait()
		if err != nil || calls != 1 || len(s.Calls) != 0 {
			t.Errorf("%v, %d calls, %v", err, calls, s.Calls)
		}
	})
	t.Run("flow-14 a long flow", func(t *testing.T) {
		var deep, first int
		pcs := make([]uintptr, 1000)
		f := flow.New[trail]("long").NoLimit().Clone()
		for i := range 10_000 {
			f.Then(fmt.Sprint("s", i), func(context.Context, *trail) error {
				if deep = runtime.Callers(0, pcs); first == 0 {
					first = deep
				}
				return nil
			}, nil)
		}
		if err := f.Run(t.Context(), &trail{}); err != nil || deep != first {
			t.Errorf("%v, stack %d frames at first, %d at the end", err, first, deep)
		}
	})
}

func replaced(t *testing.T) {
	asked := ""
	ask := func(name string, answer bool) flow.Option {
		return flow.When(func(context.Context, *trail) (bool, error) { asked += name; return answer, nil })
	}
	base := abc("ac", nil).Then("b", do("b", nil), nil, ask("old", false))
	f := base.Clone().Replace("b", do("new b", nil), nil, ask("new", true)).
		Before("b", flow.Step[trail]{Name: "x", Do: do("x", nil)}).
		After("a", flow.Step[trail]{Name: "y", Do: do("y", nil)})
	var s trail
	if err := f.Run(t.Context(), &s); err != nil || asked != "new" {
		t.Errorf("%v, asked %q", err, asked)
	}
	s.want(t, "do a, do y, do c, do x, do new b")
	if got := fmt.Sprint(f.Plan(), base.Plan()); got != "[a y c x b] [a c b]" {
		t.Error(got)
	}
	for name, change := range map[string]func(){
		"then":    func() { f.Then("z", do("z", nil), nil) },
		"replace": func() { f.Replace("a", do("z", nil), nil) },
		"before":  func() { f.Before("a", flow.Step[trail]{Name: "z", Do: do("z", nil)}) },
		"check":   func() { f.Check(do("z", nil)) },
		"finally": func() { f.Finally(func(context.Context, *trail, error) {}) },
		"no undo": func() { f.NoUndo() },
		"grace":   func() { f.Grace(time.Second) },
	} {
		if msg := panics(change); !strings.Contains(msg, "in use") {
			t.Errorf("%s after Run: %q", name, msg)
		}
	}
	f.Clone().Then("z", do("z", nil), nil)
	if msg := panics(func() { f.Clone().Replace("none", do("z", nil), nil) }); !strings.Contains(msg, `"none"`) {
		t.Errorf("unknown name: %q", msg)
	}
}

func panics(f func()) (msg string) {
	defer func() { msg = fmt.Sprint(recover()) }()
	f()
	return ""
}

func TestRollback(t *testing.T) {
	t.Parallel()
	t.Run("flow-03 flow-19 reverse", func(t *testing.T) {
		for _, c := range []struct {
			opt  []flow.Option
			net  int
			want string
		}{
			{nil, -1, "do a, do b, do c, undo c, undo b, undo a"},
			{[]flow.Option{flow.UndoOnlyDone()}, 0, "do a, do b, do c, undo b, undo a"},
		} {
			var s trail
			net := 0
			f := abc("ab", nil)
			f.Then("c", func(_ context.Context, s *trail) error { s.add("do c"); return errBoom },
				func(_ context.Context, s *trail) error { s.add("undo c"); net--; return nil }, c.opt...)
			wantStep(t, f.Run(t.Context(), &s), "c", errBoom)
			s.want(t, c.want)
			if net != c.net {
				t.Errorf("net %d, want %d", net, c.net)
			}
		}
	})
	t.Run("flow-04 panic", func(t *testing.T) {
		var s trail
		f := abc("ab", nil).Then("c", func(context.Context, *trail) error { panic("boom") }, undo("c", nil))
		err := f.Run(t.Context(), &s)
		p := new(drover.PanicError)
		if !errors.As(err, &p) || p.Value != "boom" || len(p.Stack) == 0 || !errors.Is(err, drover.ErrPanic) {
			t.Errorf("got %v", err)
		}
		s.want(t, "do a, do b, undo c, undo b, undo a")
	})
	t.Run("flow-05 undo fails", func(t *testing.T) {
		for _, tries := range []int{3, 1} {
			var opts []flow.Option
			if tries == 1 {
				opts = append(opts, flow.NoRetryUndo())
			}
			synctest.Test(t, func(t *testing.T) {
				var s trail
				f := abc("a", nil).Then("b", do("b", nil), undo("b", errBoom), opts...).
					Then("c", do("c", errBoom), func(_ context.Context, s *trail) error { s.add("undo c"); panic("in undo") }, opts...)
				e := failure(t, f.Run(t.Context(), &s), "c", errBoom)
				if got := fmt.Sprint(count(s.Calls, "undo c"), count(s.Calls, "undo b"), count(s.Calls, "undo a")); got != fmt.Sprint(tries, tries, 1) {
					t.Errorf("undone %s times", got)
				}
				u := new(flow.UndoError)
				if len(e.Undo) != 2 || !errors.Is(e.Undo[0], drover.ErrPanic) || !errors.As(e.Undo[1], &u) || u.Step != "b" || !errors.Is(u, errBoom) {
					t.Errorf("Undo: %v", e.Undo)
				}
			})
		}
	})
	t.Run("flow-06 StopUndo", func(t *testing.T) {
		var s trail
		f := abc("ab", nil).Then("c", do("c", errBoom), undo("c", flow.StopUndo(errors.New("leave it"))))
		e := failure(t, f.Run(t.Context(), &s), "c", errBoom)
		s.want(t, "do a, do b, do c, undo c")
		if !slices.Equal(e.Skipped, []string{"b", "a"}) || len(e.Undo) != 1 || !strings.Contains(e.Error(), "leave it") {
			t.Errorf("%+v", e)
		}
	})
	t.Run("flow-10 NoUndo", func(t *testing.T) {
		var s trail
		err := abc("ab", map[string]error{"b": errBoom}).NoUndo().Run(t.Context(), &s)
		wantStep(t, err, "b", errBoom)
		s.want(t, "do a, do b")
		if len(s.Ended) != 1 {
			t.Errorf("Finally: %v", s.Ended)
		}
	})
	t.Run("flow-12 stopped between steps", func(t *testing.T) {
		var s trail
		f := abc("abc", nil).Check(func(_ context.Context, s *trail) error {
			if len(s.Calls) == 2 {
				return errBoom
			}
			return nil
		})
		wantStep(t, f.Run(t.Context(), &s), "", errBoom)
		s.want(t, "do a, do b, undo b, undo a")
		s = trail{}
		ctx, cancel := context.WithCancelCause(t.Context())
		f = abc("a", nil).Then("b", func(_ context.Context, s *trail) error { s.add("do b"); cancel(errBoom); return nil }, undo("b", nil)).
			Then("c", do("c", nil), undo("c", nil))
		wantStep(t, f.Run(ctx, &s), "", errBoom)
		s.want(t, "do a, do b, undo b, undo a")
		s = trail{}
		f = abc("ab", nil).Check(func(_ context.Context, s *trail) error {
			if len(s.Calls) == 2 {
				panic("in check")
			}
			return nil
		})
		wantStep(t, f.Run(t.Context(), &s), "", drover.ErrPanic) // after the last do
		s.want(t, "do a, do b, undo b, undo a")
	})
	t.Run("flow-17 deadline", deadline)
	t.Run("what an undo is told", func(t *testing.T) {
		var s trail
		tell := func(ctx context.Context, s *trail) error {
			c := flow.Current(ctx)
			s.add("%s %s %d/%d %s %s %d %v", c.Flow, c.Step, c.Index, c.Of, c.Phase, c.Outcome, c.Try, c.Cause)
			return nil
		}
		f := flow.New[trail]("f").Env(quiet).Then("a", tell, tell).Then("b", do("b", errBoom), tell)
		wantStep(t, f.Run(t.Context(), &s), "b", errBoom)
		s.want(t, "f a 0/2 do  1 <nil>, do b, f b 1/2 undo failed 1 boom, f a 0/2 undo done 1 boom")
		if c := flow.Current(t.Context()); c != (flow.Info{}) {
			t.Errorf("outside: %+v", c)
		}
	})
}

func count(list []string, s string) (n int) {
	for _, l := range list {
		if l == s {
			n++
		}
	}
	return n
}

type traceKey struct{}

func deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), traceKey{}, "trace"), time.Second)
		defer cancel()
		wait := func(ctx context.Context, s *trail) error { <-ctx.Done(); return ctx.Err() }
		look := func(ctx context.Context, s *trail) error {
			d, ok := ctx.Deadline()
			s.add("%v %v %v", ctx.Err(), ctx.Value(traceKey{}), ok && time.Until(d) <= 30*time.Minute)
			return nil
		}
		var s trail
		err := flow.New[trail]("f").Env(quiet).Then("a", do("a", nil), look).Then("b", wait, look).Run(ctx, &s)
		wantStep(t, err, "b", context.DeadlineExceeded)
		s.want(t, "do a, <nil> trace true, <nil> trace true")

		s = trail{}
		f := abc("ab", nil).Grace(time.Second).Then("c", do("c", errBoom), wait)
		begin := time.Now()
		e := failure(t, f.Run(t.Context(), &s), "c", errBoom)
		s.want(t, "do a, do b, do c")
		if len(e.Undo) != 3 || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), e)
		}
		for _, u := range e.Undo {
			if !errors.Is(u, context.DeadlineExceeded) {
				t.Errorf("%v", u)
			}
		}
	})
}
