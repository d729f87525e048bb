package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func claims(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-30 claim: live sessions only", claimSession},
		{"st-31 claim 1: candidates", claimCandidates},
		{"st-31 claim 1: turns", claimTurns},
		{"st-32 claim 2: order", claimOrder},
		{"st-32 claim 2: nothing overtakes in a line", claimLine},
		{"st-33 claim 3: what is set", claimSets},
		{"st-34 claim 4: a kind becomes limited", claimLimited},
		{"st-35 claim 5: once", claimOnce},
		{"st-36 claim 6: heads for others", claimOthers},
		{"st-37 claim 7: more behind waiters", claimBehind},
		{"st-37 claim 7: probe", claimProbe},
	})
}

func claimSession(r *rig) {
	r.insert(plain(1))
	c := r.all(1)
	c.Session = r.session("over", over)
	if _, err := r.tryClaim(c); !errors.Is(err, store.ErrConflict) {
		r.t.Fatalf("claim of a session that is over: %v", err)
	}
	c.Session = r.node
	r.session("n1", time.Hour)
	if _, err := r.tryClaim(c); !errors.Is(err, store.ErrConflict) {
		r.t.Fatalf("claim of a session that was replaced: %v", err)
	}
	r.is(job.Ready)
}

func claimCandidates(r *rig) {
	in := func(n int, queue, kind string) job.Row {
		return with(plain(n), func(row *job.Row) { row.Queue, row.Kind = queue, kind })
	}
	r.insert(in(1, "a", "k"), in(2, "a", "k"), in(3, "a", "k"), in(4, "b", "k"), in(5, "b", "k2"), in(6, "c", "k"), in(7, "b", "k3"),
		with(in(8, "b", "k"), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))
	claim := func(most int, free map[string]int, kinds ...string) []int {
		ns := numbers(r.claim(job.Claim{Session: r.node, Kinds: kinds, Free: free, Max: most}).Rows)
		slices.Sort(ns)
		return ns
	}
	same(r.t, "no kinds", len(claim(9, map[string]int{"a": 9})), 0)
	same(r.t, "no queues", len(claim(9, nil, "k")), 0)
	same(r.t, "by free slots", claim(9, map[string]int{"a": 2, "b": 9, "c": 0}, "k", "k2"), []int{1, 2, 4, 5})
	same(r.t, "by max", len(claim(1, map[string]int{"a": 9, "c": 9}, "k")), 1)
	same(r.t, "the rest", len(claim(9, map[string]int{"a": 9, "c": 9}, "k")), 1)
	same(r.t, "nothing left", len(claim(9, map[string]int{"a": 9, "c": 9}, "k")), 0)
}

func claimTurns(r *rig) {
	r.limit(other, 2)
	r.limit(kindOf(free), 0)
	r.insert(append(append(keyedRows(vm, 1, 3), keyedRows(other, 4, 6)...), keyedRows(free, 7, 9)...)...)
	rows := r.start(1, 4, 5, 7, 8, 9)
	for _, row := range rows {
		if row.Turn != (row.Sync != free) {
			r.t.Fatalf("%s runs on %v, turn %v", row.ID, row.Sync, row.Turn)
		}
	}
	r.start()
	r.must(end(rows[0], job.Succeeded))
	r.must(end(rows[2], job.Failed))
	r.start(2, 6)
}

func claimOrder(r *rig) {
	at := func(n, priority int, ago time.Duration) job.Row {
		return with(plain(n), func(row *job.Row) { row.Priority, row.RunAt = priority, r.now().Add(-ago) })
	}
	r.insert(at(1, 0, time.Minute), at(2, 5, 3*time.Hour), at(3, -5, time.Second), at(4, 0, time.Hour), at(5, -5, time.Second), at(6, 100, 2*time.Hour))
	ns := []int{}
	for range 2 {
		ns = append(ns, numbers(r.claim(r.all(2)).Rows)...)
	}
	if want := []int{3, 5, 4, 1}; !slices.Equal(ns, want) { // equal but for Seq: either way is Seq's if RunAt ties
		r.t.Fatalf("order %v, want %v", ns, want)
	}
	r.insert(at(7, -100, 0))
	c := r.all(2)
	c.Oldest = true
	same(r.t, "oldest first", numbers(r.claim(c).Rows), []int{2, 6})
	r.start(7)
}

func claimLine(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.insert(with(keyed(3, vm), func(row *job.Row) { row.Priority = -100 }), keyed(4, vm))
	for n := 1; n <= 4; n++ {
		r.must(end(r.start(n)[0], job.Succeeded))
	}
}

func claimSets(r *rig) {
	deadline := r.now().Add(time.Hour)
	r.insert(plain(1),
		with(plain(2), func(row *job.Row) { row.Timeout = time.Minute }),
		with(plain(3), func(row *job.Row) { row.Timeout, row.Deadline = 2*time.Hour, deadline }),
		with(plain(4), func(row *job.Row) { row.Deadline = deadline }))
	rows := r.start(1, 2, 3, 4)
	for _, row := range rows {
		if row.State != job.Running || row.Session != r.node.Node || row.SessionEpoch != r.node.Epoch || row.Epoch <= r.node.Epoch ||
			row.Runs != 1 || row.Rev != 2 || row.Started.IsZero() || !row.Updated.Equal(row.Started) {
			r.t.Fatalf("claimed %+v", row)
		}
	}
	until := []time.Time{{}, rows[1].Started.Add(time.Minute), deadline, deadline}
	for i, want := range until {
		if got := rows[i].RunUntil; !got.Equal(want) {
			r.t.Fatalf("job %d runs until %v, want %v", i+1, got, want)
		}
	}
	sameRow(r.t, "stored", r.get(2), rows[1])
	parked := end(rows[0], job.Parked)
	r.must(parked)
	wake := from(r.get(1), job.Ready)
	wake.Wakes = []job.Wake{{Why: "topic", Name: "t", Payload: []byte("x")}}
	r.must(wake)
	again := r.start(1)[0]
	if again.Runs != 2 || again.Epoch <= rows[0].Epoch || len(again.Wakes) != 1 || string(again.Wakes[0].Payload) != "x" {
		r.t.Fatalf("second run %+v", again)
	}
	same(r.t, "wakes kept", len(r.get(1).Wakes), 0)
	r.must(end(again, job.Scheduled))
	r.must(job.Move{ID: id(1), From: job.Scheduled, To: job.Ready, Epoch: again.Epoch})
	same(r.t, "wakes told twice", len(r.start(1)[0].Wakes), 0)
}

// claimLimited makes a kind limited while its jobs are being submitted: those counted as holders go on, no others beside.
func claimLimited(r *rig) {
	r.limit(kindOf(free), 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 10 {
				if _, err := r.tryInsert(keyed(100*g+n, free)); err != nil {
					r.t.Error(err)
				}
			}
		})
	}
	wg.Go(func() { (&rig{Stores: r.Stores, t: unfatal{r.t}, node: r.node}).limit(kindOf(free), 1) })
	wg.Wait()
	counted := 0
	for _, i := range r.items(syncqueue.Filter{Key: free}) {
		if !i.Since.IsZero() {
			counted++
		}
	}
	total := 0
	for {
		rows := r.claim(r.all(100)).Rows
		if len(rows) == 0 {
			break
		}
		if total == 0 && len(rows) > max(1, counted) || total > 0 && len(rows) > 1 {
			r.t.Fatalf("%d start at once, %d were counted", len(rows), counted)
		}
		for _, row := range rows {
			if !row.Turn {
				r.t.Fatalf("%s runs without a turn", row.ID)
			}
			r.must(end(row, job.Succeeded))
		}
		total += len(rows)
	}
	same(r.t, "jobs run", total, 40)
}

func claimOnce(r *rig) {
	for b := range 10 {
		r.insert(plainRows(100*b, 100*b+49)...)
		for n := 50; n < 100; n++ {
			r.insert(keyed(100*b+n, vm))
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen, keyedRuns := map[string]int{}, 0
	for range 8 {
		wg.Go(func() {
			for {
				out, err := r.tryClaim(r.all(20))
				if err != nil {
					r.t.Error(err)
					return
				}
				mu.Lock()
				for _, row := range out.Rows {
					seen[row.ID]++
					if row.Turn {
						keyedRuns++
					}
				}
				stop := len(seen) >= 501
				mu.Unlock()
				if stop || len(out.Rows) == 0 && !out.More {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, row := range r.claim(r.all(1000)).Rows { // what was locked by others
		seen[row.ID]++
		if row.Turn {
			keyedRuns++
		}
	}
	if len(seen) != 501 || keyedRuns != 1 {
		r.t.Fatalf("%d jobs started, %d of them on one key, want 501 and 1", len(seen), keyedRuns)
	}
	for jobID, n := range seen {
		if n != 1 {
			r.t.Fatalf("%s started %d times", jobID, n)
		}
	}
}

func claimOthers(r *rig) {
	r.insert(with(keyed(1, vm), func(row *job.Row) { row.Kind = "foreign" }), keyed(2, vm),
		with(keyed(3, other), func(row *job.Row) { row.Queue = "elsewhere" }))
	r.hinted(job.QueueTopic("elsewhere"), func() { r.start() })
	r.is(job.Ready, job.Waiting, job.Ready)
	if !r.get(1).Turn || !r.get(3).Turn {
		r.t.Fatal("ready without a turn")
	}
	c := r.all(10)
	c.Kinds = []string{"foreign"}
	rows := r.claim(c).Rows
	same(r.t, "foreign kind", numbers(rows), []int{1})
	r.must(end(rows[0], job.Cancelled))
	r.start(2)
}

// claimBehind: waiters of a held key may cost a claim its batch, but then it says that there is more.
func claimBehind(r *rig) {
	r.insert(keyedRows(vm, 1, 1)...)
	r.start(1)
	for n := 2; n <= 41; n++ { // each an arrival of its own
		r.insert(keyed(n, vm))
	}
	r.insert(plain(50))
	for round := 0; ; round++ {
		got := r.claim(r.all(5))
		if len(got.Rows) > 0 {
			same(r.t, "claimed", numbers(got.Rows), []int{50})
			return
		}
		if !got.More || round > 20 {
			r.t.Fatalf("round %d found nothing, more %v; a job is ready", round, got.More)
		}
	}
}

func claimProbe(r *rig) {
	probe := func() job.Claimed {
		r.t.Helper()
		c := r.all(10)
		c.Max = 0
		got := r.claim(c)
		if len(got.Rows) != 0 {
			r.t.Fatal("a probe claims")
		}
		return got
	}
	idle := func(what string) {
		r.t.Helper()
		if p := probe(); p.More || p.Due || p.Cancels || p.Sweep {
			r.t.Fatalf("%s: %+v", what, p)
		}
	}
	idle("empty store")
	soon := r.now().Add(r.soon())
	r.insert(with(plain(1), func(row *job.Row) { row.RunAt = soon }), with(plain(2), func(row *job.Row) { row.Kind = "foreign" }))
	idle("nothing for this node")
	if p := probe(); !p.Next.IsZero() && !p.Next.Equal(soon) {
		r.t.Fatalf("next %v, want %v", p.Next, soon)
	}
	r.pass(r.soon())
	if !probe().Due {
		r.t.Fatal("due job unseen")
	}
	r.must(from(r.get(1), job.Ready))
	if p := probe(); p.Due || !p.More {
		r.t.Fatalf("ready job: %+v", p)
	}
	run := r.start(1)[0]
	idle("it runs")
	cancel := end(run, job.Running)
	cancel.Cancel = &job.CancelRequest{By: "me"}
	r.must(cancel)
	if !probe().Cancels {
		r.t.Fatal("cancel request unseen")
	}
	r.must(end(run, job.Cancelled))
	idle("it is cancelled")
	r.insert(with(plain(3), func(row *job.Row) { row.Deadline = r.now().Add(-time.Second) }))
	if !probe().Due {
		r.t.Fatal("job past its deadline unseen")
	}
	r.must(from(r.get(3), job.Failed))
	idle("it failed")
	r.session("dead", over)
	if !probe().Sweep {
		r.t.Fatal("dead session unseen")
	}
}
