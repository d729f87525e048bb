package job_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

func TestSubmit(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-03 ready at once, scheduled exactly", run: submitTimes},
		{name: "job-04 in a transaction of its own store", stores: "msp", run: submitTx},
		{name: "job-06 many, all or none", run: submitMany},
		{name: "job-07 custom id", run: customID},
		{name: "job-08 the same request again", run: sameAgain},
		{name: "job-13 what is refused", run: refusedRequests},
		{name: "job-13 depth", run: depth},
		{name: "job-13 declared kinds run elsewhere", run: declared},
		{name: "queue-60 bad key", run: badKeys},
	})
}

func submitTimes(w *world) {
	var at []time.Time
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, struct{}) (int, error) {
			at = append(at, time.Now())
			return 1, nil
		})
	})
	w.settle()
	silent := w.idle("b") // nobody runs it
	job.Declare[struct{}, int](silent.Manager, "y")
	if j := w.submit(silent, job.Request{Kind: "y"}); j.State != job.Ready {
		w.Fatalf("state %s", j.State)
	}
	start := time.Now()
	j := w.submit(n, job.Request{Kind: "x", RunAt: start.Add(10 * time.Second)})
	if j.State != job.Scheduled {
		w.Fatalf("state %s", j.State)
	}
	time.Sleep(9999 * time.Millisecond)
	w.settle()
	w.state(n, j.ID, job.Scheduled)
	w.wait(n, j)
	if d := at[0].Sub(start); d < 10*time.Second || d > 10*time.Second+2*time.Millisecond {
		w.Fatalf("ran after %v", d)
	}
}

func submitTx(w *world) {
	n := w.node("a", noop)
	var kept, lost *job.Job
	w.must(w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) (err error) {
		kept, err = n.SubmitTx(ctx, tx, job.Request{Kind: "noop"})
		return err
	}))
	if j := w.wait(n, kept); j.State != job.Succeeded {
		w.Fatal(j.State)
	}
	err := w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) (err error) {
		lost, err = n.SubmitTx(ctx, tx, job.Request{Kind: "noop"})
		if err != nil {
			return err
		}
		return errBoom
	})
	if !errors.Is(err, errBoom) {
		w.Fatal(err)
	}
	if _, err := n.Get(w.Context(), lost.ID); !errors.Is(err, job.ErrNotFound) {
		w.Fatalf("rolled back, but %v", err)
	}
	var other memory.Store
	err = other.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := n.SubmitTx(ctx, tx, job.Request{Kind: "noop"})
		return err
	})
	if !errors.Is(err, store.ErrForeign) {
		w.Fatalf("foreign: %v", err)
	}
}

func submitMany(w *world) {
	n := w.idle("a")
	job.Declare[int, int](n.Manager, "x")
	rs := make([]job.Request, 1000)
	for i := range rs {
		rs[i] = job.Request{Kind: "x", Args: i}
	}
	bad := slices.Clone(rs)
	bad[500].Priority = 1000
	var batch *job.BatchError
	if _, err := n.SubmitMany(w.Context(), bad); !errors.As(err, &batch) || batch.Index != 500 || !errors.Is(err, job.ErrInvalid) {
		w.Fatalf("bad batch: %v", err)
	}
	if c := count(w, n); c != 0 {
		w.Fatalf("%d rows left behind", c)
	}
	if _, err := n.SubmitMany(w.Context(), make([]job.Request, 10_001)); !errors.Is(err, job.ErrInvalid) {
		w.Fatalf("10 001: %v", err)
	}
	if _, err := n.SubmitMany(w.Context(), nil); !errors.Is(err, job.ErrInvalid) {
		w.Fatalf("none: %v", err)
	}
	js, err := n.SubmitMany(w.Context(), rs)
	w.must(err)
	for i, j := range js {
		if string(j.Args) != fmt.Sprint(i) || i > 0 && j.Seq <= js[i-1].Seq {
			w.Fatalf("answer %d: args %s, seq %d", i, j.Args, j.Seq)
		}
	}
	if c := count(w, n); c != 1000 {
		w.Fatalf("%d rows", c)
	}
}

func count(w *world, n *node) (c int) {
	for _, err := range n.List(w.Context(), job.Query{Limit: 500}) {
		w.must(err)
		c++
	}
	return c
}

func customID(w *world) {
	n := w.idle("a")
	job.Declare[int, int](n.Manager, "x")
	const id = "0198B5D2-0000-7000-8000-00000000000A"
	var f *job.FieldError
	if _, err := n.Submit(w.Context(), job.Request{Kind: "x", ID: "x"}); !errors.As(err, &f) || f.Field != "ID" || !errors.Is(err, job.ErrInvalid) {
		w.Fatalf("id x: %v", err)
	}
	j := w.submit(n, job.Request{Kind: "x", ID: id, Args: 1})
	if j.ID != strings.ToLower(id) {
		w.Fatalf("id %s", j.ID)
	}
	if got := w.get(n, id); got.ID != j.ID {
		w.Fatalf("found %s", got.ID)
	}
	var d *job.DuplicateError
	if _, err := n.Submit(w.Context(), job.Request{Kind: "x", ID: id, Args: 2}); !errors.As(err, &d) || d.ID != j.ID || d.Field != "id" || !errors.Is(err, job.ErrDuplicate) {
		w.Fatalf("other args: %v", err)
	}
	if c := count(w, n); c != 1 {
		w.Fatalf("%d rows", c)
	}
}

func sameAgain(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") })
	const id = "0198b5d2-0000-7000-8000-00000000000a"
	for i, r := range []job.Request{
		{Kind: "x", ID: id},
		{Kind: "x", Idem: "once", Identity: map[string]string{"account": "a1"}},
	} {
		first := w.submit(n, r)
		<-g.started
		again := w.submit(n, r)
		if again.ID != first.ID || !again.Replayed || again.Joined || first.Replayed {
			w.Fatalf("%d, running: %+v", i, again)
		}
		g.let <- nil
		w.wait(n, first)
		again = w.submit(n, r)
		if again.ID != first.ID || !again.Replayed || again.State != job.Succeeded || again.Runs != 1 {
			w.Fatalf("%d, finished: %+v", i, again)
		}
	}
	g.let <- nil
	other := w.submit(n, job.Request{Kind: "x", Idem: "once", Identity: map[string]string{"account": "a2"}})
	if other.Replayed {
		w.Fatal("another account met the first one's job")
	}
	if j := w.wait(n, other); j.State != job.Succeeded {
		w.Fatal(j.State)
	}
}

func refusedRequests(w *world) {
	type known struct{ A int }
	n := w.idle("a")
	job.Declare[known, int](n.Manager, "known")
	job.Declare[string, int](n.Manager, "text")
	job.Declare[int, int](n.Manager, "one")
	job.Declare[int, int](n.Manager, "two")
	if j := w.submit(n, job.Request{Args: known{1}}); j.Kind != "known" {
		w.Fatalf("kind %s", j.Kind)
	}
	long := strings.Repeat("x", 129)
	big := make(map[string]string)
	for i := range 65 {
		big[fmt.Sprint(i)] = ""
	}
	for _, c := range []struct {
		field string
		r     job.Request
	}{
		{"Kind", job.Request{Kind: "nobody"}},
		{"Kind", job.Request{Args: 3}},
		{"Kind", job.Request{Args: 3.5}},
		{"Kind", job.Request{}},
		{"Args", job.Request{Kind: "text", Args: make(chan int)}},
		{"Queue", job.Request{Kind: "text", Queue: long}},
		{"Unique", job.Request{Kind: "text", Unique: long}},
		{"Idem", job.Request{Kind: "text", Idem: "a\nb"}},
		{"Name", job.Request{Kind: "text", Name: "child"}},
		{"Resource", job.Request{Kind: "text", Resource: "vm/\x00"}},
		{"Parent", job.Request{Kind: "text", Parent: "0198b5d2-0000-7000-8000-00000000000a"}},
		{"Parent", job.Request{Kind: "text", Parent: "x"}},
		{"Priority", job.Request{Kind: "text", Priority: 101}},
		{"Timeout", job.Request{Kind: "text", Timeout: -5}},
		{"MaxAttempts", job.Request{Kind: "text", MaxAttempts: -1}},
		{"RunAt", job.Request{Kind: "text", RunAt: time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"RunAt", job.Request{Kind: "text", RunAt: time.Unix(0, 0)}},
		{"Deadline", job.Request{Kind: "text", Deadline: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"Identity", job.Request{Kind: "text", Identity: big}},
		{"Identity", job.Request{Kind: "text", Identity: map[string]string{"k": strings.Repeat("v", 8<<10)}}},
	} {
		_, err := n.Submit(w.Context(), c.r)
		var f *job.FieldError
		if !errors.As(err, &f) || !errors.Is(err, job.ErrInvalid) || f.Field != c.field || f.Reason == "" {
			w.Errorf("%s: %v", c.field, err)
		}
		if c.r.Kind == "nobody" && !strings.Contains(err.Error(), "nobody") {
			w.Errorf("does not name the kind: %v", err)
		}
	}
	fits := strings.Repeat("x", 256<<10-2) // and two quotes
	w.submit(n, job.Request{Kind: "text", Args: fits})
	if _, err := n.Submit(w.Context(), job.Request{Kind: "text", Args: fits + "x"}); !errors.Is(err, job.ErrTooLarge) {
		w.Errorf("one byte more: %v", err)
	}
	if c := count(w, n); c != 2 {
		w.Errorf("%d rows, want 2", c)
	}
}

func depth(w *world) {
	deepest := make(chan error, 1)
	n := w.idle("a", workers(100))
	job.Handle(n.Manager, "down", func(ctx context.Context, d int) (int, error) {
		j, err := n.Submit(ctx, job.Request{Kind: "down", Args: d + 1, Identity: map[string]string{"level": fmt.Sprint(d + 1)}})
		if err != nil {
			deepest <- fmt.Errorf("%d: %w", d, err)
			return d, nil
		}
		if me, _ := job.FromContext(ctx); j.Parent != me.ID || j.Identity["user"] != "u" || j.Identity["level"] != fmt.Sprint(d+1) || j.Root == j.ID {
			deepest <- fmt.Errorf("child %+v", j)
		}
		return d, nil
	})
	n.run()
	w.submit(n, job.Request{Kind: "down", Args: 0, Identity: map[string]string{"user": "u", "level": "0"}})
	err := <-deepest
	if !errors.Is(err, job.ErrInvalid) || !strings.HasPrefix(err.Error(), "16:") {
		w.Fatal(err)
	}
}

func declared(w *world) {
	sub := w.idle("front", with(func(c *job.Config) { c.Queues = map[string]int{}; c.Session = nil }))
	job.Declare[struct{}, struct{}](sub.Manager, "noop")
	w.node("back", noop)
	j := w.submit(sub, job.Request{Kind: "noop"})
	if j := w.wait(sub, j); j.State != job.Succeeded || j.Session != "back" {
		w.Fatalf("%s on %s", j.State, j.Session)
	}
}

func badKeys(w *world) {
	n := w.idle("a")
	job.Declare[struct{}, int](n.Manager, "x")
	for _, k := range []job.Request{
		{Kind: "x", Sync: vm("")},
		{Kind: "x", Sync: vm(strings.Repeat("x", 129))},
		{Kind: "x", Sync: vm("a\tb")},
	} {
		if _, err := n.Submit(w.Context(), k); !errors.Is(err, job.ErrInvalid) {
			w.Errorf("%q: %v", k.Sync, err)
		}
	}
	k := job.Request{Kind: "x"}
	k.Sync.ID = "42"
	if _, err := n.Submit(w.Context(), k); !errors.Is(err, job.ErrInvalid) {
		w.Errorf("no kind: %v", err)
	}
}
