package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/testkit"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	var db memory.Store
	node := func() *lease.Session {
		s, err := lease.New(lease.Config{Tx: &db, Store: db.Leases()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("job-74 bad fields are named", func(t *testing.T) {
		for field, change := range map[string]func(*job.Config){
			"Tx":          func(c *job.Config) { c.Tx = nil },
			"Store":       func(c *job.Config) { c.Store = nil },
			"Session":     func(c *job.Config) { c.Session = nil },
			"Queues":      func(c *job.Config) { c.Queues = map[string]int{"default": -1} },
			"Queues ":     func(c *job.Config) { c.Queues = map[string]int{"default": 100_001} },
			"Queues  ":    func(c *job.Config) { c.Queues = map[string]int{"": 1} },
			"Poll":        func(c *job.Config) { c.Poll = time.Millisecond },
			"Poll ":       func(c *job.Config) { c.Poll = 2 * time.Minute },
			"ClaimBatch":  func(c *job.Config) { c.ClaimBatch = 1001 },
			"FinishBatch": func(c *job.Config) { c.FinishBatch = -1 },
			"FinishDelay": func(c *job.Config) { c.FinishDelay = time.Second },
			"StopTimeout": func(c *job.Config) { c.StopTimeout = -1 },
			"Retain":      func(c *job.Config) { c.Retain = time.Second },
			"MaxArgs":     func(c *job.Config) { c.MaxArgs = 17 << 20 },
			"MaxResult":   func(c *job.Config) { c.MaxResult = -1 },
		} {
			cfg := job.Config{Tx: &db, Store: db.Jobs(), Session: node()}
			change(&cfg)
			_, err := job.New(cfg)
			var f *job.FieldError
			if !errors.As(err, &f) || !errors.Is(err, drover.ErrConfig) || f.Field != strings.TrimSpace(field) || f.Reason == "" {
				t.Errorf("%s: %v", field, err)
			}
		}
	})
	t.Run("job-74 a bad node is named", func(t *testing.T) {
		for _, cfg := range []job.Config{{DB: &db}, {Tx: &db, Store: db.Jobs(), Queues: map[string]int{}}} {
			cfg.Env.Node = "a\nb"
			_, err := job.New(cfg)
			var f *drover.FieldError
			if !errors.As(err, &f) || !errors.Is(err, drover.ErrConfig) || f.Field != "Env.Node" || f.Reason == "" {
				t.Error(err)
			}
		}
	})
	t.Run("job-74 a limit on one side", func(t *testing.T) {
		if _, err := job.New(job.Config{DB: &db, Retain: time.Second}); err == nil || !strings.HasSuffix(err.Error(), "Retain: 1s, must be at least 1m0s") {
			t.Error(err)
		}
	})
	t.Run("job-74 short forms", func(t *testing.T) {
		for _, cfg := range []job.Config{
			{Tx: &db, Store: db.Jobs(), Session: node()}, {DB: &db}, {Tx: &db, Store: db.Jobs(), Queues: map[string]int{}},
		} {
			m, err := job.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if m.StopTimeout() != 35*time.Second || m.Accepting() != nil {
				t.Error(m.StopTimeout(), m.Accepting())
			}
		}
	})
	t.Run("registered twice", func(t *testing.T) {
		m, err := job.New(job.Config{DB: &db})
		if err != nil {
			t.Fatal(err)
		}
		noop(m)
		for what, f := range map[string]func(){
			"twice":      func() { noop(m) },
			"empty":      func() { job.Declare[int, int](m, "") },
			"bad option": func() { job.Declare[int, int](m, "x", job.Timeout(-5)) },
			"nil":        func() { job.Handle[int, int](m, "y", nil) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s did not panic", what)
					}
				}()
				f()
			}()
		}
	})
}

// Step works without a goroutine: handlers run inline.
func TestStepInline(t *testing.T) {
	t.Parallel()
	env, clock := testkit.Inline()
	env.Go = func(_ string, f func()) { f() }
	db := memory.Store{Env: env}
	node, err := lease.New(lease.Config{Env: env, Tx: &db, Store: db.Leases()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := job.New(job.Config{Env: env, DB: &db, Session: node})
	if err != nil {
		t.Fatal(err)
	}
	job.Handle(m, "x", func(ctx context.Context, fails int) (int, error) {
		if j, _ := job.FromContext(ctx); j.Attempt < fails {
			return 0, errBoom
		}
		return 1, nil
	}, job.Retry(doubling, 5))
	step := func() time.Time {
		t.Helper()
		if _, err := node.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		next, err := m.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	j, err := m.Submit(t.Context(), job.Request{Kind: "x", Args: 2})
	if err != nil {
		t.Fatal(err)
	}
	start := clock.Now()
	for range 100 {
		next := step()
		if j, err = m.Get(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		if j.State.Final() {
			break
		}
		if d := next.Sub(clock.Now()); d > 0 {
			clock.Add(d)
		}
	}
	if d := clock.Now().Sub(start); j.State != job.Succeeded || j.Attempt != 2 || d < 3*time.Second || d > 3100*time.Millisecond {
		b, _ := json.Marshal(j)
		t.Errorf("%s after %v", b, d)
	}
}
