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
	"github.com/drover-cloud/drover/store"
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

func subscribed(w *world) {
	p := newParker()
	n := w.node("a", func(m *job.Manager) {
		p.handle(m, "sub", func(ctx context.Context) []job.Condition {
			w.must(job.Subscribe(ctx, "t"))
			if n, err := m.WakeWith(context.Background(), "t", []byte("early")); n != 1 || err != nil {
				w.Errorf("%d reached, %v", n, err)
			}
			return []job.Condition{job.OnTopic("t")}
		})
		p.handle(m, "own", func(ctx context.Context) []job.Condition {
			j, _ := job.FromContext(ctx)
			w.must(m.Wake(context.Background(), "job/"+j.ID))
			return []job.Condition{job.After(time.Hour)}
		})
	})
	j := w.submit(n, job.Request{Kind: "sub"})
	w.woke(<-p.woken, "topic t early")
	w.wait(n, j)
	j = w.submit(n, job.Request{Kind: "own"})
	w.woke(<-p.woken, "topic job/"+j.ID)
	w.wait(n, j)
	if reached, err := n.WakeWith(w.Context(), "t", nil); reached != 0 || err != nil {
		w.Fatal("a subscription is left", reached, err)
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

func signals(w *world) {
	g, p := newGate(), newParker()
	n := w.node("a", func(m *job.Manager) {
		g.handle(m, "x")
		p.handle(m, "p", func(context.Context) []job.Condition { return []job.Condition{job.After(time.Hour)} })
	}, workers(1))
	ctx := w.Context()
	if err := n.Wake(ctx, "job/00000000-0000-7000-8000-000000000000"); !errors.Is(err, job.ErrNotFound) {
		w.Error("unknown:", err)
	}
	if err := n.Wake(ctx, "job/x"); !errors.Is(err, job.ErrNotFound) {
		w.Error("no id:", err)
	}
	if n, err := n.WakeWith(ctx, "nobody", nil); n != 0 || err != nil {
		w.Error("nobody:", n, err)
	}
	for topic, payload := range map[string]int{"": 1, "t\n": 1, strings.Repeat("t", 129): 1} {
		if _, err := n.WakeWith(ctx, topic, make([]byte, payload)); !errors.Is(err, job.ErrInvalid) {
			w.Errorf("topic %q: %v", topic, err)
		}
	}
	if _, err := n.WakeWith(ctx, "t", make([]byte, 8<<10+1)); !errors.Is(err, job.ErrTooLarge) {
		w.Error("payload:", err)
	}
	x := w.submit(n, job.Request{Kind: "x"})
	<-g.started
	j := w.submit(n, job.Request{Kind: "p"}) // ready, behind x
	big := make([]byte, 8<<10)
	for i := range 64 {
		big[0] = byte(i)
		for range 2 { // the same one once
			if n, err := n.WakeWith(ctx, "job/"+strings.ToUpper(j.ID), big); n != 1 || err != nil {
				w.Fatal(i, n, err)
			}
		}
	}
	if _, err := n.WakeWith(ctx, "job/"+j.ID, []byte("65th")); !errors.Is(err, job.ErrOverloaded) {
		w.Error("65th:", err)
	}
	g.let <- nil
	w.wait(n, x)
	if err := n.Wake(ctx, "job/"+x.ID); !errors.Is(err, job.ErrFinished) {
		w.Error("final:", err)
	}
	got := <-p.woken // as soon as it parked
	if len(got.Wakes) != 64 || got.Wakes[1].Name != "job/"+j.ID || got.Wakes[63].Payload[0] != 63 {
		w.Errorf("%d wakes", len(got.Wakes))
	}
	w.wait(n, j)
}

func wakeTx(w *world) {
	p := newParker()
	n := w.node("a", func(m *job.Manager) {
		p.handle(m, "p", func(context.Context) []job.Condition { return []job.Condition{job.OnTopic("t")} })
	})
	j := w.submit(n, job.Request{Kind: "p"})
	w.parked(n, j.ID)
	wake := func(fail error) error {
		return w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
			got, err := n.WakeTx(ctx, tx, "t", []byte("x"))
			if got != 1 || err != nil {
				w.Errorf("%d reached, %v", got, err)
			}
			return fail
		})
	}
	if err := wake(errBoom); !errors.Is(err, errBoom) {
		w.Fatal(err)
	}
	w.settle()
	w.state(n, j.ID, job.Parked)
	w.must(wake(nil))
	w.woke(<-p.woken, "topic t x")
	w.wait(n, j)
}

func manyWake(w *world) {
	p := newParker()
	const jobs = 1100
	n := w.node("a", func(m *job.Manager) {
		p.handle(m, "p", func(context.Context) []job.Condition { return []job.Condition{job.OnTopic("t")} })
	})
	var rs []job.Request
	for range jobs {
		rs = append(rs, job.Request{Kind: "p"})
	}
	js, err := n.SubmitMany(w.Context(), rs)
	w.must(err)
	for _, j := range js {
		w.parked(n, j.ID)
	}
	if got, err := n.WakeWith(w.Context(), "t", nil); got != jobs || err != nil {
		w.Fatal(got, err)
	}
	for _, j := range js {
		if j := w.wait(n, j); j.Runs != 2 {
			w.Fatalf("%d runs", j.Runs)
		}
	}
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
