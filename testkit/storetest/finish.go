package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func finishes(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-55 finish: moves and hands on", finishHandsOn},
		{"st-56 finish: starts the next in line", finishStarts},
		{"st-56 finish: only what fits", finishFits},
		{"st-57 finish: all or nothing per job", finishPerJob},
		{"st-56 finish: one that committed late is not overtaken by a later one", finishLate},
		{"st-58 finish: batches on the same keys", finishBatches},
	})
}

func finishHandsOn(r *rig) {
	r.insert(append(keyedRows(vm, 1, 3), plain(4), plain(5))...)
	run := r.start(1, 4, 5)
	ok := end(run[0], job.Succeeded)
	ok.Result = json.RawMessage(`"r"`)
	retry := end(run[1], job.Scheduled)
	retry.RunAt, retry.Attempt = r.now().Add(time.Hour), 1
	var out job.Finished
	r.hinted(job.QueueTopic("q"), func() { out = r.finish(job.Finish{Moves: []job.Move{ok, retry, end(run[2], job.Parked)}}) })
	same(r.t, "done", out.Done, []bool{true, true, true})
	same(r.t, "started", len(out.Started), 0)
	r.is(job.Succeeded, job.Ready, job.Waiting, job.Scheduled, job.Parked)
	sameJSON(r.t, "result", r.get(1).Result, ok.Result)
}

func finishStarts(r *rig) {
	r.insert(append(keyedRows(vm, 1, 3), keyedRows(other, 4, 5)...)...)
	run := r.start(1, 4)
	out := r.finish(job.Finish{Moves: []job.Move{end(run[0], job.Succeeded), end(run[1], job.Failed)}, Start: r.all(10)})
	same(r.t, "done", out.Done, []bool{true, true})
	same(r.t, "started", len(out.Started), 2)
	for _, row := range out.Started {
		if row.State != job.Running || !row.Turn || row.Epoch <= run[1].Epoch || row.Runs != 1 || row.Session != "n1" || row.SessionEpoch != r.node.Epoch {
			r.t.Fatalf("started %+v", row)
		}
		sameRow(r.t, "stored", r.get(numbers([]job.Row{row})[0]), row)
	}
	r.is(job.Succeeded, job.Running, job.Waiting, job.Failed, job.Running)
	for len(out.Started) > 0 { // to the end of the lines
		ms := []job.Move{}
		for _, row := range out.Started {
			ms = append(ms, end(row, job.Succeeded))
		}
		out = r.finish(job.Finish{Moves: ms, Start: r.all(10)})
	}
	r.is(job.Succeeded, job.Succeeded, job.Succeeded, job.Failed, job.Succeeded)
}

// finishLate: 1 takes its place before 2, and is there after it, but before 3 is submitted. No claim looks at it meanwhile.
func finishLate(r *rig) {
	if !r.concurrent() {
		return
	}
	placed, commit, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
			_, err := r.Jobs().Insert(ctx, tx, []job.Row{keyed(1, vm)})
			if err == nil {
				close(placed)
				<-commit
			}
			return err
		})
	}()
	<-placed
	r.insert(keyed(2, vm))
	run := r.start(2)
	close(commit)
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	r.insert(keyed(3, vm))
	out := r.finish(job.Finish{Moves: []job.Move{end(run[0], job.Succeeded)}, Start: r.all(10)})
	same(r.t, "started", numbers(out.Started), []int{1})
}

func finishFits(r *rig) {
	row := func(n int, key, kind, queue string) job.Row {
		return with(keyed(n, syncqueue.Key{Kind: "vm", ID: key}), func(row *job.Row) { row.Kind, row.Queue = kind, queue })
	}
	r.insert(keyedRows(vm, 0, 0)...)
	r.insert(row(1, "a", "k", "q"), row(2, "b", "k", "q"), row(3, "c", "k", "q"), row(4, "d", "k", "q"),
		row(5, "a", "foreign", "q"), row(6, "b", "k", "elsewhere"), row(7, "c", "k", "q"), row(8, "d", "k", "q"))
	run := r.start(0, 1, 2, 3, 4)
	ms := []job.Move{}
	for _, row := range run[1:] {
		ms = append(ms, end(row, job.Succeeded))
	}
	out := r.finish(job.Finish{Moves: ms, Start: r.all(1)})
	same(r.t, "started", len(out.Started), 1)
	states := map[job.State]int{}
	for n := 5; n <= 8; n++ {
		row := r.get(n)
		states[row.State]++
		if !row.Turn || row.State == job.Running && n < 7 {
			r.t.Fatalf("job %d is %s, turn %v", n, row.State, row.Turn)
		}
	}
	same(r.t, "states", states, map[job.State]int{job.Running: 1, job.Ready: 3})
}

func finishPerJob(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.insert(plain(3), plain(4))
	run := r.start(1, 3, 4)
	fence := end(run[0], job.Running)
	fence.Raise = true
	r.must(fence)
	r.must(end(run[1], job.Succeeded))
	out := r.finish(job.Finish{Moves: []job.Move{end(run[0], job.Succeeded), end(run[1], job.Succeeded), end(run[2], job.Succeeded)}, Start: r.all(10)})
	same(r.t, "done", out.Done, []bool{false, true, true}) // fenced; repeated; good
	same(r.t, "started", len(out.Started), 0)
	r.is(job.Running, job.Waiting, job.Succeeded, job.Succeeded)
}

// finishBatches ends lines from several sides at once, keys in different orders.
func finishBatches(r *rig) {
	r.finisher()
	const keys, perKey = 20, 10
	n := 0
	for range perKey {
		var rows []job.Row
		for k := range keys {
			rows = append(rows, keyed(n, syncqueue.Key{Kind: "vm", ID: fmt.Sprint(k)}))
			n++
		}
		r.insert(rows...)
	}
	var mu sync.Mutex
	running, done := map[string]string{}, 0
	note := func(rows []job.Row) { // under mu
		for _, row := range rows {
			if was := running[row.Sync.ID]; was != "" {
				r.t.Errorf("%s and %s run at once", was, row.ID)
			}
			running[row.Sync.ID] = row.ID
		}
	}
	left := func() int {
		mu.Lock()
		defer mu.Unlock()
		return n - done
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			w := &rig{Stores: r.Stores, t: unfatal{r.t}, node: r.node}
			for until := time.Now().Add(patience); left() > 0; {
				if time.Now().After(until) {
					r.t.Errorf("worker %d: jobs left", g)
					return
				}
				rows := w.claim(w.all(1 + 3*g)).Rows
				mu.Lock()
				note(rows)
				mu.Unlock()
				for len(rows) > 0 {
					ms := make([]job.Move, len(rows))
					mu.Lock()
					for i, row := range rows {
						ms[len(rows)-1-i] = end(row, job.Succeeded)
						delete(running, row.Sync.ID)
					}
					mu.Unlock()
					out := w.finish(job.Finish{Moves: ms, Start: w.all(2)})
					mu.Lock()
					done += len(rows)
					rows = out.Started
					note(rows)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	same(r.t, "repaired", r.audit(), 0)
}
