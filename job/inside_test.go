package job_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
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
