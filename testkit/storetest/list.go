package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func lists(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-60 list: by id", listIDs},
		{"st-61 list: due", listDue},
		{"st-61 list: past their deadline", listDeadline},
		{"st-61 list: cancel requests, sessions", listSessions},
		{"st-61 list: retention", listRetain},
		{"st-62 list: resources", listResources},
		{"st-63 query: filters", queryFilters},
		{"st-63 query: times", queryTimes},
		{"st-64 query: pages are stable under inserts", queryPages},
		{"st-65 list: nothing selected", listNothing},
	})
}

func (r *rig) found(f job.Find) []int {
	r.t.Helper()
	return numbers(r.find(f).Rows)
}

func listIDs(r *rig) {
	r.insert(plainRows(1, 4)...)
	got := r.found(job.Find{IDs: []string{id(3), id(99), id(1)}})
	slices.Sort(got)
	same(r.t, "a missing id is absent", got, []int{1, 3})
	same(r.t, "none", len(r.found(job.Find{IDs: []string{id(99)}})), 0)
}

func listDue(r *rig) {
	at := func(n int, d time.Duration) job.Row {
		return with(plain(n), func(row *job.Row) { row.RunAt = r.now().Add(d) })
	}
	r.insert(at(1, r.soon()), at(2, r.soon()-10*time.Millisecond), at(3, time.Hour), plain(4))
	same(r.t, "not yet", len(r.found(job.Find{Due: "scheduled"})), 0)
	r.pass(r.soon())
	same(r.t, "due", r.found(job.Find{Due: "scheduled"}), []int{2, 1})
	same(r.t, "limited", r.found(job.Find{Due: "scheduled", Limit: 1, SkipLocked: true}), []int{2})
	r.move(from(r.get(2), job.Ready))
	same(r.t, "left", r.found(job.Find{Due: "scheduled"}), []int{1})
}

func listDeadline(r *rig) {
	dead := func(row job.Row) job.Row {
		return with(row, func(row *job.Row) { row.Deadline = r.now().Add(-time.Second) })
	}
	r.insert(dead(plain(1)), plain(7))
	run := r.start(1, 7)
	same(r.t, "running ones are their node's", len(r.found(job.Find{Due: "deadline"})), 0)
	r.insert(dead(plain(2)), dead(keyed(3, vm)), dead(with(plain(4), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) })),
		with(plain(5), func(row *job.Row) { row.Deadline = r.now().Add(time.Hour) }), plain(6))
	r.must(end(run[0], job.Parked))
	got := r.found(job.Find{Due: "deadline"})
	slices.Sort(got)
	same(r.t, "late", got, []int{1, 2, 3, 4})
	unwind := from(r.get(1), job.Ready)
	unwind.Mark = job.Unwinding | job.Overdue
	r.must(unwind)
	r.move(from(r.get(2), job.Failed), from(r.get(3), job.Failed))
	same(r.t, "final or unwinding ones are done with", r.found(job.Find{Due: "deadline"}), []int{4})
}

func listSessions(r *rig) {
	n2 := r.session("n2", time.Hour)
	r.insert(plainRows(1, 4)...)
	r.claim(r.all(2))
	second := r.claim(job.Claim{Session: n2, Kinds: []string{"k"}, Free: map[string]int{"q": 1}, Max: 1}).Rows
	same(r.t, "second node's", numbers(second), []int{3})
	by := func(f job.Find) []int {
		got := r.found(f)
		slices.Sort(got)
		return got
	}
	same(r.t, "n1", by(job.Find{Sessions: []int64{r.node.Epoch}}), []int{1, 2})
	same(r.t, "both", by(job.Find{Sessions: []int64{r.node.Epoch, n2.Epoch}, SkipLocked: true}), []int{1, 2, 3})
	same(r.t, "limited", len(by(job.Find{Sessions: []int64{r.node.Epoch, n2.Epoch}, Limit: 2})), 2)
	same(r.t, "no requests", len(by(job.Find{Due: "cancel", Sessions: []int64{r.node.Epoch, n2.Epoch}})), 0)
	for _, n := range []int{2, 3, 4} {
		row := r.get(n)
		m := from(row, row.State)
		m.Cancel = &job.CancelRequest{By: "me", Reason: "why"}
		r.must(m)
	}
	same(r.t, "n1's request", by(job.Find{Due: "cancel", Sessions: []int64{r.node.Epoch}}), []int{2})
	same(r.t, "n2's request", by(job.Find{Due: "cancel", Sessions: []int64{n2.Epoch}}), []int{3})
	r.must(end(r.get(2), job.Cancelled))
	same(r.t, "n1's request is met", len(by(job.Find{Due: "cancel", Sessions: []int64{r.node.Epoch}})), 0)
	same(r.t, "n1 now", by(job.Find{Sessions: []int64{r.node.Epoch}}), []int{1})
}

func listRetain(r *rig) {
	r.insert(plain(1), with(plain(2), func(row *job.Row) { row.Kind = "k2" }), plain(3), plain(4),
		with(plain(5), func(row *job.Row) { row.Parent, row.Root = id(4), id(4) }))
	c := r.all(10)
	c.Kinds = []string{"k", "k2"}
	for _, row := range r.claim(c).Rows {
		if row.ID != id(3) && row.ID != id(4) {
			r.must(end(row, job.Succeeded))
		}
	}
	before := r.now().Add(time.Minute)
	same(r.t, "no live ones, no children of live ones", r.found(job.Find{Due: "retain", Before: before}), []int{1, 2})
	same(r.t, "of a kind", r.found(job.Find{Due: "retain", Before: before, Kinds: []string{"k2"}}), []int{2})
	same(r.t, "not of a kind", r.found(job.Find{Due: "retain", Before: before, NotKinds: []string{"k2"}}), []int{1})
	same(r.t, "too early", len(r.found(job.Find{Due: "retain", Before: before.Add(-time.Hour)})), 0)
	same(r.t, "oldest first", r.found(job.Find{Due: "retain", Before: before, Limit: 1}), []int{1})
	r.pass(time.Millisecond)
	r.must(end(r.get(4), job.Succeeded))
	same(r.t, "parent final", r.found(job.Find{Due: "retain", Before: before}), []int{1, 2, 5, 4})
}

func listResources(r *rig) {
	about := func(n int, res string) job.Row { return with(plain(n), func(row *job.Row) { row.Resource = res }) }
	r.insert(about(1, "vm/1"), about(2, "vm/2"), about(3, "vm/1"), about(4, "vm/3"), plain(5))
	same(r.t, "live, oldest first", r.found(job.Find{Resources: []string{"vm/2", "vm/1", "vm/9"}}), []int{1, 2, 3})
	r.must(from(r.get(1), job.Cancelled))
	same(r.t, "final ones are gone", r.found(job.Find{Resources: []string{"vm/2", "vm/1"}}), []int{2, 3})
}

func queryFilters(r *rig) {
	rows := plainRows(1, 8)
	rows[0].Kind, rows[0].Account = "k2", "a"
	rows[1].Sync, rows[1].Resource = vm, "vm/42"
	rows[2].Sync, rows[2].Queue = vm, "q2"
	rows[3].Identity = map[string]string{"user": "Näme"}
	rows[5].Parent, rows[5].Root = id(5), id(5)
	rows[6].Parent, rows[6].Root, rows[6].Resource = id(6), id(5), "Vm/42"
	r.insert(rows...)
	r.claim(job.Claim{Session: r.node, Kinds: []string{"k"}, Free: map[string]int{"q": 1}, Max: 1}) // 2 runs
	fail := from(r.get(8), job.Failed)
	fail.Error = &job.Error{Code: "c", Text: "No host has 100% of it"}
	r.must(fail)
	for _, c := range []struct {
		name string
		q    job.Query
		want []int
	}{
		{"live by default", job.Query{}, []int{1, 2, 3, 4, 5, 6, 7}},
		{"newest", job.Query{Newest: true, Limit: 2}, []int{7, 6}},
		{"state", job.Query{States: []job.State{job.Running, job.Failed}}, []int{2, 8}},
		{"kind", job.Query{Kinds: []string{"k2", "nope"}}, []int{1}},
		{"queue", job.Query{Queues: []string{"q2"}}, []int{3}},
		{"key", job.Query{Key: vm}, []int{2, 3}},
		{"resource", job.Query{Resource: "vm/42"}, []int{2}},
		{"session", job.Query{Session: "n1"}, []int{2}},
		{"account", job.Query{Account: "a"}, []int{1}},
		{"parent", job.Query{Parent: id(5)}, []int{6}},
		{"root", job.Query{Root: id(5)}, []int{5, 6, 7}},
		{"root, newest", job.Query{Root: id(5), Newest: true}, []int{7, 6, 5}},
		{"several", job.Query{Key: vm, Queues: []string{"q"}}, []int{2}},
		{"none", job.Query{Kinds: []string{"nope"}}, []int{}},
		{"text in a kind", job.Query{Text: "K2"}, []int{1}},
		{"text in a resource", job.Query{Text: "VM/4"}, []int{2, 7}},
		{"text in an identity", job.Query{Text: "näm"}, []int{4}},
		{"text in an error", job.Query{Text: "100% OF", States: []job.State{job.Failed}}, []int{8}},
		{"text is no pattern", job.Query{Text: "v%4"}, []int{}},
		{"suffix", job.Query{Suffix: "0004"}, []int{4}},
		{"suffix is no pattern", job.Query{Suffix: "_4"}, []int{}},
	} {
		if got := r.found(job.Find{Query: &c.q}); !slices.Equal(got, c.want) {
			r.t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func queryTimes(r *rig) {
	start := r.now()
	r.insert(plain(1))
	r.pass(20 * time.Millisecond)
	r.insert(plain(2))
	first, second := r.get(1).Created, r.get(2).Created
	same(r.t, "created before", r.found(job.Find{Query: &job.Query{Created: job.Range{From: start, To: second}}}), []int{1})
	same(r.t, "created from", r.found(job.Find{Query: &job.Query{Created: job.Range{From: second}}}), []int{2})
	same(r.t, "from is inclusive, to is not", r.found(job.Find{Query: &job.Query{Created: job.Range{From: first, To: second}}}), []int{1})
	run := r.start(1, 2)
	r.pass(20 * time.Millisecond)
	same(r.t, "running longer than", r.found(job.Find{Query: &job.Query{Older: 10 * time.Millisecond}}), []int{1, 2})
	same(r.t, "not so long", len(r.found(job.Find{Query: &job.Query{Older: time.Hour}})), 0)
	r.must(end(run[0], job.Succeeded))
	all := []job.State{job.Running, job.Succeeded}
	ended := r.get(1).Ended
	same(r.t, "ended", r.found(job.Find{Query: &job.Query{States: all, Ended: job.Range{From: ended}}}), []int{1})
	same(r.t, "ended before", len(r.found(job.Find{Query: &job.Query{States: all, Ended: job.Range{To: ended}}})), 0)
	same(r.t, "updated", r.found(job.Find{Query: &job.Query{States: all, Updated: job.Range{From: ended}}}), []int{1})
}

func queryPages(r *rig) {
	r.insert(plainRows(1, 60)...)
	for _, newest := range []bool{false, true} {
		seen := map[int]int{}
		q := job.Query{Limit: 7, Newest: newest}
		for page := 0; ; page++ {
			found := r.find(job.Find{Query: &q})
			for _, n := range numbers(found.Rows) {
				seen[n]++
			}
			if len(found.Rows) > 7 {
				r.t.Fatalf("page of %d", len(found.Rows))
			}
			if found.Next == "" {
				break
			}
			if q.After = found.Next; page > 50 {
				r.t.Fatal("no last page")
			}
			r.insert(plain(1000*page + 500 + len(seen)))
			for _, row := range r.claim(r.all(1)).Rows { // and rows that end
				r.must(end(row, job.Succeeded))
			}
		}
		for n, times := range seen {
			if times > 1 {
				r.t.Fatalf("job %d seen %d times", n, times)
			}
		}
		for _, n := range r.found(job.Find{Query: &job.Query{Limit: 500}}) {
			if n <= 60 && seen[n] != 1 {
				r.t.Fatalf("job %d, live throughout, seen %d times", n, seen[n])
			}
		}
	}
}

func listNothing(r *rig) {
	for _, f := range []job.Find{{}, {Due: "nonsense"}} {
		_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
			_, err := r.Jobs().List(ctx, tx, f)
			return err
		})
	}
}
