package storetest

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func settings(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-80 settings: kept, answered, hinted", settingsKept},
		{"st-81 settings: maintenance", maintenance},
		{"st-81 settings: a paused queue", pausedQueue},
		{"st-82 settings: nothing starts after Set", settingsStrict},
		{"st-83 claim: jobs by number", claimsByNumber},
		{"st-84 list: counts", listsCounts},
		{"st-85 list: unhandled", listsUnhandled},
	})
}

func (r *rig) set(name string, on bool) (all []string) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		all, err = r.Jobs().Set(ctx, tx, []job.Setting{{Name: name, On: on}})
		return err
	})
	return all
}

func settingsKept(r *rig) {
	read := func() (on []string) {
		in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
			on, err = r.Jobs().Set(ctx, tx, nil)
			return err
		})
		return on
	}
	probe := r.all(0)
	probe.Free["q"] = 5
	same(r.t, "at first", len(read()), 0)
	r.hinted(job.SettingsTopic, func() { r.set(job.Paused("q"), true) })
	r.hinted(job.SettingsTopic, func() { same(r.t, "answer", r.set(job.Maintenance, true), []string{job.Maintenance, job.Paused("q")}) })
	same(r.t, "twice", len(r.set(job.Maintenance, true)), 2)
	same(r.t, "read", read(), []string{job.Maintenance, job.Paused("q")})
	same(r.t, "probe", r.claim(probe).Settings, []string{job.Maintenance, job.Paused("q")})
	_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Set(ctx, tx, []job.Setting{{Name: job.Maintenance}}); err != nil {
			return err
		}
		return errUndo
	})
	same(r.t, "rolled back", len(read()), 2)
	r.hinted(job.SettingsTopic, func() { same(r.t, "off", r.set(job.Maintenance, false), []string{job.Paused("q")}) })
	same(r.t, "all off", len(r.set(job.Paused("q"), false)), 0)
	same(r.t, "probe without", len(r.claim(probe).Settings), 0)
}

func maintenance(r *rig) {
	r.insert(append(keyedRows(vm, 1, 3), plain(4))...)
	run := r.start(1, 4)
	r.set(job.Maintenance, true)
	r.insert(plain(5))
	c := r.all(10)
	same(r.t, "claimed", len(r.claim(c).Rows), 0)
	probe := c
	probe.Max = 0
	same(r.t, "probe more", r.claim(probe).More, false)
	if _, ok := r.Jobs().(job.Finisher); ok {
		out := r.finish(job.Finish{Moves: []job.Move{end(run[0], job.Succeeded)}, Start: c})
		same(r.t, "started by a finish", len(out.Started), 0)
	} else {
		r.must(end(run[0], job.Succeeded))
	}
	r.is(job.Succeeded, job.Ready, job.Waiting, job.Running, job.Ready)
	r.set(job.Maintenance, false)
	same(r.t, "probe more afterwards", r.claim(probe).More, true)
	r.start(2, 5)
}

func pausedQueue(r *rig) {
	elsewhere := func(n int) job.Row { return with(plain(n), func(row *job.Row) { row.Queue = "other" }) }
	r.insert(append(keyedRows(vm, 1, 2), elsewhere(3), elsewhere(4))...)
	c := r.all(10)
	c.Free["other"] = 1
	same(r.t, "claimed", len(r.claim(c).Rows), 2)
	r.set(job.Paused("q"), true)
	r.insert(plain(5), elsewhere(6))
	c.Free["other"] = 10
	if got := numbers(r.claim(c).Rows); !slices.Equal(got, []int{4, 6}) {
		r.t.Fatalf("claimed %v, want those of the other queue", got)
	}
	probe := r.all(0)
	probe.Free["q"] = 10
	same(r.t, "probe more", r.claim(probe).More, false)
	if _, ok := r.Jobs().(job.Finisher); ok {
		same(r.t, "started by a finish", len(r.finish(job.Finish{Moves: []job.Move{end(r.get(1), job.Succeeded)}, Start: r.all(10)}).Started), 0)
		r.is(job.Succeeded, job.Ready)
	}
	by := r.all(10)
	by.Seqs = []int64{r.get(5).Seq}
	same(r.t, "by number", len(r.claim(by).Rows), 0)
	r.set(job.Paused("q"), false)
	if row := r.claim(r.all(10)).Rows; len(row) == 0 {
		r.t.Fatal("nothing after the pause")
	}
}

// settingsStrict: a claim that had begun ends before Set does; its transaction waits meanwhile for nobody.
func settingsStrict(r *rig) {
	if !r.concurrent() {
		r.t.Skip("one transaction at a time")
	}
	r.insert(plain(1))
	inside, let := make(chan struct{}), make(chan struct{})
	claimed, set := make(chan error, 1), make(chan error, 1)
	go func() {
		claimed <- r.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx store.Tx) error {
			got, err := r.Jobs().Claim(ctx, tx, r.all(10))
			if err == nil && len(got.Rows) != 1 {
				r.t.Errorf("claimed %d", len(got.Rows))
			}
			close(inside)
			<-let
			return err
		})
	}()
	<-inside
	go func() {
		set <- r.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx store.Tx) error {
			_, err := r.Jobs().Set(ctx, tx, []job.Setting{{Name: job.Maintenance, On: true}})
			return err
		})
	}()
	select {
	case <-set:
		r.t.Error("Set did not wait for a claim under way")
	case <-time.After(200 * time.Millisecond):
	}
	close(let)
	r.must2(<-claimed)
	r.must2(<-set)
	r.is(job.Running)
}

func claimsByNumber(r *rig) {
	r.insert(append(plainRows(1, 4), keyedRows(vm, 5, 6)...)...)
	r.set(job.Maintenance, true)
	seq := func(ns ...int) (seqs []int64) {
		for _, n := range ns {
			seqs = append(seqs, r.get(n).Seq)
		}
		return seqs
	}
	by := func(most int, seqs []int64) []int {
		c := r.all(most)
		c.Seqs = seqs
		got := r.claim(c)
		same(r.t, "more", got.More, false)
		ns := numbers(got.Rows)
		slices.Sort(ns)
		return ns
	}
	same(r.t, "none", by(10, []int64{}), []int{})
	same(r.t, "unknown", by(10, []int64{1 << 40}), []int{})
	same(r.t, "two", by(10, seq(2, 4)), []int{2, 4})
	same(r.t, "running ones", by(10, seq(2, 4)), []int{})
	same(r.t, "one of two", by(1, seq(3, 1)), []int{1})
	same(r.t, "first in line", by(10, seq(5, 6)), []int{5})
	same(r.t, "behind it", by(10, seq(6)), []int{})
	r.set(job.Maintenance, false)
	r.start(3)
}

func listsCounts(r *rig) {
	at := r.now()
	r.insert(append(keyedRows(vm, 1, 4), plain(5), plain(6))...)
	r.insert(with(plain(7), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))
	r.insert(with(plain(8), func(row *job.Row) { row.Queue = "a" }), with(plain(9), func(row *job.Row) { row.Queue = "a" }))
	run := r.start(1, 5, 6)
	r.must(end(run[1], job.Parked))
	r.must(end(run[2], job.Succeeded))
	all := r.find(job.Find{Count: []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked, job.Succeeded}})
	same(r.t, "rows", len(all.Rows), 0)
	for i := range all.Counts {
		c := &all.Counts[i]
		if d := c.Oldest.Sub(at); d < 0 || d > 2*time.Hour || c.State == job.Scheduled && d < 59*time.Minute {
			r.t.Errorf("%+v: oldest", *c)
		}
		c.Oldest = time.Time{}
	}
	same(r.t, "counts", all.Counts, []job.Count{
		{Queue: "a", State: job.Ready, N: 2},
		{Queue: "q", State: job.Parked, N: 1}, {Queue: "q", State: job.Running, N: 1},
		{Queue: "q", State: job.Scheduled, N: 1}, {Queue: "q", State: job.Waiting, N: 3},
	})
	some := r.find(job.Find{Count: []job.State{job.Ready, job.Waiting}}).Counts
	same(r.t, "some", len(some), 2)
	same(r.t, "none", len(r.find(job.Find{Count: []job.State{}}).Counts), 0)
}

func listsUnhandled(r *rig) {
	odd := func(n int, kind string) job.Row { return with(plain(n), func(row *job.Row) { row.Kind = kind }) }
	r.insert(plain(1), odd(2, "x"), odd(3, "y"))
	r.pass(r.soon())
	then := r.now()
	r.pass(r.soon())
	r.insert(odd(4, "x"), with(odd(5, "x"), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))
	find := func(before time.Time, heard ...string) []int {
		return numbers(r.find(job.Find{Due: "unhandled", Before: before, NotKinds: heard}).Rows)
	}
	same(r.t, "since then", find(then, "k"), []int{2, 3})
	same(r.t, "heard of", find(then, "k", "x"), []int{3})
	same(r.t, "by now", find(r.now(), "k"), []int{2, 3, 4})
	same(r.t, "none heard of", find(then), []int{1, 2, 3})
}

// The journal over all writers, and what a move writes to it.

func logLimit(r *rig) {
	r.insert(plain(1), plain(2))
	run := r.start(1, 2)
	var es []job.Entry
	for range job.MaxJournal - 1 {
		es = append(es, job.Entry{JobID: id(1), Epoch: run[0].Epoch, Node: "n1", Text: "row"})
	}
	r.must2(r.log(es...))
	dropped := func(n int, last string) {
		r.t.Helper()
		j := r.find(job.Find{IDs: []string{id(1)}, Journal: true}).Journal
		if n == 0 {
			same(r.t, "rows", len(j), job.MaxJournal)
			return
		}
		same(r.t, "rows", len(j), job.MaxJournal+1)
		same(r.t, "the last that is kept", j[job.MaxJournal-1].Text, last)
		e := j[job.MaxJournal]
		if e.N != job.MaxJournal+1 || e.Text != job.DroppedText || !e.Failure {
			r.t.Fatalf("%+v", e)
		}
		sameJSON(r.t, "dropped", e.Data, json.RawMessage(numeral(n)))
	}
	note := func(text string) job.Entry { return job.Entry{JobID: id(1), Epoch: run[0].Epoch, Text: text} }
	mv := end(run[0], job.Parked)
	mv.Notes = []job.Entry{{Text: "moved"}, {Text: "and more"}}
	r.must2(r.log(job.Entry{JobID: id(2), Epoch: run[1].Epoch, Text: "of another"}, note("fits")))
	dropped(0, "")
	r.must2(r.log(note("a"), note("b")))
	dropped(2, "fits")
	r.must(mv)
	dropped(4, "fits")
	same(r.t, "of another", len(r.find(job.Find{IDs: []string{id(2)}, Journal: true}).Journal), 1)
}

func numeral(n int) string { b, _ := json.Marshal(n); return string(b) }

func moveNotes(r *rig) {
	r.insert(append(plainRows(1, 3), with(plain(4), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))...)
	run := r.start(1, 2, 3)
	early := r.now().Add(-time.Minute)
	note := func(m job.Move, texts ...string) job.Move {
		for _, s := range texts {
			m.Notes = append(m.Notes, job.Entry{Text: s, Node: "n1", Epoch: m.Epoch, Data: json.RawMessage(`{"a":1}`), Failure: s == "bad"})
		}
		return m
	}
	journal := func(n int) (texts []string) {
		for _, e := range r.find(job.Find{IDs: []string{id(n)}, Journal: true}).Journal {
			texts = append(texts, e.Text)
		}
		return texts
	}
	park := note(end(run[0], job.Parked), "claimed", "parked")
	park.Notes[0].At = early
	refused := note(end(run[1], job.Succeeded), "never")
	refused.Epoch--
	fail := note(end(run[2], job.Failed), "bad")
	fail.Error = &job.Error{Code: "x"}
	hold := note(from(r.get(4), job.Parked), "held")
	same(r.t, "done", r.move(park, refused, fail, hold), []bool{true, false, true, true})
	same(r.t, "repeated", r.move(park, fail), []bool{true, true})
	same(r.t, "parked", journal(1), []string{"claimed", "parked"})
	same(r.t, "refused", len(journal(2)), 0)
	same(r.t, "failed", journal(3), []string{"bad"})
	same(r.t, "held", journal(4), []string{"held"})
	j := r.find(job.Find{IDs: []string{id(1)}, Journal: true}).Journal
	if e := j[0]; !e.At.Equal(early.Truncate(time.Microsecond)) || e.N != 1 || e.Epoch != run[0].Epoch || e.Node != "n1" || e.JobID != id(1) {
		r.t.Errorf("%+v", e)
	}
	sameJSON(r.t, "data", j[0].Data, json.RawMessage(`{"a":1}`))
	if e := j[1]; e.At.Before(early.Add(time.Minute)) || e.N != 2 {
		r.t.Errorf("%+v", e)
	}
	if fin, ok := r.Jobs().(job.Finisher); ok {
		in(r.t, r, func(ctx context.Context, tx store.Tx) error {
			_, err := fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{note(end(run[1], job.Succeeded), "done")}})
			return err
		})
		same(r.t, "finished", journal(2), []string{"done"})
	}
	r.must(note(from(r.get(1), job.Ready), "woken"))
	same(r.t, "woken", journal(1), []string{"claimed", "parked", "woken"})
	r.start(1)
	row := r.get(3)
	r.must(job.Move{ID: row.ID, From: job.Failed, Epoch: row.Epoch})
}

func insertSteps(r *rig) {
	old := with(plain(1), func(row *job.Row) {
		row.Steps = []job.Entry{{Step: "a", Data: json.RawMessage(`1`), Node: "n1", Epoch: 7}, {Step: "b", Data: json.RawMessage(`"x"`)}}
	})
	r.insert(old)
	steps := r.find(job.Find{IDs: []string{id(1)}, Steps: true}).Rows[0].Steps
	same(r.t, "steps", len(steps), 2)
	same(r.t, "names", steps[0].Step+steps[1].Step, "ab")
	sameJSON(r.t, "value", steps[1].Data, json.RawMessage(`"x"`))
	run := r.start(1)
	r.must2(r.log(job.Entry{JobID: id(1), Epoch: run[0].Epoch, Step: "a", Data: json.RawMessage(`2`)}))
	sameJSON(r.t, "kept", r.find(job.Find{IDs: []string{id(1)}, Steps: true}).Rows[0].Steps[0].Data, json.RawMessage(`1`))
	r.must(end(run[0], job.Succeeded))
	met := r.insert(with(old, func(row *job.Row) { row.Steps[0].Step = "c" }))
	same(r.t, "met", met[0].Met, "id")
	same(r.t, "of one that met another", len(r.find(job.Find{IDs: []string{id(1)}, Steps: true}).Rows[0].Steps), 2)
}
