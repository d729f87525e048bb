package drover_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
)

// recorder keeps the order of events.
type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) add(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf(format, a...))
}

func (r *recorder) check(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.events, want) {
		t.Errorf("events %q, want %q", r.events, want)
	}
}

// until runs to the end of its ctx, and tells r.
func until(r *recorder, name string) drover.Func {
	return func(ctx context.Context) error {
		r.add("start %s", name)
		<-ctx.Done()
		r.add("stop %s", name)
		return ctx.Err()
	}
}

// after gives err once d has passed.
func after(d time.Duration, err error) drover.Func {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// readier becomes ready after a while.
type readier struct {
	drover.Func
	ready chan struct{}
}

func (r readier) Ready() <-chan struct{} { return r.ready }

func group() *drover.Group { return &drover.Group{Env: quiet()} }

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

var errBoom = errors.New("boom")

func TestSpecGroupStop(t *testing.T) {
	bubble(t, "service-19 first error stops the others in reverse", func(t *testing.T) {
		r, g := new(recorder), group()
		g.Add("a", until(r, "a"))
		g.Add("b", drover.Func(func(context.Context) error { time.Sleep(time.Second); return errBoom }))
		g.Add("c", until(r, "c"))
		g.Add("d", drover.Func(func(ctx context.Context) error { <-ctx.Done(); return errors.New("late") }))
		err := g.Run(t.Context())
		if !errors.Is(err, errBoom) || err.Error() != "drover: b: boom\ndrover: d: late" {
			t.Errorf("Run gave %v", err)
		}
		r.check(t, "start a", "start c", "stop c", "stop a")
	})
	bubble(t, "service-19 nil stops too, Background does not", func(t *testing.T) {
		g, start := group(), time.Now()
		g.Add("a", until(new(recorder), "a"))
		g.Add("b", after(time.Second, nil), drover.Background())
		g.Add("c", after(5*time.Second, nil))
		if err := g.Run(t.Context()); err != nil || time.Since(start) != 5*time.Second {
			t.Errorf("Run gave %v after %v", err, time.Since(start))
		}
	})
	bubble(t, "service-19 an error of Background stops", func(t *testing.T) {
		g := group()
		g.Add("a", until(new(recorder), "a"))
		g.Add("b", after(time.Second, errBoom), drover.Background())
		if err := g.Run(t.Context()); !errors.Is(err, errBoom) {
			t.Errorf("Run gave %v", err)
		}
	})
	bubble(t, "service-20 cancel is fast, drain waits", testCancelAndDrain)
	bubble(t, "service-21 stuck", func(t *testing.T) {
		r, g, release := new(recorder), group(), make(chan struct{})
		g.Add("a", until(r, "a"))
		g.Add("deaf", drover.Func(func(ctx context.Context) error { ignoreCtx(release); return nil }))
		g.Add("b", until(r, "b"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		err := g.Run(ctx)
		if !errors.Is(err, drover.ErrStuck) || !strings.Contains(err.Error(), "deaf") || !strings.Contains(err.Error(), "ignoreCtx") {
			t.Errorf("Run gave %v", err)
		}
		if d := time.Since(start); d != 11*time.Second {
			t.Errorf("Run took %v, want 11s", d)
		}
		r.check(t, "start a", "start b", "stop b", "stop a")
		close(release)
	})
	bubble(t, "service-21 time-outs of option and component", func(t *testing.T) {
		g, release, start := group(), make(chan struct{}), time.Now()
		deaf := drover.Func(func(ctx context.Context) error { <-release; return nil })
		g.Add("a", stopper{deaf})
		g.Add("b", stopper{deaf}, drover.StopTimeout(2*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err := g.Run(ctx)
		if d := time.Since(start); d != 6*time.Second || strings.Count(err.Error(), drover.ErrStuck.Error()) != 2 {
			t.Errorf("Run took %v, want 1s + 3s + 2s; %v", d, err)
		}
		close(release)
	})
	bubble(t, "service-22 timers end at once", func(t *testing.T) {
		g := group()
		for i := range 100 {
			g.Add(fmt.Sprint(i), after(time.Hour, nil))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		start := time.Now()
		if err := g.Run(ctx); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Run gave %v after %v", err, time.Since(start))
		}
	})
	bubble(t, "service-23 one of four returns", func(t *testing.T) {
		r, g := new(recorder), group()
		g.Replicate("w", 4, func(i int) drover.Component {
			if i == 1 {
				return after(time.Second, nil)
			}
			return until(r, fmt.Sprint(i))
		})
		start := time.Now()
		if err := g.Run(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("Run gave %v after %v", err, time.Since(start))
		}
		if i := slices.Index(r.events, "stop 3"); i != 3 {
			t.Errorf("events %q", r.events)
		}
		r.events = r.events[3:]
		r.check(t, "stop 3", "stop 2", "stop 0")
	})
}

func ignoreCtx(release chan struct{}) { <-release }

type stopper struct{ drover.Func }

func (stopper) StopTimeout() time.Duration { return 3 * time.Second }

// worker has a piece of work in hand that takes a second.
type worker struct{ drained chan struct{} }

func (w worker) Run(ctx context.Context) error {
	select {
	case <-time.After(time.Second):
		close(w.drained)
	case <-ctx.Done():
		return nil
	}
	<-ctx.Done()
	return nil
}

func (w worker) Drain(ctx context.Context) error {
	select {
	case <-w.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func testCancelAndDrain(t *testing.T) {
	for _, drain := range []bool{false, true} {
		g, start := group(), time.Now()
		g.Add("w", worker{make(chan struct{})})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		if drain {
			if err := g.Drain(t.Context()); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); !drain && d != 0 || drain && d != time.Second {
			t.Errorf("drain %v: stopped after %v", drain, d)
		}
	} // a goroutine left would fail the bubble
}

func TestSpecGroupAdd(t *testing.T) {
	f := after(time.Hour, nil)
	many := func(n int) func(g *drover.Group) {
		return func(g *drover.Group) { g.Replicate("x", n, func(int) drover.Component { return f }) }
	}
	for name, c := range map[string]struct {
		add  func(g *drover.Group)
		want error
		text string
	}{
		"service-26 Replicate 0":             {many(0), drover.ErrConfig, "x"},
		"service-26 Replicate -1":            {many(-1), drover.ErrConfig, "-1"},
		"service-26 empty name":              {func(g *drover.Group) { g.Add("", f) }, drover.ErrConfig, "name is empty"},
		"service-26 duplicate":               {func(g *drover.Group) { g.Add("x-1", f); many(2)(g) }, drover.ErrDuplicate, "x-1"},
		"service-26 Needs of a later name":   {func(g *drover.Group) { g.Add("a", f, drover.Needs("b")); g.Add("b", f) }, drover.ErrConfig, `"b"`},
		"service-26 Needs of AfterReady":     {func(g *drover.Group) { g.Add("a", f, drover.AfterReady()); g.Add("b", f, drover.Needs("a")) }, drover.ErrConfig, `"a"`},
		"service-26 nil component":           {func(g *drover.Group) { g.Add("a", nil) }, drover.ErrConfig, "nil"},
		"service-26 negative time-out":       {func(g *drover.Group) { g.Add("a", f, drover.StopTimeout(-1)) }, drover.ErrConfig, "negative"},
		"service-25 Restart without factory": {func(g *drover.Group) { g.Add("a", worker{}, drover.Restart(nil)) }, drover.ErrConfig, "Replicate"},
	} {
		bubble(t, name, func(t *testing.T) {
			r, g := new(recorder), group()
			g.Add("first", until(r, "first"))
			c.add(g)
			err := g.Run(t.Context())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), "drover: ") {
				t.Errorf("Run gave %v, want %v naming %s", err, c.want, c.text)
			}
			r.check(t) // nothing has started
		})
	}
	bubble(t, "service-26 names", func(t *testing.T) {
		g := group()
		many(4)(g)
		g.Add("y", f, drover.Needs("x", "x-3"))
		var names []string
		for _, s := range g.Status() {
			names = append(names, s.Name)
		}
		if want := []string{"x-0", "x-1", "x-2", "x-3", "y"}; !slices.Equal(names, want) {
			t.Errorf("names %q, want %q", names, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	bubble(t, "run twice", func(t *testing.T) {
		g := group()
		g.Add("a", after(time.Second, nil))
		go func() {
			time.Sleep(time.Second / 2)
			if err := g.Run(t.Context()); err != drover.ErrRunning {
				t.Errorf("second Run gave %v", err)
			}
		}()
		if err := g.Run(t.Context()); err != nil {
			t.Error(err)
		}
		if err := g.Run(t.Context()); err != drover.ErrUsed {
			t.Errorf("Run after the end gave %v", err)
		}
		if err := g.Add("b", f); !errors.Is(err, drover.ErrStopping) {
			t.Errorf("Add after the end gave %v", err)
		}
	})
}

func TestGroupReady(t *testing.T) {
	late := func(r *recorder, name string, d time.Duration) drover.Component {
		c := readier{until(r, name), make(chan struct{})}
		if d > 0 {
			time.AfterFunc(d, func() { r.add("ready %s", name); close(c.ready) })
		}
		return c
	}
	bubble(t, "order", func(t *testing.T) {
		r, g := new(recorder), group()
		ctx, cancel := context.WithCancel(t.Context())
		g.Add("p", until(r, "p"), drover.AfterReady())
		g.Add("a", late(r, "a", 2*time.Second))
		g.Add("b", late(r, "b", 3*time.Second))
		g.Add("c", drover.Func(func(ctx context.Context) error {
			if err := g.Add("d", late(r, "d", 5*time.Second)); err != nil {
				t.Error(err)
			}
			r.add("added d")
			<-ctx.Done()
			return nil
		}))
		time.AfterFunc(time.Minute, cancel)
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		got := slices.DeleteFunc(slices.Clone(r.events), func(s string) bool { return s == "start p" || s == "start d" })
		r.mu.Unlock()
		if want := []string{"start a", "ready a", "start b", "ready b", "ready d", "added d"}; !slices.Equal(got[:6], want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
	bubble(t, "not ready in time", func(t *testing.T) {
		r, g, start := new(recorder), group(), time.Now()
		g.Add("a", until(r, "a"))
		g.Add("b", until(r, "b"))
		g.Add("c", late(r, "c", 0))
		g.Add("d", until(r, "d"))
		err := g.Run(t.Context())
		if !errors.Is(err, drover.ErrNotReady) || !strings.Contains(err.Error(), "drover: c:") || time.Since(start) != time.Minute {
			t.Errorf("Run gave %v after %v", err, time.Since(start))
		}
		if n := len(r.events); n != 6 || !slices.Equal(r.events[3:], []string{"stop c", "stop b", "stop a"}) {
			t.Errorf("events %q", r.events)
		}
	})
	bubble(t, "Add during Run not ready", func(t *testing.T) {
		r, g := new(recorder), group()
		ctx, cancel := context.WithCancel(t.Context())
		g.Add("a", drover.Func(func(ctx context.Context) error {
			err := g.Add("b", late(r, "b", 0), drover.ReadyTimeout(time.Second))
			if !errors.Is(err, drover.ErrNotReady) {
				t.Errorf("Add gave %v", err)
			}
			cancel()
			return nil
		}))
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
		r.check(t, "start b", "stop b")
	})
	bubble(t, "Group in a Group", func(t *testing.T) {
		in := new(drover.Group)
		in.Add("x", readier{after(time.Hour, nil), make(chan struct{})}, drover.ReadyTimeout(time.Second))
		g := group()
		g.Add("in", in)
		err := g.Run(t.Context())
		if !errors.Is(err, drover.ErrNotReady) || !strings.HasPrefix(err.Error(), "drover: in/x: ") {
			t.Errorf("Run gave %v", err)
		}
	})
}
