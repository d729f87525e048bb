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

// records is a RecordStore in memory that tells r, and behaves badly on demand.
type records struct {
	r      *recorder
	mu     sync.Mutex
	rows   map[[2]string]drover.Record
	before func(op string) error // nil = fine
}

func (s *records) do(op string, host, topic string, f func(at [2]string) error) error {
	if s.r != nil {
		s.r.add("%s", op)
	}
	if s.before != nil {
		if err := s.before(op); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = map[[2]string]drover.Record{}
	}
	return f([2]string{host, topic})
}

func (s *records) Load(_ context.Context, host, topic string) (r drover.Record, found bool, err error) {
	err = s.do("Load", host, topic, func(at [2]string) error { r, found = s.rows[at]; return nil })
	return r, found, err
}

func (s *records) Create(_ context.Context, r drover.Record) error {
	return s.do("Create", r.Host, r.Topic, func(at [2]string) error {
		if _, ok := s.rows[at]; ok {
			return fmt.Errorf("records: %w", drover.ErrExists)
		}
		s.rows[at] = r
		return nil
	})
}

func (s *records) Save(_ context.Context, r drover.Record) error {
	return s.do("Save", r.Host, r.Topic, func(at [2]string) error { s.rows[at] = r; return nil })
}

// announcer tells r what it is told, and has every ability.
type announcer struct {
	drover.Func
	r     *recorder
	name  string
	ready chan struct{}
}

func (a *announcer) Announce(_ context.Context, accepting bool) error {
	a.r.add("announce %v", accepting)
	return nil
}
func (a *announcer) Drain(context.Context) error { a.r.add("drain %s", a.name); return nil }
func (a *announcer) Ready() <-chan struct{}      { return a.ready }

// part is a component that is ready after a second.
func newAnnouncer(r *recorder, name string) *announcer {
	a := &announcer{r: r, name: name, ready: make(chan struct{})}
	a.Func = func(ctx context.Context) error {
		r.add("start %s", name)
		time.Sleep(time.Second)
		r.add("ready %s", name)
		close(a.ready)
		<-ctx.Done()
		r.add("stop %s", name)
		return nil
	}
	return a
}

// traced is a Service all of whose hooks tell r.
func traced(r *recorder) *drover.Service {
	hook := func(name string) func(context.Context) error {
		return func(context.Context) error { r.add("%s", name); return nil }
	}
	s := &drover.Service{
		Env: quiet(), Topic: "compute", Version: "1", Record: &records{r: r},
		Init: hook("Init"), PreStart: hook("PreStart"), PostStart: hook("PostStart"), Drain: hook("Drain"), Stop: hook("Stop"),
		Checks: []drover.Check{{Name: "dir", Do: hook("Check")}},
	}
	s.Components.Add("a", newAnnouncer(r, "a"))
	s.Components.Add("b", until(r, "b"))
	s.Components.Add("late", until(r, "late"), drover.AfterReady())
	return s
}

// runs starts s; end waits for its Run.
func runs(t *testing.T, s *drover.Service) (end func() error) {
	return runsIn(t.Context(), s)
}

func runsIn(ctx context.Context, s *drover.Service) (end func() error) {
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return sync.OnceValue(func() error { return <-done })
}

func settled(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestSpecService(t *testing.T) {
	bubble(t, "service-02 run twice", func(t *testing.T) {
		s := traced(new(recorder))
		end := runs(t, s)
		settled(2 * time.Second)
		if err := s.Run(t.Context()); err != drover.ErrRunning {
			t.Errorf("second Run: %v", err)
		}
		if err := errors.Join(s.Close(), end()); err != nil {
			t.Error(err)
		}
		if err := s.Run(t.Context()); err != drover.ErrUsed {
			t.Errorf("Run after the end: %v", err)
		}
	})
	bubble(t, "service-03 order of the start; service-12 and of the stop", func(t *testing.T) {
		r := new(recorder)
		s := traced(r)
		if s.State() != "new" || s.Ready() {
			t.Error(s.State())
		}
		end := runs(t, s)
		settled(0)
		if s.State() != "starting" || s.Ready() {
			t.Error(s.State())
		}
		settled(2 * time.Second)
		if s.State() != "running" || !s.Ready() || s.Health().State != "ready" {
			t.Error(s.State(), s.Health())
		}
		r.add("--")
		if err := errors.Join(s.Shutdown(t.Context()), end()); err != nil || s.State() != "stopped" || s.Ready() {
			t.Error(s.State(), err)
		}
		r.check(t, "Init", "Check", "Load", "Create", "PreStart", "start a", "ready a", "start b", "PostStart", "announce true", "start late",
			"--", "announce false", "Drain", "drain a", "stop late", "stop b", "stop a", "Stop")
	})
	bubble(t, "service-12 Close skips the drain", func(t *testing.T) {
		for name, stop := range map[string]func(s *drover.Service, cancel func()){
			"Close":       func(s *drover.Service, _ func()) { _ = s.Close() },
			"end of ctx":  func(_ *drover.Service, cancel func()) { cancel() },
			"both":        func(s *drover.Service, cancel func()) { cancel(); _ = s.Close() },
			"after drain": func(s *drover.Service, cancel func()) { cancel(); _ = s.Shutdown(context.Background()) },
		} {
			r := new(recorder)
			s := traced(r)
			ctx, cancel := context.WithCancel(t.Context())
			end := runsIn(ctx, s)
			settled(2 * time.Second)
			r.events = nil
			stop(s, cancel)
			if err := end(); err != nil {
				t.Error(name, err)
			}
			cancel()
			r.check(t, "announce false", "stop late", "stop b", "stop a", "Stop")
		}
	})
	bubble(t, "service-12 a panic in each step", testPanicInStop)
	t.Run("service-04 records of the first and second start", func(t *testing.T) { synctest.Test(t, testRecordFrom) })
	bubble(t, "service-05 lost the race", func(t *testing.T) {
		for name, again := range map[string]error{"loaded again": nil, "error unchanged": errBoom} {
			db := &records{}
			loads := 0
			db.before = func(op string) error {
				switch op {
				case "Create":
					db.rows[[2]string{"n", "x"}] = drover.Record{Host: "n", Topic: "x", Version: "sibling"}
				case "Load":
					if loads++; loads == 2 {
						return again
					}
				}
				return nil
			}
			var seen drover.Record
			s := &drover.Service{Env: quiet(), Topic: "x", Version: "1", Record: db, PostStart: func(ctx context.Context) error { seen, _ = drover.RecordFrom(ctx); return nil }}
			end := runs(t, s)
			settled(0)
			_ = s.Close()
			if err := end(); err != again || loads != 2 || again == nil && seen.Version != "sibling" {
				t.Errorf("%s: %v, %d loads, %+v", name, err, loads, seen)
			}
		}
	})
	bubble(t, "service-06 version", func(t *testing.T) {
		r := new(recorder)
		db := &records{r: r}
		for _, version := range []string{"1", "1", "2"} {
			s := &drover.Service{Env: quiet(), Host: "h", Topic: "x", Version: version, Record: db}
			end := runs(t, s)
			settled(0)
			_ = s.Close()
			if err := end(); err != nil {
				t.Error(err)
			}
		}
		r.check(t, "Load", "Create", "Load", "Load", "Save")
		if got := db.rows[[2]string{"h", "x"}]; got.Version != "2" {
			t.Errorf("%+v", got)
		}
	})
	bubble(t, "service-08 checks", func(t *testing.T) {
		r := new(recorder)
		s := traced(r)
		s.Checks = []drover.Check{
			{Name: "temp dir", Do: func(context.Context) error { return errors.New("read-only file system") }},
			{Name: "fine", Do: func(context.Context) error { return nil }},
			{Name: "clock", Do: func(context.Context) error { panic("no clock") }},
		}
		err := s.Run(t.Context())
		if !errors.Is(err, drover.ErrCheck) || !strings.Contains(err.Error(), "temp dir: read-only") || !strings.Contains(err.Error(), "clock") || strings.Contains(err.Error(), "fine") {
			t.Errorf("Run gave %v", err)
		}
		if s.State() != "failed" {
			t.Error(s.State())
		}
		r.check(t, "Init", "Stop")
	})
	bubble(t, "service-09 the third is never ready", func(t *testing.T) {
		r, start := new(recorder), time.Now()
		s := &drover.Service{Env: quiet(), Stop: func(context.Context) error { r.add("Stop"); return nil }}
		for _, name := range []string{"1", "2", "3", "4", "5"} {
			if name == "3" {
				s.Components.Add(name, readier{until(r, name), make(chan struct{})})
				continue
			}
			s.Components.Add(name, newAnnouncer(r, name))
		}
		err := s.Run(t.Context())
		if !errors.Is(err, drover.ErrNotReady) || !strings.Contains(err.Error(), "drover: 3: ") || time.Since(start) != 62*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		r.check(t, "start 1", "ready 1", "start 2", "ready 2", "start 3", "announce false", "announce false", "stop 3", "stop 2", "stop 1", "Stop")
	})
	bubble(t, "service-10 PreStart fails", testPreStart)
	bubble(t, "bad configuration starts nothing", func(t *testing.T) {
		for field, s := range map[string]*drover.Service{
			"StopTimeout":  {Env: quiet(), StopTimeout: -1},
			"StartTimeout": {Env: quiet(), StartTimeout: -1},
			"Checks[0]":    {Env: quiet(), Checks: []drover.Check{{Name: "x"}}},
			"Env.Node":     {Env: drover.Env{Node: "a\nb"}},
		} {
			s.Init = func(context.Context) error { t.Error(field, "Init"); return nil }
			if err := s.Run(t.Context()); !errors.Is(err, drover.ErrConfig) || !strings.Contains(err.Error(), field) || s.State() != "failed" {
				t.Errorf("%s: %v", field, err)
			}
		}
		s := traced(new(recorder))
		s.Components.Add("a", until(nil, "a"))
		if err := s.Run(t.Context()); !errors.Is(err, drover.ErrDuplicate) {
			t.Error(err)
		}
	})
	bubble(t, "StartTimeout", func(t *testing.T) {
		r, start := new(recorder), time.Now()
		s := traced(r)
		s.StartTimeout = 500 * time.Millisecond
		if err := s.Run(t.Context()); !errors.Is(err, drover.ErrNotReady) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func testRecordFrom(t *testing.T) {
	db := &records{}
	for _, want := range []drover.Record{{}, {Host: "n", Topic: "x", Version: "1"}, {Host: "n", Topic: "x", Version: "2"}} {
		var mu sync.Mutex
		seen := map[string]drover.Record{}
		hook := func(name string) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				r, ok := drover.RecordFrom(ctx)
				if ok != (r != drover.Record{}) {
					t.Errorf("%s: %v %+v", name, ok, r)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[name] = r
				return nil
			}
		}
		version := map[string]string{"": "1", "1": "2", "2": "2"}[want.Version]
		s := &drover.Service{Env: quiet(), Topic: "x", Version: version, Record: db,
			Init: hook("Init"), PreStart: hook("PreStart"), PostStart: hook("PostStart"), Drain: hook("Drain"), Stop: hook("Stop")}
		s.Components.Add("c", drover.Func(func(ctx context.Context) error {
			defer func() { <-ctx.Done() }()
			return hook("c")(ctx)
		}))
		end := runs(t, s)
		settled(0)
		if err := errors.Join(s.Shutdown(t.Context()), end()); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"PreStart", "PostStart", "Drain", "Stop", "c"} {
			if seen[name] != want {
				t.Errorf("%s saw %+v, want %+v", name, seen[name], want)
			}
		}
		if seen["Init"] != (drover.Record{}) || len(seen) != 6 {
			t.Errorf("%+v", seen)
		}
	}
	if _, ok := drover.RecordFrom(t.Context()); ok {
		t.Error("a record outside a service")
	}
}

// bad is a component that panics in one ability.
type bad struct {
	announcer
	where string
}

func (b *bad) Announce(ctx context.Context, on bool) error {
	if b.where == "announce" && !on {
		panic(b.where)
	}
	return b.announcer.Announce(ctx, on)
}

func (b *bad) Drain(ctx context.Context) error {
	if b.where == "drain" {
		panic(b.where)
	}
	return b.announcer.Drain(ctx)
}

func testPanicInStop(t *testing.T) {
	all := []string{"announce false", "Drain", "drain c", "stop c", "Stop"}
	for i, where := range []string{"announce", "Drain", "drain", "run", "Stop"} {
		r := new(recorder)
		c := &bad{announcer{r: r, name: "c", ready: make(chan struct{})}, where}
		close(c.ready)
		c.Func = func(ctx context.Context) error {
			<-ctx.Done()
			if where == "run" {
				panic(where)
			}
			r.add("stop c")
			return nil
		}
		hook := func(name string) func(context.Context) error {
			return func(context.Context) error {
				if where == name {
					panic(where)
				}
				r.add("%s", name)
				return nil
			}
		}
		s := &drover.Service{Env: quiet(), Drain: hook("Drain"), Stop: hook("Stop")}
		s.Components.Add("c", c)
		end := runs(t, s)
		settled(0)
		r.events = nil
		err := s.Shutdown(t.Context())
		var p *drover.PanicError
		if !errors.As(err, &p) || p.Value != where || end() != err || s.State() != "failed" {
			t.Errorf("%s: %v", where, err)
		}
		if hook := where == "Drain" || where == "Stop"; hook != errors.Is(err, drover.ErrHook) {
			t.Errorf("%s: %v", where, err)
		}
		r.check(t, slices.Delete(slices.Clone(all), i, i+1)...)
	}
}

func testPreStart(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(ctx context.Context) error
		want error
		took time.Duration
	}{
		"error":   {func(context.Context) error { return errBoom }, errBoom, 0},
		"panic":   {func(context.Context) error { panic("boom") }, drover.ErrPanic, 0},
		"timeout": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, context.DeadlineExceeded, time.Minute},
		"stuck":   {func(context.Context) error { time.Sleep(5 * time.Minute); return nil }, drover.ErrStuck, 70 * time.Second},
		"named":   {drover.Sequence(drover.NamedHook{"first audit", func(context.Context) error { return errBoom }}), errBoom, 0},
	} {
		r, start := new(recorder), time.Now()
		s := traced(r)
		s.PreStart = c.f
		err := s.Run(t.Context())
		if !errors.Is(err, drover.ErrHook) || !errors.Is(err, c.want) || !strings.Contains(err.Error(), "PreStart: ") || time.Since(start) != c.took {
			t.Errorf("%s: after %v: %v", name, time.Since(start), err)
		}
		if name == "named" && !strings.Contains(err.Error(), "first audit") {
			t.Errorf("%s: %v", name, err)
		}
		r.check(t, "Init", "Check", "Load", "Create", "Stop")
		if len(s.Record.(*records).rows) != 1 {
			t.Error("the record is gone")
		}
		time.Sleep(5 * time.Minute)
	}
}
