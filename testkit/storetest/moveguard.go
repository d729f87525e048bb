package storetest

import (
	"encoding/json"

	"github.com/drover-cloud/drover/job"
)

func (r *rig) refused(ms ...job.Move) {
	r.t.Helper()
	for _, m := range ms {
		before := r.find(job.Find{IDs: []string{m.ID}, Steps: true})
		if done := r.move(m); done[0] {
			r.t.Fatalf("move %+v was done", m)
		}
		after := r.find(job.Find{IDs: []string{m.ID}, Steps: true})
		for i := range after.Rows {
			sameRow(r.t, "after a refused move", after.Rows[i], before.Rows[i])
		}
	}
}

func moveGuard(r *rig) {
	r.insert(plain(1), plain(2), plain(3))
	run := r.start(1, 2, 3)
	wrong := end(run[0], job.Succeeded)
	wrong.Epoch++
	unknown := end(run[0], job.Succeeded)
	unknown.ID = id(99)
	r.refused(wrong, unknown, job.Move{ID: id(1), From: job.Ready, To: job.Cancelled, Epoch: run[0].Epoch})
	cancel := end(run[1], job.Running)
	cancel.Cancel = &job.CancelRequest{By: "me", Reason: "because"}
	r.must(cancel)
	retry := end(run[1], job.Scheduled)
	retry.Uncancelled = true
	r.refused(retry)
	good, uncancelled := end(run[0], job.Succeeded), end(run[2], job.Failed)
	uncancelled.Uncancelled = true
	same(r.t, "a batch is done per job", r.move(stale(run[1]), good, unknown, uncancelled), []bool{false, true, false, true})
	r.is(job.Succeeded, job.Running, job.Failed)
}

func stale(row job.Row) job.Move {
	m := end(row, job.Succeeded)
	m.Epoch += 7
	return m
}

func moveRepeated(r *rig) {
	r.insert(keyedRows(vm, 1, 3)...)
	run := r.start(1)[0]
	ok := end(run, job.Succeeded)
	ok.Result = json.RawMessage(`1`)
	r.must(ok)
	before := r.get(1)
	again := ok
	again.Result = json.RawMessage(`2`)
	r.must(again)
	failed := end(run, job.Failed)
	r.must(failed)
	sameRow(r.t, "repeated", r.get(1), before)
	r.is(job.Succeeded, job.Ready, job.Waiting) // handed on once
	second := r.start(2)[0]
	r.must(end(second, job.Scheduled))
	r.must(end(second, job.Scheduled))
	r.must(from(r.get(2), job.Ready))
	r.start(2)
	r.refused(end(second, job.Scheduled), end(run, job.Running)) // it runs at another epoch; it never left so
}

// moveRefused: an error or false, but nothing written.
func moveRefused(r *rig) {
	r.insert(plain(1), keyed(2, vm), keyed(3, vm))
	run := r.start(1, 2)
	r.must(end(run[0], job.Succeeded))
	before := r.find(job.Find{IDs: []string{id(1), id(2), id(3)}}).Rows
	for _, m := range []job.Move{
		from(r.get(1), job.Ready), from(r.get(1), job.Failed), from(r.get(3), job.Running), from(r.get(3), ""),
	} {
		if done, err := r.tryMove(m); err == nil && done[0] {
			r.t.Fatalf("%s → %q was done", m.From, m.To)
		}
	}
	for i, row := range r.find(job.Find{IDs: []string{id(1), id(2), id(3)}}).Rows {
		sameRow(r.t, "after refused moves", row, before[i])
	}
}
