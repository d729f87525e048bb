package job_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
)

func TestPark(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-40 a child's error is the parent's", stores: "msp", run: typedChild},
		{name: "job-41 two join one", stores: "msp", run: twoJoin},
		{name: "job-42 on children", stores: "msp", run: onChildren},
		{name: "job-43 topic, time, expiry", stores: "msp", run: whys},
		{name: "job-43 any and all", run: groups},
		{name: "job-44 subscribed before", stores: "msp", run: subscribed},
		{name: "job-45 free turn", stores: "msp", run: freeTurn},
		{name: "job-47 signals", stores: "msp", run: signals},
		{name: "job-47 in the host's transaction", stores: "msp", run: wakeTx},
		{name: "job-47 many subscribers", stores: "msp", run: manyWake},
		{name: "job-48 no condition", run: noCondition},
		{name: "queue-55 Park on who waits for the held key", run: entered},
		{name: "job-50 debt", stores: "msp", run: debt},
		{name: "job-50 crash while it runs", run: debtCrash},
		{name: "job-35 parked past the deadline", run: parkedDeadline},
	})
}

// parker parks on what conds says in its first run, and hands on what its later runs were woken by.
type parker struct {
	parked chan string
	woken  chan *job.Job
}

func newParker() *parker { return &parker{make(chan string, 10000), make(chan *job.Job, 10000)} }

func (p *parker) handle(m *job.Manager, kind string, conds func(ctx context.Context) []job.Condition, opts ...job.HandleOption) {
	job.Handle(m, kind, func(ctx context.Context, _ struct{}) (string, error) {
		j, _ := job.FromContext(ctx)
		if j.Runs == 1 {
			c := conds(ctx)
			p.parked <- j.ID
			return "", job.Park(c...)
		}
		p.woken <- j
		return "woken", nil
	}, opts...)
}

func (w *world) parked(n *node, id string) {
	w.Helper()
	w.eventually(5*time.Second, "parked", func() bool { return w.get(n, id).State == job.Parked })
}

func whyOf(j *job.Job) (whys []string) {
	for _, k := range j.Wakes {
		whys = append(whys, strings.TrimSpace(k.Why+" "+k.Name+" "+string(k.Payload)))
	}
	return whys
}

func (w *world) woke(j *job.Job, want ...string) {
	w.Helper()
	if got := whyOf(j); !slices.Equal(got, want) {
		w.Fatalf("woken by %q, want %q", got, want)
	}
}

// soon is short on real servers.
func (w *world) soon(d time.Duration) time.Duration {
	if w.real {
		return min(d, 400*time.Millisecond)
	}
	return d
}

func whys(w *world) {
	p := newParker()
	d := w.soon(5 * time.Second)
	conds := map[string][]job.Condition{
		"topic":  {job.OnTopic("host/up"), job.Expire(time.Hour)},
		"time":   {job.After(d), job.OnTopic("other")},
		"at":     {job.At(time.Now().Add(d)), job.Expire(time.Hour)},
		"expire": {job.OnTopic("never"), job.Expire(d)},
	}
	n := w.node("a", func(m *job.Manager) {
		for kind, c := range conds {
			p.handle(m, kind, func(context.Context) []job.Condition { return c })
		}
	})
	topic := w.submit(n, job.Request{Kind: "topic"})
	w.parked(n, topic.ID)
	if reached, err := n.WakeWith(w.Context(), "host/up", []byte("h1")); reached != 1 || err != nil {
		w.Fatal(reached, err)
	}
	w.woke(<-p.woken, "topic host/up h1")
	if j := w.wait(n, topic); j.Runs != 2 || len(j.Wakes) != 0 {
		w.Fatalf("%d runs, %v", j.Runs, j.Wakes)
	}
	if reached, err := n.WakeWith(w.Context(), "host/up", nil); reached != 0 || err != nil {
		w.Fatal("consumed once, yet", reached, err)
	}
	for kind, why := range map[string]string{"time": "time", "at": "time", "expire": "expired"} {
		began := time.Now()
		j := w.submit(n, job.Request{Kind: kind})
		if kind == "at" {
			began = began.Add(-d) // of an earlier case: it may be over
		}
		got := <-p.woken
		w.woke(got, why)
		if took := got.Started.Sub(j.Created); took < d && kind != "at" || time.Since(began) > 3*d+2*time.Second {
			w.Fatalf("%s woke after %v of %v", kind, took, d)
		}
		w.wait(n, j)
	}
}

func groups(w *world) {
	p := newParker()
	g := newGate()
	var ids []string
	conds := map[string]func() []job.Condition{
		"any": func() []job.Condition { return []job.Condition{job.AnyOf(job.OnJobs(ids...))} },
		"all": func() []job.Condition {
			return []job.Condition{job.AllOf(job.OnTopic("x"), job.OnTopic("y"), job.After(time.Minute))}
		},
		"both": func() []job.Condition { return []job.Condition{job.OnJobs(ids[0]), job.OnJobs(ids[1])} },
	}
	n := w.node("a", func(m *job.Manager) {
		g.handle(m, "child")
		for kind, c := range conds {
			p.handle(m, kind, func(context.Context) []job.Condition { return c() })
		}
	})
	for range 2 {
		ids = append(ids, w.submit(n, job.Request{Kind: "child"}).ID)
	}
	any, both, all := w.submit(n, job.Request{Kind: "any"}), w.submit(n, job.Request{Kind: "both"}), w.submit(n, job.Request{Kind: "all"})
	for _, j := range []*job.Job{any, both, all} {
		w.parked(n, j.ID)
	}
	g.let <- nil
	j := <-p.woken
	if w.settle(); j.ID != any.ID || len(j.Wakes) != 1 || len(p.woken) > 0 {
		w.Fatalf("woke %s by %v, %d more", j.Kind, j.Wakes, len(p.woken))
	}
	g.let <- nil
	if j := <-p.woken; j.ID != both.ID || len(j.Wakes) != 2 {
		w.Fatalf("woke %s by %v", j.Kind, j.Wakes)
	}
	w.must(n.Wake(w.Context(), "y"))
	w.must(n.Wake(w.Context(), "x"))
	w.settle()
	w.state(n, all.ID, job.Parked)
	j = <-p.woken // by the time, which is the last
	w.woke(j, "topic y", "topic x", "time")
	if took := j.Started.Sub(all.Created); took < time.Minute || took > 62*time.Second {
		w.Fatalf("after %v", took)
	}
}

func freeTurn(w *world) {
	p, g := newParker(), newGate()
	conds := []job.Condition{job.OnTopic("go"), job.FreeTurn()}
	n := w.node("a", func(m *job.Manager) {
		p.handle(m, "free", func(context.Context) []job.Condition { return conds })
		p.handle(m, "keep", func(context.Context) []job.Condition { return conds[:1] })
		g.handle(m, "next")
	})
	k := vm("1")
	first := w.submit(n, job.Request{Kind: "free", Sync: k})
	w.parked(n, first.ID)
	second, third := w.submit(n, job.Request{Kind: "next", Sync: k}), w.submit(n, job.Request{Kind: "next", Sync: k})
	if j := <-g.started; j.ID != second.ID {
		w.Fatal("the third before the second")
	}
	w.must(n.Wake(w.Context(), "go"))
	w.state(n, first.ID, job.Waiting)
	g.let <- nil
	w.wait(n, first) // at its old place, before the third
	if j := <-g.started; j.ID != third.ID {
		w.Fatal("who is this")
	}
	g.let <- nil
	w.wait(n, third)

	k = vm("2")
	first = w.submit(n, job.Request{Kind: "keep", Sync: k})
	w.parked(n, first.ID)
	second = w.submit(n, job.Request{Kind: "next", Sync: k})
	w.settle()
	if len(g.started) > 0 {
		w.Fatal("the turn was not kept")
	}
	w.must(n.Wake(w.Context(), "go"))
	w.wait(n, first)
	<-g.started
	g.let <- nil
	w.wait(n, second)
}

func noCondition(w *world) {
	self := ""
	bad := map[string]func() error{
		"nothing": func() error { return job.Park() },
		"turn":    func() error { return fmt.Errorf("wrapped: %w", job.Park(job.FreeTurn())) },
		"group":   func() error { return job.Park(job.AnyOf()) },
		"id":      func() error { return job.Park(job.OnJobs("x")) },
		"self":    func() error { return job.Park(job.OnJobs(self)) },
		"topic":   func() error { return job.Park(job.OnTopic("")) },
		"time":    func() error { return job.Park(job.At(time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC))) },
		"many":    func() error { return job.Park(job.OnJobs(make([]string, 10_001)...)) },
	}
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "bad", func(ctx context.Context, what string) (int, error) {
			j, _ := job.FromContext(ctx)
			self = j.ID
			return 0, bad[what]()
		})
	})
	for what := range bad {
		j := w.wait(n, w.submit(n, job.Request{Kind: "bad", Args: what}))
		if j.State != job.Failed || j.Error.Code != job.CodeInvalid || j.Runs != 1 {
			w.Errorf("%s: %s %v after %d runs", what, j.State, j.Error, j.Runs)
		}
	}
}

// debts is a handler that pays when it may, and else waits for its topic or for some time.
type debts struct {
	mu   sync.Mutex
	runs []string
	pay  func(run int) error
}

func (d *debts) handle(m *job.Manager) {
	job.Handle(m, "debt", func(ctx context.Context, _ struct{}) (struct{}, error) {
		j, _ := job.FromContext(ctx)
		d.mu.Lock()
		d.runs = append(d.runs, strings.Join(whyOf(j), "+"))
		pay := d.pay
		d.mu.Unlock()
		if err := pay(j.Runs); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, nil
	}, job.Retry(nil, 10))
}

func (d *debts) log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.runs)
}

func debt(w *world) {
	after := w.soon(2 * time.Minute)
	park := job.Park(job.OnTopic("host/up"), job.After(after))
	d := &debts{pay: func(run int) error {
		switch run {
		case 1, 3, 4:
			return park
		case 2:
			return errBoom
		}
		return nil
	}}
	n := w.node("a", func(m *job.Manager) { d.handle(m) })
	j := w.submit(n, job.Request{Kind: "debt"})
	w.parked(n, j.ID)
	var wg sync.WaitGroup
	for range 2 { // two triggers at once: one run
		wg.Go(func() { w.must(n.Wake(w.Context(), "host/up")) })
	}
	wg.Wait()
	w.eventually(5*time.Second, "scheduled", func() bool { return w.get(n, j.ID).State == job.Scheduled })
	if got := w.wait(n, j); got.Runs != 5 || got.Attempt != 1 {
		w.Fatalf("%d runs, attempt %d", got.Runs, got.Attempt)
	}
	if got, want := d.log(), []string{"", "topic host/up", "", "time", "time"}; !slices.Equal(got, want) {
		w.Fatalf("ran by %q, want %q", got, want)
	}
	d.mu.Lock()
	d.pay = func(int) error { return park }
	d.mu.Unlock()
	j = w.submit(n, job.Request{Kind: "debt"})
	w.parked(n, j.ID)
	if ok, err := n.Cancel(w.Context(), j.ID); !ok || err != nil {
		w.Fatal(ok, err)
	}
	w.state(n, j.ID, job.Cancelled)
	if reached, err := n.WakeWith(w.Context(), "host/up", nil); reached != 0 || err != nil {
		w.Fatal("a cancelled job heard it", reached, err)
	}
}

func debtCrash(w *world) {
	g := newGate()
	d := &debts{pay: func(run int) error {
		switch run {
		case 1:
			return job.Park(job.OnTopic("host/up"))
		case 2:
			g.started <- nil
			<-g.let
		}
		return nil
	}}
	a := w.node("a", func(m *job.Manager) { d.handle(m) })
	j := w.submit(a, job.Request{Kind: "debt"})
	w.parked(a, j.ID)
	w.must(a.Wake(w.Context(), "host/up"))
	<-g.started
	a.faults.down(true)
	defer func() { g.let <- nil }()
	b := w.node("b", func(m *job.Manager) { d.handle(m) })
	if got := w.wait(b, j); got.State != job.Succeeded || got.Runs != 3 || got.Lost != 1 {
		w.Errorf("%s, %d runs, %d lost", got.State, got.Runs, got.Lost)
	}
}

func parkedDeadline(w *world) {
	p := newParker()
	n := w.node("a", func(m *job.Manager) {
		p.handle(m, "p", func(context.Context) []job.Condition { return []job.Condition{job.OnTopic("never")} })
	})
	j := w.submit(n, job.Request{Kind: "p", Deadline: time.Now().Add(5 * time.Second)})
	got := w.wait(n, j)
	if took := got.Ended.Sub(got.Created); got.State != job.Failed || got.Error.Code != job.CodeTimeout || took < 5*time.Second || took > 7*time.Second {
		w.Fatalf("%s %v after %v", got.State, got.Error, took)
	}
}
