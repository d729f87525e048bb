package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/testkit"
)

func TestInside(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-55 progress", run: progress},
		{name: "job-56 quiet", run: beats},
		{name: "job-57 journal", run: journal},
		{name: "job-58 steps", run: steps},
		{name: "job-59 sealed outcomes", run: seals},
		{name: "job-60 what is readable when", run: readable},
		{name: "job-62 events", run: events},
		{name: "job-81 result too large", run: largeResult},
		{name: "queue-43 turn released early", run: releaseTurn},
		{name: "outside a handler", run: outside},
	})
}

func progress(w *world) {
	next, done := make(chan job.Progress), make(chan error)
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			for p := range next {
				done <- job.Report(job.Stage(ctx, 50, 75), p)
			}
			return 0, nil
		})
	})
	j := w.submit(n, job.Request{Kind: "x"})
	report := func(p job.Progress) {
		next <- p
		w.must(<-done)
	}
	report(job.Progress{Percent: 0})
	before := n.faults.ops("log")
	report(job.Progress{Percent: -5})
	report(job.Progress{Percent: 50, Step: strings.Repeat("s", 200), Note: strings.Repeat("é", 600)})
	if w.get(n, j.ID).Progress.Percent != 50 || n.faults.ops("log") > before+1 {
		w.Errorf("%d stores in one second", n.faults.ops("log")-before)
	}
	time.Sleep(2100 * time.Millisecond)
	if p := w.get(n, j.ID).Progress; p.Percent != 62 || len(p.Step) > 128 || len(p.Note) > 1024 || !strings.HasSuffix(p.Note, "…") {
		w.Errorf("%d %%, %d and %d bytes", p.Percent, len(p.Step), len(p.Note))
	}
	report(job.Progress{Percent: 60})
	report(job.Progress{Percent: 300})
	close(next)
	if p := w.wait(n, j).Progress; p.Percent != 75 {
		w.Errorf("at the end %d %%", p.Percent)
	}
}

func beats(w *world) {
	var log buffer
	n := w.idle("a", with(func(c *job.Config) { c.Env.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
	warned := 0
	job.Handle(n.Manager, "x", func(ctx context.Context, _ struct{}) (int, error) {
		time.Sleep(200 * time.Second)
		warned = strings.Count(log.String(), "job quiet")
		for range 4 {
			job.Beat(ctx)
			time.Sleep(80 * time.Second)
		}
		return 0, nil
	}, job.Quiet(90*time.Second))
	n.run()
	w.wait(n, w.submit(n, job.Request{Kind: "x"}))
	w.must(n.stop())
	if after := strings.Count(log.String(), "job quiet") - warned; warned != 2 || after != 0 {
		w.Errorf("%d warnings, %d after beats", warned, after)
	}
}

// buffer is a text that may be written and read at once.
type buffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

func journal(w *world) {
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			for i := range 1005 {
				w.must(job.Note(ctx, fmt.Sprint("note ", i), map[string]int{"i": i}))
			}
			if err := job.Note(ctx, "", nil); !errors.Is(err, job.ErrInvalid) {
				w.Error(err)
			}
			if err := job.Note(ctx, "x", make(chan int)); !errors.Is(err, job.ErrInvalid) {
				w.Error(err)
			}
			if err := job.Note(ctx, "x", strings.Repeat("x", 17<<10)); !errors.Is(err, job.ErrTooLarge) {
				w.Error(err)
			}
			return 0, nil
		})
		job.Handle(m, "y", func(ctx context.Context, _ struct{}) (int, error) { return 0, job.Note(ctx, "failed", errBoom) })
	})
	j := w.wait(n, w.submit(n, job.Request{Kind: "x"}))
	var es []job.Entry
	for e, err := range n.Journal(w.Context(), j.ID) {
		w.must(err)
		es = append(es, e)
	}
	if len(es) != 1001 || es[0].Text != "note 0" || es[0].N != 1 || es[0].Node != "a" || es[999].Text != "note 999" ||
		es[1000].Text != job.DroppedText || string(es[1000].Data) != "5" {
		w.Errorf("%d rows, %+v … %+v", len(es), es[0], es[len(es)-1])
	}
	for e := range n.Journal(w.Context(), w.wait(n, w.submit(n, job.Request{Kind: "y"})).ID) {
		if !e.Failure || !strings.Contains(string(e.Data), "boom") {
			w.Errorf("%+v", e)
		}
	}
	for _, err := range n.Journal(w.Context(), "nonsense") {
		if !errors.Is(err, job.ErrNotFound) {
			w.Error(err)
		}
	}
}

func steps(w *world) {
	var calls []string
	step := func(ctx context.Context, name string, v int) (int, error) {
		return job.Step(ctx, name, func(context.Context) (int, error) {
			calls = append(calls, name)
			return v, nil
		})
	}
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			j, _ := job.FromContext(ctx)
			a, err := step(ctx, "A", 7*j.Runs)
			w.must(err)
			nested, err := job.Step(ctx, "outer", func(ctx context.Context) (int, error) { return step(ctx, "A", 1) })
			w.must(err)
			if _, err = job.Step(ctx, "fails", func(context.Context) (int, error) { return 0, errBoom }); !errors.Is(err, errBoom) {
				w.Error(err)
			}
			if j.Runs == 1 {
				return 0, job.Again(time.Second)
			}
			b, err := step(ctx, "B", 2)
			return a + nested + b, err
		})
		job.Handle(m, "twice", func(ctx context.Context, _ struct{}) (int, error) {
			_, _ = step(ctx, "A", 1)
			return step(ctx, "A", 1)
		})
		job.Handle(m, "changed", func(ctx context.Context, _ struct{}) (string, error) {
			if j, _ := job.FromContext(ctx); j.Runs == 1 {
				_, _ = step(ctx, "A", 1)
				return "", job.Again(time.Second)
			}
			return job.Step(ctx, "A", func(context.Context) (string, error) { return "", nil })
		})
		job.Handle(m, "large", func(ctx context.Context, _ struct{}) (string, error) {
			return job.Step(ctx, "A", func(context.Context) (string, error) { return strings.Repeat("x", 256<<10), nil })
		})
	})
	j := w.wait(n, w.submit(n, job.Request{Kind: "x"}))
	if r, err := job.Result[int](j); r != 10 || err != nil || !slices.Equal(calls, []string{"A", "A", "B"}) {
		w.Errorf("%d, %v, calls %v", r, err, calls)
	}
	for kind, code := range map[string]string{"twice": job.CodeInvalid, "changed": job.CodeInvalid, "large": job.CodeTooLarge} {
		if j := w.wait(n, w.submit(n, job.Request{Kind: kind})); j.State != job.Failed || j.Error.Code != code || j.Attempt != 1 {
			w.Errorf("%s: %s %+v", kind, j.State, j.Error)
		}
	}
}

func seals(w *world) {
	var runs []string
	seal := func(n *node, ctx context.Context, v any, rollback bool) error {
		err := n.faults.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			if err := job.FinishTx(ctx, tx, v); err != nil {
				return err
			}
			if rollback {
				return errBoom
			}
			return nil
		})
		if rollback {
			return nil
		}
		return err
	}
	block := make(chan struct{})
	build := func(name string) *node {
		n := w.idle(name)
		job.Handle(n.Manager, "x", func(ctx context.Context, how string) (string, error) {
			runs = append(runs, name+" "+how)
			j, _ := job.FromContext(ctx)
			switch {
			case how == "error":
				w.must(seal(n, ctx, fmt.Errorf("deploy: %w", errNoHost), false))
				return "ignored", nil
			case how == "rollback" && j.Runs == 1:
				w.must(seal(n, ctx, "sealed", true))
				return "", job.Again(time.Second)
			case how == "crash", how == "twice":
				w.must(seal(n, ctx, "sealed", false))
			}
			if how == "twice" {
				if err := seal(n, ctx, "again", false); !errors.Is(err, job.ErrFinished) {
					w.Errorf("second seal: %v", err)
				}
				return "", errBoom
			}
			switch how {
			case "crash":
				<-block
			case "crossed": // taken from us by a sweep that had looked before the seal
				w.must(seal(n, ctx, "sealed", false))
				w.must(n.faults.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
					_, err := n.faults.Jobs().Move(ctx, tx, []job.Move{{ID: j.ID, From: job.Running, To: job.Ready, Epoch: j.Epoch, Raise: true, Lost: 1}})
					return err
				}))
			}
			return "returned", nil
		})
		return n.run()
	}
	n := build("a")
	for how, want := range map[string]string{"twice": `"sealed"`, "crossed": `"sealed"`, "rollback": `"returned"`} {
		if j := w.wait(n, w.submit(n, job.Request{Kind: "x", Args: how})); j.State != job.Succeeded || string(j.Result) != want {
			w.Errorf("%s: %s %s %v", how, j.State, j.Result, j.Error)
		}
	}
	if j := w.wait(n, w.submit(n, job.Request{Kind: "x", Args: "error"})); j.State != job.Failed || j.Error.Code != "no-host" || j.Runs != 1 {
		w.Errorf("%s %+v", j.State, j.Error)
	}
	crash := w.submit(n, job.Request{Kind: "x", Args: "crash"})
	w.eventually(10*time.Second, "sealed", func() bool { return string(w.get(n, crash.ID).Result) == `"sealed"` })
	w.state(n, crash.ID, job.Running)
	b := build("b")
	n.faults.down(true)
	if j := w.wait(b, crash); j.State != job.Succeeded || string(j.Result) != `"sealed"` || j.Runs != 1 {
		w.Errorf("%s %s after %d runs", j.State, j.Result, j.Runs)
	}
	close(block)
	if slices.Contains(runs, "b crash") {
		w.Error("ran again")
	}
}

func readable(w *world) {
	n := w.node("a", noop)
	j := w.submit(n, job.Request{Kind: "noop", RunAt: time.Now().Add(time.Second)})
	if !j.Ended.IsZero() || !j.Started.IsZero() {
		w.Errorf("ended %v", j.Ended)
	}
	j = w.wait(n, j)
	ended := j.Ended
	time.Sleep(time.Hour)
	if j = w.get(n, j.ID); !j.Ended.Equal(ended) || ended.IsZero() || string(j.Result) != "{}" || j.Error != nil {
		w.Errorf("%+v", j)
	}
}

func events(w *world) {
	ev := &sink{}
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "retried", func(ctx context.Context, _ struct{}) (int, error) {
			w.must(job.Report(ctx, job.Progress{Percent: 10}))
			if j, _ := job.FromContext(ctx); j.Runs == 1 {
				return 0, errBoom
			}
			return 0, nil
		})
	}, with(func(c *job.Config) { c.Events = ev }))
	j := w.wait(n, w.submit(n, job.Request{Kind: "retried", Identity: map[string]string{"account": "a1"}, Sync: vm("1")}))
	var rev int64
	var seen []string
	ev.mu.Lock()
	for _, e := range ev.evs {
		if e.JobID != j.ID || e.Rev <= rev || e.Kind != "retried" || e.Account != "a1" || e.Node != "a" || e.Key != vm("1") || e.At.IsZero() {
			w.Errorf("%+v after rev %d", e, rev)
		}
		rev = e.Rev
		seen = append(seen, e.Type+" "+string(e.State))
	}
	ev.mu.Unlock()
	if got := strings.Join(seen, ", "); got != "submit waiting, update running, update running, update scheduled, update ready, update running, update running, complete succeeded" &&
		got != "submit waiting, update running, update running, update scheduled, update waiting, update running, update running, complete succeeded" {
		w.Errorf("%s", got)
	}
	ev.mu.Lock()
	ev.err = errBoom
	ev.mu.Unlock()
	if _, err := n.Submit(w.Context(), job.Request{Kind: "noop"}); !errors.Is(err, errBoom) {
		w.Errorf("sink fails a submission: %v", err)
	}
	if c := count(w, n); c != 0 {
		w.Errorf("%d rows", c)
	}
}

func largeResult(w *world) {
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(_ context.Context, size int) (string, error) { return strings.Repeat("x", size-2), nil })
	})
	if j := w.wait(n, w.submit(n, job.Request{Kind: "x", Args: 1 << 20})); j.State != job.Succeeded || len(j.Result) != 1<<20 {
		w.Errorf("%s %v", j.State, j.Error)
	}
	if j := w.wait(n, w.submit(n, job.Request{Kind: "x", Args: 1<<20 + 1})); j.State != job.Failed || j.Error.Code != job.CodeTooLarge || j.Runs != 1 || !strings.Contains(j.Error.Text, "1048576") {
		w.Errorf("%s %v", j.State, j.Error)
	}
}

func releaseTurn(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, early bool) (int, error) {
			if early {
				w.must(job.ReleaseTurn(ctx))
				w.must(job.ReleaseTurn(ctx))
			}
			g.started <- nil
			return 0, <-g.let
		}, job.Retry(constant(time.Minute), 5))
	})
	a, b := w.submit(n, job.Request{Kind: "x", Args: true, Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Args: false, Sync: vm("1")})
	c := w.submit(n, job.Request{Kind: "x", Args: false, Sync: vm("1")})
	<-g.started
	<-g.started // both
	w.state(n, c.ID, job.Waiting)
	g.let <- errBoom // one of them fails
	g.let <- nil
	g.let <- nil
	g.let <- nil
	for _, j := range []*job.Job{a, b, c} {
		if got := w.wait(n, j); got.State != job.Succeeded {
			w.Error(got.State)
		}
	}
}

func outside(w *world) {
	ctx := w.Context()
	if _, ok := job.FromContext(ctx); ok {
		w.Error("a job from nowhere")
	}
	if job.Token(ctx) != (lease.Token{}) {
		w.Error("a token from nowhere")
	}
	job.Beat(ctx)
	_, stepErr := job.Step(ctx, "a", func(context.Context) (int, error) { return 1, nil })
	for _, err := range []error{job.Report(ctx, job.Progress{}), job.Note(ctx, "a", nil), job.Attach(ctx, "vm/1"), job.ReleaseTurn(ctx), job.NoCancel(ctx), job.FinishTx(ctx, nil, 1), stepErr} {
		if !errors.Is(err, job.ErrInvalid) {
			w.Error(err)
		}
	}
	// And after the handler has returned.
	var kept context.Context
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			kept = ctx
			if tok := job.Token(ctx); tok.Node != "a" || tok.Epoch == 0 {
				w.Errorf("token %+v", tok)
			}
			w.must(job.Attach(ctx, "vm/7"))
			return 0, nil
		})
	})
	j := w.wait(n, w.submit(n, job.Request{Kind: "x"}))
	if by := w.get(n, j.ID).Resource; by != "vm/7" {
		w.Errorf("resource %q", by)
	}
	if err := job.Report(kept, job.Progress{Percent: 1}); err != nil {
		w.Errorf("report after the end: %v", err)
	}
	if err := job.Note(kept, "late", nil); !errors.Is(err, job.ErrFinished) {
		w.Errorf("note after the end: %v", err)
	}
}

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
