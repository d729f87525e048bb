package job_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
)

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
