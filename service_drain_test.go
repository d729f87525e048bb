package drover_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store/memory"
)

// node is a Service with a job manager on db.
func node(t *testing.T, name string, db *memory.Store, kinds func(m *job.Manager)) (*drover.Service, *job.Manager) {
	t.Helper()
	e := quiet()
	e.Node = name
	m, err := job.New(job.Config{Env: e, DB: db, Queues: map[string]int{"default": 3}})
	if err != nil {
		t.Fatal(err)
	}
	kinds(m)
	s := &drover.Service{Env: e, DrainTimeout: time.Minute}
	s.Components.Add("jobs", m)
	return s, m
}

func TestSpecDrain(t *testing.T) {
	bubble(t, "service-13 three running, ten waiting", testDrainJobs)
	bubble(t, "service-37 Long work is given back when the drain begins", func(t *testing.T) {
		db := &memory.Store{}
		s, m := node(t, "n", db, func(m *job.Manager) {
			job.Handle(m, "long", func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 0, context.Cause(ctx) }, job.Long())
			job.Handle(m, "short", func(ctx context.Context, _ int) (int, error) { time.Sleep(5 * time.Second); return 0, ctx.Err() })
		})
		end := runs(t, s)
		settled(time.Second)
		long, _ := m.Submit(t.Context(), job.Request{Kind: "long", Args: 0})
		short, _ := m.Submit(t.Context(), job.Request{Kind: "short", Args: 0})
		settled(time.Second)
		var flags []bool
		for _, w := range s.Inflight() {
			flags = append(flags, w.Long == (w.Kind == "long") && w.Component == "jobs")
		}
		if len(flags) != 2 || !flags[0] || !flags[1] {
			t.Errorf("%+v", s.Inflight())
		}
		begun := time.Now()
		if err := errors.Join(s.Shutdown(t.Context()), end()); err != nil || time.Since(begun) > 5*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		for id, want := range map[string]job.State{long.ID: job.Ready, short.ID: job.Succeeded} {
			if j, err := m.Get(t.Context(), id); err != nil || j.State != want || j.Attempt != 0 && want == job.Ready {
				t.Errorf("%+v: %v", j, err)
			}
		}
	})
	bubble(t, "service-37 time-outs and reports", func(t *testing.T) {
		for limit, want := range map[time.Duration]struct {
			took  time.Duration
			lines int
			err   error
		}{
			0:                {35 * time.Second, 3, nil},
			time.Minute:      {35 * time.Second, 3, nil},
			25 * time.Second: {25 * time.Second, 2, drover.ErrDrainTimeout},
			-1:               {0, 0, nil},
		} {
			var buf bytes.Buffer
			h := newInHand(drover.Inflight{Kind: "vm.start", ID: "7", Request: "r-1", Since: time.Now()}, drover.Inflight{Kind: "vm.stop", ID: "8", Since: time.Now()})
			s := &drover.Service{Env: drover.Env{Node: "n", Logger: slog.New(slog.NewTextHandler(&buf, nil))}, DrainTimeout: limit}
			s.Components.Add("h", h)
			end := runs(t, s)
			settled(time.Second)
			time.AfterFunc(35*time.Second, h.finish)
			start := time.Now()
			err := s.Shutdown(t.Context())
			if !errors.Is(err, want.err) || err != end() || time.Since(start) != want.took || strings.Count(buf.String(), "msg=drain.waiting node=n inflight=2") != want.lines {
				t.Errorf("DrainTimeout %v: after %v: %v\n%s", limit, time.Since(start), err, buf.String())
			}
			if want.err != nil && !strings.Contains(err.Error(), "vm.start 7 (h, 26s) of request r-1, vm.stop 8") {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
	})
	bubble(t, "service-35 a second call hurries the drain", func(t *testing.T) {
		for name, hurry := range map[string]func(s *drover.Service, cancel func()){
			"Shutdown":   func(s *drover.Service, _ func()) { _ = s.Shutdown(context.Background()) },
			"Close":      func(s *drover.Service, _ func()) { _ = s.Close() },
			"end of ctx": func(_ *drover.Service, cancel func()) { cancel() },
			"its ctx":    func(_ *drover.Service, _ func()) {},
		} {
			h := newInHand(drover.Inflight{Kind: "vm.start", ID: "7"})
			s := &drover.Service{Env: quiet()}
			s.Components.Add("h", h)
			run, cancel := context.WithCancel(t.Context())
			end := runsIn(run, s)
			settled(0)
			ctx, stop := context.WithCancel(t.Context())
			if name == "its ctx" {
				time.AfterFunc(3*time.Second, stop)
			}
			time.AfterFunc(3*time.Second, func() { hurry(s, cancel) })
			start := time.Now()
			if err := s.Shutdown(ctx); err != nil || end() != nil || time.Since(start) != 3*time.Second {
				t.Errorf("%s: after %v: %v", name, time.Since(start), err)
			}
			stop()
			cancel()
		}
	})
	bubble(t, "service-12 a component that fails during the drain", func(t *testing.T) {
		s := &drover.Service{Env: quiet()}
		s.Components.Add("h", newInHand(drover.Inflight{Kind: "k", ID: "7"}))
		s.Components.Add("f", after(5*time.Second, errBoom))
		end, start := runs(t, s), time.Now()
		settled(time.Second)
		if err := s.Shutdown(t.Context()); !errors.Is(err, errBoom) || errors.Is(err, drover.ErrDrainTimeout) || end() != err || time.Since(start) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
	bubble(t, "service-15 periodic under drain", func(t *testing.T) {
		var buf bytes.Buffer
		e := drover.Env{Node: "n", Logger: slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelWarn}))}
		var tasks periodic.Set
		tasks.Env = e
		var begun []time.Time
		_ = tasks.Every(time.Second, "tick", func(context.Context) error { begun = append(begun, time.Now()); return nil }, periodic.Spread(0))
		s := &drover.Service{Env: e, DrainTimeout: time.Minute}
		h := newInHand()
		s.Components.Add("h", h)
		s.Components.Add("tasks", &tasks, drover.AfterReady())
		end := runs(t, s)
		settled(5500 * time.Millisecond)
		if len(begun) != 5 {
			t.Fatalf("%d runs", len(begun))
		}
		time.AfterFunc(30*time.Second, h.finish)
		if err := errors.Join(s.Shutdown(t.Context()), end()); err != nil || len(begun) != 5 || buf.Len() > 0 {
			t.Errorf("%d runs: %v\n%s", len(begun), err, buf.String())
		}
	})
}

func testDrainJobs(t *testing.T) {
	db := &memory.Store{}
	var child error
	kinds := func(m *job.Manager) {
		job.Handle(m, "sleep", func(ctx context.Context, seconds int) (int, error) {
			if seconds == 90 {
				time.Sleep(10 * time.Second) // the drain has begun
				_, child = m.Submit(ctx, job.Request{Kind: "sleep", Args: 1})
				seconds -= 10
			}
			select {
			case <-time.After(time.Duration(seconds) * time.Second):
				return 0, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
	}
	s, m := node(t, "a", db, kinds)
	end := runs(t, s)
	settled(time.Second)
	submit := func(m *job.Manager, seconds int) string {
		j, err := m.Submit(t.Context(), job.Request{Kind: "sleep", Args: seconds})
		if err != nil {
			t.Fatal(err)
		}
		return j.ID
	}
	var running, waiting []string
	for _, d := range []int{5, 20, 90} {
		running = append(running, submit(m, d))
	}
	settled(time.Second)
	for range 10 {
		waiting = append(waiting, submit(m, 1))
	}
	done := make(chan error)
	go func() { done <- s.Shutdown(t.Context()) }()
	settled(time.Second)
	if _, err := m.Submit(t.Context(), job.Request{Kind: "sleep", Args: 1}); !errors.Is(err, drover.ErrStopping) {
		t.Errorf("a fresh submission gave %v", err)
	}
	err := <-done
	var left *drover.DrainError
	if !errors.As(err, &left) || end() != err || drover.ExitCode(err) != 2 {
		t.Fatal(err)
	}
	if w := left.Left; len(w) != 1 || w[0].Kind != "sleep" || w[0].ID != running[2] || !strings.Contains(err.Error(), "1m1s") {
		t.Errorf("%v", err)
	}
	if child != nil {
		t.Errorf("a child was refused: %v", child)
	}
	state := func(id string) job.State {
		j, err := m.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return j.State
	}
	if a, b, c := state(running[0]), state(running[1]), state(running[2]); a != job.Succeeded || b != job.Succeeded || c != job.Ready {
		t.Error(a, b, c)
	}
	for _, id := range waiting {
		if state(id) != job.Ready {
			t.Errorf("a waiting job is %s", state(id))
		}
	}
	other, om := node(t, "b", db, kinds)
	end = runs(t, other)
	for _, id := range waiting {
		if j, err := om.Wait(t.Context(), id); err != nil || j.State != job.Succeeded {
			t.Error(j, err)
		}
	}
	if err := errors.Join(other.Close(), end()); err != nil {
		t.Error(err)
	}
}
