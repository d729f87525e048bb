package job_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover/job"
)

func doubling() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.RandomizationFactor, b.MaxElapsedTime = time.Second, 2, 0, time.Millisecond
	return b
}

func retryDelays(w *world) {
	var start time.Time
	var at []time.Duration
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, fails int) (int, error) {
			at = append(at, time.Since(start))
			if j, _ := job.FromContext(ctx); j.Attempt < fails {
				return 0, fmt.Errorf("failure %d", j.Attempt+1)
			}
			return 0, nil
		}, job.Retry(doubling, 5))
	})
	w.settle()
	for _, c := range []struct {
		fails int
		state job.State
	}{{4, job.Succeeded}, {5, job.Failed}} {
		start, at = time.Now(), nil
		j := w.wait(n, w.submit(n, job.Request{Kind: "x", Args: c.fails}))
		if j.State != c.state || j.Attempt != c.fails {
			w.Fatalf("%d failures: %s, attempt %d", c.fails, j.State, j.Attempt)
		}
		for i, want := range []int{0, 1, 3, 7, 15} {
			if d := at[i] - time.Duration(want)*time.Second; d < 0 || d > 10*time.Millisecond {
				w.Errorf("run %d at %v, want %d s", i, at[i], want)
			}
		}
		if c.state == job.Failed && j.Error.Text != "failure 5" {
			w.Errorf("error %q", j.Error.Text)
		}
	}
}

func permanentAndAgain(w *world) {
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "permanent", func(context.Context, struct{}) (int, error) {
			return 0, fmt.Errorf("wrapped: %w", job.Permanent(errBoom))
		})
		job.Handle(m, "backoff", func(context.Context, struct{}) (int, error) { return 0, backoff.Permanent(errBoom) })
		job.Handle(m, "stop", func(context.Context, struct{}) (int, error) { return 0, errBoom },
			job.Retry(func() backoff.BackOff { return &backoff.StopBackOff{} }, 5))
		job.Handle(m, "again", func(ctx context.Context, _ struct{}) (int, error) {
			if j, _ := job.FromContext(ctx); j.Runs <= 20 {
				return 0, fmt.Errorf("not yet: %w", job.Again(2*time.Second))
			}
			return 0, nil
		})
	})
	for _, kind := range []string{"permanent", "backoff", "stop"} {
		if j := w.wait(n, w.submit(n, job.Request{Kind: kind})); j.State != job.Failed || j.Attempt != 1 || j.Runs != 1 {
			w.Errorf("%s: %s, attempt %d, %d runs", kind, j.State, j.Attempt, j.Runs)
		}
	}
	w.settle()
	start := time.Now()
	j, next := w.submit(n, job.Request{Kind: "again", Sync: vm("1")}), w.submit(n, job.Request{Kind: "permanent", Sync: vm("1")})
	time.Sleep(39 * time.Second)
	if got := w.get(n, next.ID); got.Runs != 0 {
		w.Errorf("the next of the key is %s", got.State)
	}
	got := w.wait(n, j)
	if d := time.Since(start).Round(time.Second); got.State != job.Succeeded || got.Attempt != 0 || got.Runs != 21 || d != 40*time.Second || got.Place != j.Place {
		w.Errorf("%s after %v, attempt %d, %d runs, place %d of %d", got.State, d, got.Attempt, got.Runs, got.Place, j.Place)
	}
	w.wait(n, next)
}

func retryKeepsTurn(w *world) {
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, fails int) (int, error) {
			if j, _ := job.FromContext(ctx); j.Attempt < fails {
				return 0, errBoom
			}
			return 0, nil
		}, job.Retry(constant(time.Minute), 5))
	})
	first, next := w.submit(n, job.Request{Kind: "x", Args: 1, Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	time.Sleep(59 * time.Second)
	w.state(n, first.ID, job.Scheduled)
	if j := w.state(n, next.ID, job.Waiting); j.Runs != 0 {
		w.Fatal("overtaken")
	}
	a, b := w.wait(n, first), w.wait(n, next)
	if b.Started.Before(a.Ended) {
		w.Fatalf("started %v before %v", b.Started, a.Ended)
	}
}

type quotaError struct {
	Limit int
	Name  string
}

func (e *quotaError) Error() string { return fmt.Sprintf("quota %s of %d exceeded", e.Name, e.Limit) }

func (e *quotaError) ErrorMeta() map[string]any {
	return map[string]any{"limit": e.Limit, "f": func() {}, "s": "text"}
}

var errNoHost = errors.New("no host fits")

func init() {
	job.RegisterError("no-host", errNoHost)
	job.RegisterErrorType[*quotaError]("quota")
}

func errorsOverStore(w *world) {
	fail := map[string]error{
		"sentinel": fmt.Errorf("deploy: %w", errNoHost),
		"typed":    fmt.Errorf("deploy: %w", &quotaError{3, "vms"}),
		"both":     errors.Join(errBoom, &quotaError{4, "ips"}, errNoHost),
		"plain":    errBoom,
		"long":     errors.New(strings.Repeat("é", 5<<10/2)),
	}
	w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(_ context.Context, which string) (int, error) { return 0, job.Permanent(fail[which]) })
	})
	other := w.idle("b")
	job.Declare[string, int](other.Manager, "x")
	got := map[string]*job.Error{}
	for _, which := range []string{"sentinel", "typed", "both", "plain", "long"} {
		_, err := job.Result[int](w.wait(other, w.submit(other, job.Request{Kind: "x", Args: which})))
		if !errors.As(err, new(*job.Error)) {
			w.Fatalf("%s: %T", which, err)
		}
		got[which] = err.(*job.Error)
	}
	if e := got["sentinel"]; e.Code != "no-host" || !errors.Is(e, errNoHost) || e.Text != "deploy: no host fits" || e.Meta != nil {
		w.Errorf("%+v", e)
	}
	var q *quotaError
	if e := got["typed"]; e.Code != "quota" || !errors.As(e, &q) || q.Limit != 3 || q.Name != "vms" {
		w.Errorf("%+v", e)
	} else if meta := e.Causes[0].Meta; meta["limit"] != "3" || meta["s"] != "text" || meta["f"] == "" {
		w.Errorf("meta %v", meta)
	}
	if e := got["both"]; e.Code != "quota" || !errors.Is(e, errNoHost) || !errors.As(e, &q) || q.Limit != 4 {
		w.Errorf("%+v", e)
	}
	if e := got["plain"]; e.Code != "internal" || e.Text != "boom" || errors.Is(e, errNoHost) || errors.As(e, &q) {
		w.Errorf("%+v", e)
	}
	if e := got["long"]; len(e.Text) > 4<<10 || !strings.HasSuffix(e.Text, "é…") {
		w.Errorf("%d bytes, ends %q", len(e.Text), e.Text[len(e.Text)-8:])
	}
}
