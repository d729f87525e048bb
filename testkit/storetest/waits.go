package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func waits(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-120 park: what is stored, and when it ends", parkStored},
		{"st-121 park: due at WakeAt", parkDue},
		{"st-122 joins: of live jobs only", joinLive},
		{"st-123 joins: the end is told", joinEnded},
		{"st-124 joins: parked and ended in one batch", joinBatch},
		{"st-125 signals: to a topic", signalTopic},
		{"st-126 signals: to one job", signalOne},
		{"st-127 signals: page by page", signalPages},
		{"st-128 signals: consumed once", signalConsumed},
		{"st-129 rolled back, nothing is told", waitsUndone},
		{"st-130 children by parent", childrenOf},
		{"st-131 a join and the end of its target overlap", joinRace},
		{"st-132 a signal and a park overlap", signalRace},
		{"st-133 two targets end at once", lastTwo},
		{"st-134 two signals at once: told once", signalTwice},
	})
}

// park moves a running row to Parked.
func park(row job.Row, p job.Parking) job.Move {
	if p.Conditions == nil {
		p.Conditions = json.RawMessage(`{"c":1}`)
	}
	m := end(row, job.Parked)
	m.Park = &p
	return m
}

// waiting is a job with what it waits for.
func (r *rig) waiting(n int) job.Row {
	r.t.Helper()
	rows := r.find(job.Find{IDs: []string{id(n)}, Waits: true}).Rows
	if len(rows) != 1 {
		r.t.Fatalf("job %d: %d rows", n, len(rows))
	}
	return rows[0]
}

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

func parkStored(r *rig) {
	r.insert(plain(1), plain(2), plain(3))
	run := r.start(1, 2, 3)
	at := r.now().Add(time.Hour)
	r.must(park(run[0], job.Parking{Conditions: json.RawMessage(`{"a":[1]}`), Jobs: []string{id(3), id(2), id(3)}, Topics: []string{"t"}, WakeAt: at}))
	row := r.waiting(1)
	sameJSON(r.t, "conditions", row.Conditions, json.RawMessage(`{"a":[1]}`))
	if row.State != job.Parked || !row.WakeAt.Equal(at.Truncate(time.Microsecond)) || !slices.Equal(row.Joins, []string{id(2), id(3)}) {
		r.t.Fatalf("%s %v %v", row.State, row.WakeAt, row.Joins)
	}
	more := from(row, job.Parked)
	more.Park = &job.Parking{Conditions: json.RawMessage(`{"b":2}`), Topics: []string{"u"}}
	r.must(more)
	row = r.waiting(1)
	sameJSON(r.t, "replaced", row.Conditions, json.RawMessage(`{"b":2}`))
	if !row.WakeAt.IsZero() || len(row.Joins) != 2 {
		r.t.Fatalf("%v %v", row.WakeAt, row.Joins)
	}
	for _, topic := range []string{"t", "u"} { // added
		same(r.t, topic, numbers(r.signal(job.Signal{Topic: topic}).Rows), []int{1})
	}
	wake := from(row, job.Ready)
	wake.Wakes = []job.Wake{{Why: "x"}}
	r.must(wake)
	row = r.waiting(1)
	if row.State != job.Ready || row.Conditions != nil || len(row.Joins)+len(row.Inbox) > 0 || len(row.Wakes) != 1 {
		r.t.Fatalf("left %+v", row)
	}
	same(r.t, "unsubscribed", r.signal(job.Signal{Topic: "t"}), job.Signalled{})
	same(r.t, "unjoined", r.signal(job.Signal{Ended: []string{id(2)}}), job.Signalled{})
	if bad := end(run[1], job.Succeeded); true {
		bad.Park = &job.Parking{}
		if done, err := r.tryMove(bad); err == nil && done[0] {
			r.t.Fatal("parked although final")
		}
	}
}

func parkDue(r *rig) {
	r.insert(plain(1), plain(2), plain(3))
	run := r.start(1, 2, 3)
	now := r.now()
	r.must(park(run[0], job.Parking{WakeAt: now.Add(50 * time.Millisecond)}))
	r.must(park(run[1], job.Parking{WakeAt: now.Add(20 * time.Millisecond)}))
	r.must(park(run[2], job.Parking{}))
	probe := job.Claim{Session: r.node, Kinds: []string{"k"}}
	if got := r.claim(probe); !got.Due && !got.Next.Equal(now.Add(20*time.Millisecond).Truncate(time.Microsecond)) {
		r.t.Fatalf("next %v", got.Next)
	}
	r.pass(100 * time.Millisecond)
	if got := r.claim(probe); !got.Due {
		r.t.Fatal("not due")
	}
	found := r.find(job.Find{Due: "parked", Waits: true, SkipLocked: true})
	same(r.t, "due", numbers(found.Rows), []int{2, 1})
	if found.Rows[0].Conditions == nil {
		r.t.Fatal("without conditions")
	}
	for _, row := range found.Rows {
		again := from(row, job.Parked)
		again.Park = &job.Parking{Conditions: row.Conditions}
		r.must(again)
	}
	same(r.t, "not due any more", len(r.find(job.Find{Due: "parked"}).Rows), 0)
	if got := r.claim(probe); got.Due || !got.Next.IsZero() {
		r.t.Fatalf("%+v", got)
	}
}

func joinLive(r *rig) {
	r.insert(plain(1), plain(2), keyed(3, vm), keyed(4, vm), with(plain(5), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))
	run := r.start(1, 2, 3)
	r.must(end(run[1], job.Succeeded))
	r.must(park(run[0], job.Parking{Jobs: []string{id(2), id(3), id(4), id(5), id(99)}}))
	same(r.t, "joined", r.waiting(1).Joins, []string{id(3), id(4), id(5)}) // running, waiting, scheduled; not final, unknown
	rev := r.get(4).Rev
	r.must(end(run[2], job.Succeeded))
	same(r.t, "rev", r.get(4).Rev, rev+1) // being joined is no change of a job
	r.start(4)
}

func joinEnded(r *rig) {
	r.insert(plainRows(1, 6)...)
	run := r.start(1, 2, 3, 4, 5, 6)
	r.must(park(run[1], job.Parking{Jobs: []string{id(4), id(5)}}))
	r.must(park(run[0], job.Parking{Jobs: []string{id(4)}}))
	fin := r.finisher()
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		got, err := fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(run[5], job.Succeeded)}})
		if err != nil || got.Awaited {
			r.t.Errorf("nobody has joined 6: %v", err)
		}
		got, err = fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(run[2], job.Failed), end(run[3], job.Failed)}})
		if err != nil || !got.Awaited {
			r.t.Errorf("4 is joined: %v", err)
		}
		out, err := r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{id(3), id(4)}})
		if err != nil || !slices.Equal(numbers(out.Rows), []int{1, 2}) {
			r.t.Errorf("told %v, %v", numbers(out.Rows), err)
			return err
		}
		same(r.t, "left of 1", len(out.Rows[0].Joins), 0)
		same(r.t, "left of 2", out.Rows[1].Joins, []string{id(5)})
		if out.Rows[0].Conditions == nil || out.Rows[0].Epoch != run[0].Epoch {
			r.t.Errorf("%+v", out.Rows[0])
		}
		return nil
	})
	same(r.t, "once", len(r.signal(job.Signal{Ended: []string{id(4)}}).Rows), 0)
	r.must(end(run[4], job.Cancelled))
	same(r.t, "by a move", numbers(r.signal(job.Signal{Ended: []string{id(5)}}).Rows), []int{2})
}

// joinBatch: either the join is not made or the end knows of it, whatever the order of ids.
func joinBatch(r *rig) {
	r.insert(plainRows(1, 4)...)
	run := r.start(1, 2, 3, 4)
	ms := []job.Move{park(run[0], job.Parking{Jobs: []string{id(2)}}), end(run[1], job.Succeeded), end(run[2], job.Succeeded), park(run[3], job.Parking{Jobs: []string{id(3)}})}
	fin := r.finisher()
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		got, err := fin.Finish(ctx, tx, job.Finish{Moves: ms})
		if err == nil && got.Awaited {
			_, err = r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{id(2), id(3)}})
		}
		return err
	})
	for _, n := range []int{1, 4} {
		if row := r.waiting(n); row.State != job.Parked || len(row.Joins) > 0 {
			r.t.Fatalf("job %d is %s and waits for %v", n, row.State, row.Joins)
		}
	}
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

func waitsUndone(r *rig) {
	r.insert(plain(1), plain(2), plain(3))
	run := r.start(1, 2, 3)
	r.must(park(run[0], job.Parking{Jobs: []string{id(2)}, Topics: []string{"t"}}))
	err := failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Signal(ctx, tx, job.Signal{Topic: "t"}); err != nil {
			return err
		}
		if _, err := r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{id(2)}}); err != nil {
			return err
		}
		m := park(run[2], job.Parking{Jobs: []string{id(2)}, Topics: []string{"t"}, WakeAt: tx.Now()})
		if _, err := r.Jobs().Move(ctx, tx, []job.Move{m}); err != nil {
			return err
		}
		return errUndo
	})
	same(r.t, "error", err, errUndo)
	row := r.waiting(1)
	same(r.t, "joins", row.Joins, []string{id(2)})
	same(r.t, "inbox", len(row.Inbox), 0)
	same(r.t, "due", len(r.find(job.Find{Due: "parked"}).Rows), 0)
	same(r.t, "subscribed", r.signal(job.Signal{Topic: "t"}).Reached, 1)
}

func childrenOf(r *rig) {
	child := func(n, parent int) job.Row { return with(plain(n), func(row *job.Row) { row.Parent = id(parent) }) }
	r.insert(plain(1), plain(2), child(3, 1), child(4, 2), child(5, 1), child(6, 1))
	run := r.start(1, 2, 3, 4, 5, 6)
	r.must(end(run[2], job.Succeeded))
	same(r.t, "live", numbers(r.find(job.Find{Parents: []string{id(2), id(1)}}).Rows), []int{4, 5, 6})
	same(r.t, "limit", numbers(r.find(job.Find{Parents: []string{id(1)}, Limit: 1}).Rows), []int{5})
	same(r.t, "none", len(r.find(job.Find{Parents: []string{id(3), id(99)}}).Rows), 0)
}

// joinRace ends jobs while others join them: the one who comes second knows of the other.
func joinRace(r *rig) {
	fin := r.finisher()
	const pairs = 40
	r.insert(plainRows(1, 2*pairs)...)
	rows := r.claim(r.all(2 * pairs)).Rows
	same(r.t, "started", len(rows), 2*pairs)
	var wg sync.WaitGroup
	for i := range pairs {
		waiter, target := rows[2*i], rows[2*i+1]
		wg.Go(func() {
			move(r, park(waiter, job.Parking{Jobs: []string{target.ID, rows[(2*i+3)%(2*pairs)].ID}}))
		})
		wg.Go(func() {
			err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
				got, err := fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(target, job.Succeeded)}})
				if err != nil || !got.Done[0] {
					return fmt.Errorf("done %v, %w", got.Done, err)
				}
				if got.Awaited {
					_, err = r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{target.ID}})
				}
				return err
			})
			if err != nil {
				r.t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range pairs {
		if row := r.waiting(2*i + 1); row.State != job.Parked || len(row.Joins) > 0 {
			r.t.Fatalf("job %d is %s and sleeps for ever on %v", 2*i+1, row.State, row.Joins)
		}
	}
}

func move(r *rig, m job.Move) {
	err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
		done, err := r.Jobs().Move(ctx, tx, []job.Move{m})
		if err == nil && !done[0] {
			err = fmt.Errorf("move of %s to %s refused", m.ID, m.To)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

// signalRace parks jobs while they are signalled.
func signalRace(r *rig) {
	const jobs = 40
	r.insert(plainRows(1, jobs)...)
	rows := r.claim(r.all(jobs)).Rows
	same(r.t, "started", len(rows), jobs)
	var wg sync.WaitGroup
	for _, row := range rows {
		seen := make(chan bool, 2)
		wg.Go(func() {
			err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
				if _, err := r.Jobs().Move(ctx, tx, []job.Move{park(row, job.Parking{})}); err != nil {
					return err
				}
				found, err := r.Jobs().List(ctx, tx, job.Find{IDs: []string{row.ID}, Waits: true})
				if err == nil {
					seen <- len(found.Rows[0].Inbox) > 0
				}
				return err
			})
			if err != nil {
				r.t.Error(err)
				seen <- true
			}
		})
		wg.Go(func() {
			var out job.Signalled
			err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
				out, err = r.Jobs().Signal(ctx, tx, job.Signal{Topic: job.JobTopic(row.ID)})
				return err
			})
			if err != nil || len(out.Rows) != 1 {
				r.t.Errorf("%d rows, %v", len(out.Rows), err)
				return
			}
			if parked := out.Rows[0].State == job.Parked; !<-seen && !parked {
				r.t.Errorf("neither saw the other: %s", row.ID)
			}
		})
	}
	wg.Wait()
}

// lastTwo ends the two targets of each waiter in two transactions at once: one of them finds that none is left.
func lastTwo(r *rig) {
	fin := r.finisher()
	const waiters = 20
	r.insert(plainRows(1, 3*waiters)...)
	rows := r.claim(r.all(3 * waiters)).Rows
	same(r.t, "started", len(rows), 3*waiters)
	for i := range waiters {
		r.must(park(rows[3*i], job.Parking{Jobs: []string{rows[3*i+1].ID, rows[3*i+2].ID}}))
	}
	var mu sync.Mutex
	woken := map[string]int{}
	var wg sync.WaitGroup
	for _, side := range []int{1, 2} {
		for i := range waiters {
			target := rows[3*i+side]
			wg.Go(func() {
				var out job.Signalled
				err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
					if _, err := fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(target, job.Succeeded)}}); err != nil {
						return err
					}
					var err error
					out, err = r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{target.ID}})
					return err
				})
				if err != nil {
					r.t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, row := range out.Rows {
					if len(row.Joins) == 0 {
						woken[row.ID]++
					}
				}
			})
		}
	}
	wg.Wait()
	for i := range waiters {
		same(r.t, "woken "+rows[3*i].ID, woken[rows[3*i].ID], 1)
	}
}

// signalTwice signals a topic twice at once; whoever is first wakes the job, which is then not told again.
func signalTwice(r *rig) {
	const jobs = 20
	r.insert(plainRows(1, jobs)...)
	rows := r.claim(r.all(jobs)).Rows
	same(r.t, "started", len(rows), jobs)
	var wg sync.WaitGroup
	for i, row := range rows {
		topic := fmt.Sprint("t", i)
		r.must(park(row, job.Parking{Topics: []string{topic}}))
		for range 2 {
			wg.Go(func() {
				err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
					out, err := r.Jobs().Signal(ctx, tx, job.Signal{Topic: topic})
					if err != nil || len(out.Rows) == 0 {
						return err
					}
					wake := from(out.Rows[0], job.Ready)
					wake.Wakes = out.Rows[0].Inbox
					_, err = r.Jobs().Move(ctx, tx, []job.Move{wake})
					return err
				})
				if err != nil {
					r.t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for n := 1; n <= jobs; n++ {
		if row := r.waiting(n); row.State != job.Ready || len(row.Inbox) > 0 || len(row.Wakes) != 1 {
			r.t.Fatalf("job %d is %s, woken by %v, told %v", n, row.State, row.Wakes, row.Inbox)
		}
	}
}
