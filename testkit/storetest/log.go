package storetest

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func logs(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-50 log: steps and journal", logKeeps},
		{"st-50 log: changes of the job", logChanges},
		{"st-51 log: guard", logGuard},
		{"st-52 log: seal", logSeals},
		{"st-53 log: a full journal", logLimit},
	})
}

func (r *rig) must2(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func logKeeps(r *rig) {
	r.insert(plain(1), plain(2))
	run := r.start(1, 2)
	a := job.Entry{JobID: id(1), Epoch: run[0].Epoch, Node: "n1"}
	entry := func(f func(e *job.Entry)) job.Entry {
		e := a
		f(&e)
		return e
	}
	step := func(name, v string) job.Entry {
		return entry(func(e *job.Entry) { e.Step, e.Data = name, json.RawMessage(v) })
	}
	r.must2(r.log(step("one", `1`), step("two", `{"x":[2]}`)))
	r.must2(r.log(step("one", `"again"`), step("three", `3`)))
	r.must2(r.log(entry(func(e *job.Entry) { e.Text, e.Data = "first", json.RawMessage(`{"a":1}`) }),
		entry(func(e *job.Entry) { e.Text, e.Failure = "second", true }),
		job.Entry{JobID: id(2), Epoch: run[1].Epoch, Text: "of another"}))
	r.must2(r.log(entry(func(e *job.Entry) { e.Text = "third" })))
	found := r.find(job.Find{IDs: []string{id(1)}, Steps: true, Journal: true})
	same(r.t, "steps", len(found.Rows[0].Steps), 3)
	for i, want := range []string{"one", "two", "three"} {
		same(r.t, "step", found.Rows[0].Steps[i].Step, want)
	}
	sameJSON(r.t, "an existing step is kept", found.Rows[0].Steps[0].Data, json.RawMessage(`1`))
	same(r.t, "journal", len(found.Journal), 3)
	for i, want := range []string{"first", "second", "third"} {
		e := found.Journal[i]
		if e.Text != want || e.N != int64(i+1) || e.At.IsZero() || e.Node != "n1" || e.Epoch != run[0].Epoch || e.JobID != id(1) || e.Failure != (i == 1) {
			r.t.Fatalf("journal row %+v", e)
		}
	}
	sameJSON(r.t, "data", found.Journal[0].Data, json.RawMessage(`{"a":1}`))
	if plain := r.get(1); len(plain.Steps) != 0 {
		r.t.Fatal("steps not asked for")
	}
}

func logChanges(r *rig) {
	r.insert(plain(1))
	run := r.start(1)[0]
	r.must2(r.log(
		job.Entry{JobID: id(1), Epoch: run.Epoch, Progress: &job.Progress{Percent: 40, Step: "s", Note: "n"}},
		job.Entry{JobID: id(1), Epoch: run.Epoch, Resource: "vm/7", Mark: job.NoReturn}))
	got := r.get(1)
	if got.Progress != (job.Progress{Percent: 40, Step: "s", Note: "n"}) || got.Resource != "vm/7" || got.Flags != job.NoReturn || got.Rev <= run.Rev {
		r.t.Fatalf("after the log: %+v", got)
	}
	if rows := r.find(job.Find{Resources: []string{"vm/7"}}).Rows; len(rows) != 1 {
		r.t.Fatal("not found by what it was attached to")
	}
}

func logGuard(r *rig) {
	r.insert(plain(1), plain(2))
	run := r.start(1, 2)
	good := job.Entry{JobID: id(1), Epoch: run[0].Epoch, Text: "x", Progress: &job.Progress{Percent: 1}}
	refused := func(bad job.Entry) {
		r.t.Helper()
		if err := r.log(good, bad); !errors.Is(err, store.ErrConflict) {
			r.t.Fatalf("got %v, want store.ErrConflict", err)
		}
	}
	refused(job.Entry{JobID: id(2), Epoch: run[1].Epoch + 1, Text: "x"})
	refused(job.Entry{JobID: id(9), Epoch: 1, Text: "x"})
	r.must(end(run[1], job.Parked))
	refused(job.Entry{JobID: id(2), Epoch: run[1].Epoch, Step: "x", Data: json.RawMessage(`1`)})
	found := r.find(job.Find{IDs: []string{id(1), id(2)}, Steps: true, Journal: true})
	if len(found.Journal) != 0 || found.Rows[0].Progress.Percent != 0 || len(found.Rows[1].Steps) != 0 {
		r.t.Fatal("a refused log wrote something")
	}
}

func logSeals(r *rig) {
	r.insert(plain(1))
	run := r.start(1)[0]
	seal := job.Entry{JobID: id(1), Epoch: run.Epoch, Seal: &job.Seal{State: job.Succeeded, Result: json.RawMessage(`{"ok":true}`)}}
	r.must2(r.log(seal))
	got := r.get(1)
	if got.State != job.Running || got.Flags&job.Sealed == 0 {
		r.t.Fatalf("sealed: %+v", got)
	}
	sameJSON(r.t, "result", got.Result, seal.Seal.Result)
	if err := r.log(seal); !errors.Is(err, store.ErrConflict) {
		r.t.Fatalf("sealed twice: %v", err)
	}
}
