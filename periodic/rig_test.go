package periodic_test

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/testkit"
)

// stepped is a Set that the test steps itself, on a manual clock.
type stepped struct {
	*periodic.Set
	t     *testing.T
	clock *testkit.Clock
	start time.Time
	ends  map[string]int
}

func newStepped(t *testing.T) *stepped {
	e, c := testkit.Inline()
	return &stepped{Set: &periodic.Set{Env: e}, t: t, clock: c, start: c.Now(), ends: map[string]int{}}
}

func (s *stepped) add(tasks ...periodic.Task) {
	s.t.Helper()
	if err := s.Add(tasks...); err != nil {
		s.t.Fatal(err)
	}
}

// counts is a function that counts its runs under name.
func (s *stepped) counts(name string, err error) periodic.Func {
	return func(context.Context) error { s.ends[name]++; return err }
}

// at moves the clock to d after the start.
func (s *stepped) at(d time.Duration) {
	s.clock.Add(s.start.Add(d).Sub(s.clock.Now()))
}

// step steps at d and gives the next time as counted from the start, -1 for none.
func (s *stepped) step(d time.Duration) time.Duration {
	s.t.Helper()
	s.at(d)
	next, err := s.Step(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if next.IsZero() {
		return -1
	}
	return next.Sub(s.start)
}

func (s *stepped) status(name string) periodic.Status { return statusOf(s.t, s.Set, name) }

func statusOf(t *testing.T, s *periodic.Set, name string) periodic.Status {
	t.Helper()
	for _, st := range s.Status() {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("no task %q", name)
	return periodic.Status{}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func list[T comparable](t *testing.T, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func noop(context.Context) error { return nil }

// exact is a task without a phase.
var exact = periodic.Spread(0)

// live is a Set that runs in a bubble of virtual time.
type live struct {
	*periodic.Set
	t      *testing.T
	start  time.Time
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu     sync.Mutex
	logs   []string
	starts map[string][]time.Duration
}

// bubble runs f with a Set that is not running yet; go starts it.
func bubble(t *testing.T, f func(l *live)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &live{t: t, start: time.Now(), done: make(chan struct{}), starts: map[string][]time.Duration{}}
		l.Set = &periodic.Set{Env: drover.Env{Node: "n1", Logger: newLogger(l)}}
		defer l.stop()
		f(l)
	})
}

func (l *live) add(tasks ...periodic.Task) {
	l.t.Helper()
	if err := l.Add(tasks...); err != nil {
		l.t.Fatal(err)
	}
}

// run starts the Set.
func (l *live) run() {
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(l.t.Context())
	go func() {
		defer close(l.done)
		l.err = l.Run(ctx)
	}()
	synctest.Wait()
}

func (l *live) stop() {
	if l.cancel != nil {
		l.cancel()
		<-l.done
		if l.err != nil {
			l.t.Error(l.err)
		}
	}
}

// till lets time pass until d after the start.
func (l *live) till(d time.Duration) {
	time.Sleep(time.Until(l.start.Add(d)))
	synctest.Wait()
}

func (l *live) since() time.Duration { return time.Since(l.start) }

// costs is a function that takes d, and notes its starts under name.
func (l *live) costs(name string, d time.Duration) periodic.Func {
	return func(context.Context) error {
		l.started(name)
		time.Sleep(d)
		return nil
	}
}

func (l *live) started(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starts[name] = append(l.starts[name], l.since())
}

func (l *live) at(name string) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.starts[name])
}

// logged are the lines that begin with event.
func (l *live) logged(event string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.logs {
		if strings.HasPrefix(s, event) {
			lines = append(lines, s)
		}
	}
	return lines
}

// logs keeps lines as "message key=value …".
type logs struct {
	l     *live
	attrs []slog.Attr
}

func (h logs) Enabled(context.Context, slog.Level) bool { return true }
func (h logs) WithGroup(string) slog.Handler            { return h }
func (h logs) WithAttrs(as []slog.Attr) slog.Handler {
	return logs{h.l, append(slices.Clone(h.attrs), as...)}
}
func (h logs) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.l.logs = append(h.l.logs, line)
	return nil
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func secs(ns ...float64) (ds []time.Duration) {
	for _, n := range ns {
		ds = append(ds, time.Duration(n*float64(time.Second)))
	}
	return ds
}

func newLogger(l *live) *slog.Logger { return slog.New(logs{l, nil}) }
