package storetest

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func (r *rig) signal(s job.Signal) (out job.Signalled) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		out, err = r.Jobs().Signal(ctx, tx, s)
		return err
	})
	return out
}

func topics(ws []job.Wake) (names []string) {
	for _, w := range ws {
		names = append(names, w.Why+" "+w.Name+" "+string(w.Payload))
	}
	return names
}

func signalTopic(r *rig) {
	r.insert(plainRows(1, 4)...)
	run := r.start(1, 2, 3, 4)
	for _, n := range []int{2, 0, 3} {
		if err := r.log(job.Entry{JobID: run[n].ID, Epoch: run[n].Epoch, Topic: "t"}, job.Entry{JobID: run[n].ID, Epoch: run[n].Epoch, Topic: "t"}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.must(park(run[1], job.Parking{Topics: []string{"t", "u"}}))
	r.must(park(run[2], job.Parking{}))
	r.must(end(run[3], job.Succeeded)) // hears nothing
	out := r.signal(job.Signal{Topic: "t", Payload: []byte("p")})
	same(r.t, "parked", numbers(out.Rows), []int{2, 3})
	same(r.t, "reached", out.Reached, 3)
	for i, row := range out.Rows {
		same(r.t, "inbox", topics(row.Inbox), []string{"topic t p"})
		same(r.t, "conditions", row.Conditions != nil, true)
		same(r.t, "state", out.Rows[i].State, job.Parked)
	}
	same(r.t, "kept while running", topics(r.waiting(1).Inbox), []string{"topic t p"})
	same(r.t, "other topic", r.signal(job.Signal{Topic: "T"}), job.Signalled{})
	if err := r.log(job.Entry{JobID: run[0].ID, Epoch: run[0].Epoch + 1, Topic: "t"}); err == nil {
		r.t.Fatal("subscribed by a stale run")
	}
}

func signalOne(r *rig) {
	r.insert(plainRows(1, 2)...)
	run := r.start(1, 2)
	to := func(n int, payload string) job.Signalled {
		s := job.Signal{Topic: job.JobTopic(id(n))}
		if payload != "" {
			s.Payload = []byte(payload)
		}
		return r.signal(s)
	}
	same(r.t, "unknown", to(9, ""), job.Signalled{})
	for i := range job.MaxInbox {
		for range 2 { // the same one once
			if out := to(1, fmt.Sprint(i)); out.Reached != 1 || out.Full || len(out.Rows) != 1 || out.Rows[0].State != job.Running {
				r.t.Fatalf("%d: %+v", i, out)
			}
		}
	}
	if out := to(1, "more"); !out.Full || out.Reached != 0 {
		r.t.Fatalf("%+v", out)
	}
	rev := r.get(2).Rev
	to(2, "")
	to(2, "")
	same(r.t, "no change of the job", r.get(2).Rev, rev)
	same(r.t, "without payload", topics(r.waiting(2).Inbox), []string{"topic " + job.JobTopic(id(2)) + " "})
	r.must(end(run[0], job.Succeeded))
	out := to(1, "late")
	same(r.t, "final", []any{out.Reached, out.Full, len(out.Rows), out.Rows[0].State, len(out.Rows[0].Inbox)}, []any{0, false, 1, job.Succeeded, 0})
}

func signalPages(r *rig) {
	r.insert(plainRows(1, 7)...)
	for _, row := range r.start(1, 2, 3, 4, 5, 6, 7) {
		r.must(park(row, job.Parking{Topics: []string{"t"}}))
	}
	var got []int
	s := job.Signal{Topic: "t", Limit: 3}
	for pages := 1; ; pages++ {
		out := r.signal(s)
		got = append(got, numbers(out.Rows)...)
		if s.After = out.Next; s.After == 0 {
			same(r.t, "pages", pages, 3)
			break
		}
	}
	same(r.t, "all", got, []int{1, 2, 3, 4, 5, 6, 7})
}

func signalConsumed(r *rig) {
	r.insert(plain(1))
	row := r.start(1)[0]
	for _, topic := range []string{"t", "u"} {
		if err := r.log(job.Entry{JobID: row.ID, Epoch: row.Epoch, Topic: topic}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.signal(job.Signal{Topic: "t"})
	r.must(park(row, job.Parking{Topics: []string{"v"}}))
	row = r.waiting(1)
	same(r.t, "seen", topics(row.Inbox), []string{"topic t "})
	wake := from(row, job.Ready)
	wake.Wakes = row.Inbox
	r.must(wake)
	row = r.start(1)[0]
	same(r.t, "wakes", topics(row.Wakes), []string{"topic t "})
	same(r.t, "inbox", len(r.waiting(1).Inbox), 0)
	for topic, n := range map[string]int{"t": 0, "u": 1, "v": 0} {
		same(r.t, topic, r.signal(job.Signal{Topic: topic}).Reached, n)
	}
	r.must(park(row, job.Parking{}))
	same(r.t, "while running", topics(r.waiting(1).Inbox), []string{"topic u "})
	gone := from(r.get(1), job.Cancelled)
	r.must(gone)
	r.must(job.Move{ID: id(1), From: job.Cancelled, Epoch: row.Epoch})
	r.insert(plain(1))
	same(r.t, "a new job of that id", len(r.waiting(1).Inbox)+r.signal(job.Signal{Topic: "u"}).Reached, 0)
}
