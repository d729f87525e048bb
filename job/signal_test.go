package job_test

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

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
