package job_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

var errNoRoom = errors.New("no room")

type hostError struct{ Host string }

func (e *hostError) Error() string { return "host " + e.Host }

func init() {
	job.RegisterError("no-room", errNoRoom)
	job.RegisterErrorType[*hostError]("host-bad")
}

func typedChild(w *world) {
	let := make(chan struct{}) // the child ends after the parent has parked
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "child", func(_ context.Context, kind string) (string, error) {
			<-let
			switch kind {
			case "sentinel":
				return "", job.Permanent(fmt.Errorf("placing: %w", errNoRoom))
			case "typed":
				return "", job.Permanent(&hostError{"h1"})
			case "empty":
				return "", job.Permanent(errors.New(""))
			}
			return "fine", nil
		})
		job.Handle(m, "parent", func(ctx context.Context, kind string) (string, error) {
			c, err := m.Submit(ctx, job.Request{Kind: "child", Args: kind, Name: "c"})
			if err != nil {
				return "", err
			}
			v, err := job.Await[string](ctx, c.ID)
			if j, _ := job.FromContext(ctx); j.Runs == 1 {
				return "", err
			}
			js, joined := job.Joined(ctx)
			he := new(hostError)
			return fmt.Sprintln(v, errors.Is(err, errNoRoom), errors.Is(joined, errNoRoom), errors.As(err, &he) && he.Host == "h1",
				errors.As(joined, &he), err != nil && err.Error() != "", len(js)), nil
		})
	})
	for kind, want := range map[string]string{
		"sentinel": "true true false false true 1", "typed": "false false true true true 1",
		"empty": "false false false false true 1", "ok": "fine false false false false false 1",
	} {
		p := w.submit(n, job.Request{Kind: "parent", Args: kind})
		w.parked(n, p.ID)
		let <- struct{}{}
		got, err := job.Result[string](w.wait(n, p))
		if err != nil || strings.Join(strings.Fields(got), " ") != want {
			w.Errorf("%s: %q %v, want %q", kind, got, err, want)
		}
	}
}

func twoJoin(w *world) {
	g, p := newGate(), newParker()
	var id string
	n := w.node("a", func(m *job.Manager) {
		g.handle(m, "joined")
		p.handle(m, "p", func(context.Context) []job.Condition { return []job.Condition{job.OnJobs(id)} })
	})
	t := w.submit(n, job.Request{Kind: "joined"})
	id = t.ID
	<-g.started
	a, b := w.submit(n, job.Request{Kind: "p"}), w.submit(n, job.Request{Kind: "p"})
	w.parked(n, a.ID)
	w.parked(n, b.ID)
	if w.get(n, a.ID).Attempt != 0 {
		w.Fatal("parking spent an attempt")
	}
	g.let <- nil
	for range 2 {
		w.woke(<-p.woken, "job "+id)
	}
	for _, j := range []*job.Job{a, b} {
		if j = w.wait(n, j); j.Runs != 2 || j.State != job.Succeeded {
			w.Fatalf("%s after %d runs", j.State, j.Runs)
		}
	}
	w.must(w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
		got, err := w.db.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{id}})
		if err != nil || len(got.Rows) > 0 {
			return fmt.Errorf("joins left: %d, %w", len(got.Rows), err)
		}
		return nil
	}))
}

func onChildren(w *world) {
	g := newGate()
	woken := make(chan *job.Job, 10)
	n := w.node("a", func(m *job.Manager) {
		g.handle(m, "child")
		job.Handle(m, "parent", func(ctx context.Context, wait bool) (int, error) {
			j, _ := job.FromContext(ctx)
			for i := range 3 {
				c, err := m.Submit(ctx, job.Request{Kind: "child", Name: fmt.Sprint(i)})
				if err != nil {
					return 0, err
				}
				if j.Runs == 1 && !wait {
					if _, err := m.Wait(ctx, c.ID); err != nil {
						return 0, err
					}
				}
			}
			if j.Runs == 1 {
				return 0, job.Park(job.OnChildren())
			}
			woken <- j
			js, err := job.Joined(ctx)
			return len(js), err
		})
	}, workers(3)) // the parent's worker is free while it is parked
	p := w.submit(n, job.Request{Kind: "parent", Args: true})
	for range 3 {
		<-g.started
	}
	w.parked(n, p.ID)
	for range 2 {
		g.let <- nil
	}
	w.settle()
	w.state(n, p.ID, job.Parked)
	g.let <- nil
	if got, err := job.Result[int](w.wait(n, p)); got != 3 || err != nil {
		w.Fatalf("%d joined, %v", got, err)
	}
	if j := <-woken; j.Runs != 2 || len(woken) > 0 {
		w.Fatalf("woken in run %d, %d more", j.Runs, len(woken))
	}
	for range 3 {
		g.let <- nil
	}
	p = w.submit(n, job.Request{Kind: "parent", Args: false})
	if got, err := job.Result[int](w.wait(n, p)); got != 0 || err != nil { // none was live to be joined
		w.Fatalf("final children: %d joined, %v", got, err)
	}
}

func entered(w *world) {
	conds := map[string]func(id string) []job.Condition{
		"plain": func(id string) []job.Condition { return []job.Condition{job.OnJobs(id)} },
		"inside": func(id string) []job.Condition {
			return []job.Condition{job.After(time.Hour), job.AnyOf(job.OnJobs(id))}
		},
		"free":  func(id string) []job.Condition { return []job.Condition{job.OnJobs(id), job.FreeTurn()} },
		"child": func(id string) []job.Condition { return []job.Condition{job.OnJobs(id)} },
	}
	var n *node
	n = w.node("a", func(m *job.Manager) {
		job.Handle(m, "outsider", func(context.Context, string) (int, error) { return 1, nil })
		job.Handle(m, "parks", func(ctx context.Context, how string) (int, error) {
			j, _ := job.FromContext(ctx)
			if j.Runs > 1 {
				return j.Runs, nil
			}
			o, err := n.Submit(ctx, job.Request{Kind: "outsider", Args: how, Sync: j.Sync, Detached: how != "child"})
			if err != nil {
				return 0, err
			}
			return 0, job.Park(conds[how](o.ID)...)
		})
	})
	for how := range conds {
		j := w.wait(n, w.submit(n, job.Request{Kind: "parks", Args: how, Sync: vm(how)}))
		refused := j.State == job.Failed && j.Error.Code == job.CodeInvalid && j.Runs == 1 && strings.Contains(j.Error.Text, "holds")
		if want := how == "plain" || how == "inside"; refused != want || !want && j.State != job.Succeeded {
			w.Errorf("%s: %s %v after %d runs", how, j.State, j.Error, j.Runs)
		}
	}
}
