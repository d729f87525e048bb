package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func queues(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-70 queue list: holders, then waiters", queueList},
		{"st-70 queue list: unlimited", queueListFree},
		{"st-70 queue list: pages", queueListPages},
		{"st-71 queue list: keys with a line", queueKeys},
		{"st-71 queue list: counts by kind", queueKinds},
		{"st-71 queue list: older", queueOlder},
		{"st-72 policy: rows", policyRows},
		{"st-73 policy: raise and lower", policyRaise},
		{"st-73 policy: n to unlimited", policyOpen},
		{"st-73 policy: unlimited to n", policyClose},
		{"st-73 policy: a key's own limit", policyKey},
		{"st-74 policy: rollback", policyRollback},
		{"st-75 limit above 1", limitN},
		{"st-76 audit finds nothing", auditClean},
	})
	t.Run("st-70 queues of the job store", func(t *testing.T) {
		r := newRig(t, open)
		turner, ok := r.Jobs().(job.Turner)
		if !ok {
			t.Fatal("job.Store is no job.Turner")
		}
		r.insert(keyedRows(vm, 1, 2)...)
		in(t, r, func(ctx context.Context, tx store.Tx) error {
			items, err := turner.Turns().List(ctx, tx, syncqueue.Filter{Key: vm})
			if len(items) != 2 {
				t.Errorf("%d items", len(items))
			}
			return err
		})
	})
}

// contents of items, holders in brackets.
func contents(items []syncqueue.Item) (out []string) {
	for _, i := range items {
		var n int
		_, _ = fmt.Sscanf(i.Content[len(i.Content)-12:], "%d", &n)
		if i.Since.IsZero() {
			out = append(out, fmt.Sprint(n))
		} else {
			out = append(out, fmt.Sprintf("[%d]", n))
		}
	}
	return out
}

func queueList(r *rig) {
	r.limit(vm, 2)
	same(r.t, "never used", len(r.items(syncqueue.Filter{Key: vm})), 0)
	r.insert(keyedRows(vm, 1, 5)...)
	run := r.start(1, 2)
	r.insert(keyed(6, other))
	items := r.items(syncqueue.Filter{Key: vm})
	same(r.t, "line", contents(items), []string{"[1]", "[2]", "3", "4", "5"})
	h, w := items[1], items[2]
	if h.Holder != "n1" || h.Epoch != run[1].Epoch || h.Seq != run[1].Seq || h.Place != run[1].Place || h.Key != vm || h.Enqueued.IsZero() || h.Since.Before(h.Enqueued) {
		r.t.Fatalf("holder %+v", h)
	}
	if w.Holder != "" || w.Seq == 0 || w.Place != r.get(3).Place || w.Enqueued.IsZero() || w.Key != vm {
		r.t.Fatalf("waiter %+v", w)
	}
	r.must(end(run[0], job.Parked))
	r.must(end(run[1], job.Succeeded))
	same(r.t, "parked and granted ones hold", contents(r.items(syncqueue.Filter{Key: vm})), []string{"[1]", "[3]", "4", "5"})
	same(r.t, "limited", contents(r.items(syncqueue.Filter{Key: vm, Limit: 3})), []string{"[1]", "[3]", "4"})
	for n := range 5 {
		if row := r.get(n + 1); row.State != job.Succeeded {
			r.must(from(row, job.Cancelled))
		}
	}
	same(r.t, "empty line", len(r.items(syncqueue.Filter{Key: vm})), 0)
}

func queueListFree(r *rig) {
	r.limit(kindOf(free), 0)
	r.insert(keyedRows(free, 1, 2)...)
	r.insert(with(keyed(3, free), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))
	same(r.t, "listed by key", contents(r.items(syncqueue.Filter{Key: free})), []string{"[1]", "[2]"})
	r.start(1, 2)
	same(r.t, "running", contents(r.items(syncqueue.Filter{Key: free})), []string{"[1]", "[2]"})
}

func queueListPages(r *rig) {
	r.limit(vm, 7)
	r.insert(keyedRows(vm, 1, 50)...)
	r.claim(r.all(100))
	var got []string
	f := syncqueue.Filter{Key: vm, Limit: 5}
	for {
		items := r.items(f)
		if len(items) == 0 {
			break
		}
		got = append(got, contents(items)...)
		f.After = items[len(items)-1].Cursor(false)
	}
	f.After, f.Limit = "", 0
	same(r.t, "pages", got, contents(r.items(f)))
	same(r.t, "length", len(got), 50)
	f.After = "nonsense"
	err := failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		_, err := r.Queues().List(ctx, tx, f)
		return err
	})
	if !errors.Is(err, syncqueue.ErrInvalid) {
		r.t.Fatalf("got %v, want syncqueue.ErrInvalid", err)
	}
}

func queueKeys(r *rig) {
	key := func(kind, id string) syncqueue.Key { return syncqueue.Key{Kind: kind, ID: id} }
	r.insert(append(append(keyedRows(key("vm", "b"), 1, 3), keyedRows(key("vm", "a"), 4, 5)...),
		append(keyedRows(key("host", "z"), 6, 7), keyedRows(key("vm", "c"), 8, 8)...)...)...)
	r.claim(r.all(100))
	keys := func(f syncqueue.Filter) (out []string) {
		f.Keys = true
		for _, i := range r.items(f) {
			out = append(out, fmt.Sprintf("%s/%s %d+%d %s", i.Key.Kind, i.Key.ID, i.Held, i.Waiting, contents([]syncqueue.Item{i})[0]))
		}
		return out
	}
	all := []string{"host/z 1+1 7", "vm/a 1+1 5", "vm/b 1+2 2"}
	same(r.t, "keys with a line", keys(syncqueue.Filter{}), all)
	same(r.t, "of a kind", keys(syncqueue.Filter{Kind: "vm"}), all[1:])
	same(r.t, "first page", keys(syncqueue.Filter{Limit: 2}), all[:2])
	last := r.items(syncqueue.Filter{Keys: true, Limit: 2})[1]
	same(r.t, "second page", keys(syncqueue.Filter{After: last.Cursor(true)}), all[2:])
}

func queueKinds(r *rig) {
	same(r.t, "nothing", len(r.items(syncqueue.Filter{Kinds: true})), 0)
	key := func(kind, id string) syncqueue.Key { return syncqueue.Key{Kind: kind, ID: id} }
	r.limit(kindOf(key("host", "")), 2)
	r.insert(append(append(keyedRows(key("vm", "b"), 1, 3), keyedRows(key("vm", "a"), 4, 5)...),
		append(keyedRows(key("host", "z"), 6, 9), keyedRows(key("net", "c"), 10, 10)...)...)...)
	r.claim(r.all(100))
	var got []string
	for _, i := range r.items(syncqueue.Filter{Kinds: true}) {
		got = append(got, fmt.Sprintf("%s %d+%d %v", i.Key.Kind, i.Held, i.Waiting, i.Enqueued.IsZero()))
	}
	same(r.t, "kinds", got, []string{"host 2+2 false", "net 1+0 true", "vm 2+3 false"})
}

func queueOlder(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.insert(keyedRows(other, 3, 3)...)
	r.start(1, 3)
	r.pass(r.soon())
	r.insert(keyed(4, vm), keyed(5, other))
	same(r.t, "late waiters behind their holders", contents(r.items(syncqueue.Filter{Older: r.soon() * 4 / 5})), []string{"[1]", "2"})
	same(r.t, "of another kind", len(r.items(syncqueue.Filter{Older: r.soon() * 4 / 5, Kind: "host"})), 0)
	same(r.t, "not so old", len(r.items(syncqueue.Filter{Older: time.Hour})), 0)
}

func policyRows(r *rig) {
	same(r.t, "none", len(r.limitNothing()), 0)
	r.limit(kindOf(vm), 3)
	r.limit(vm, 5)
	r.limit(kindOf(free), 0)
	rows := r.limit(kindOf(vm), 4)
	want := []syncqueue.PolicyRow{{Kind: "free"}, {Kind: "vm", Policy: syncqueue.Policy{Limit: 4}}, {Kind: "vm", ID: "42", Policy: syncqueue.Policy{Limit: 5}}}
	same(r.t, "sorted", rows, want)
	same(r.t, "read", r.limitNothing(), want)
}

func (r *rig) limitNothing() (rows []syncqueue.PolicyRow) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		rows, err = r.Queues().Policy(ctx, tx, nil)
		return err
	})
	return rows
}

func policyRaise(r *rig) {
	r.insert(keyedRows(vm, 1, 6)...)
	r.insert(keyedRows(other, 7, 8)...)
	run := r.start(1, 7)
	r.hinted(job.QueueTopic("q"), func() { r.limit(kindOf(vm), 3) })
	r.is(job.Running, job.Ready, job.Ready, job.Waiting, job.Waiting, job.Waiting, job.Running, job.Ready)
	run = append(run, r.start(2, 3, 8)...)
	r.limit(kindOf(vm), 1)
	r.must(end(run[0], job.Succeeded))
	r.must(end(run[2], job.Succeeded))
	r.start()
	r.is(job.Succeeded, job.Succeeded, job.Running, job.Waiting)
	r.must(end(run[3], job.Succeeded))
	r.is("", "", job.Succeeded, job.Ready, job.Waiting)
	r.start(4)
}

func policyOpen(r *rig) {
	r.insert(keyedRows(vm, 1, 4)...)
	run := r.start(1)[0]
	r.hinted(job.QueueTopic("q"), func() { r.limit(kindOf(vm), 0) })
	r.is(job.Running, job.Ready, job.Ready, job.Ready)
	for n := 1; n <= 4; n++ {
		if r.get(n).Turn {
			r.t.Fatalf("job %d holds a turn of an unlimited kind", n)
		}
	}
	r.start(2, 3, 4)
	r.must(end(run, job.Succeeded))
	same(r.t, "ready at once", r.insert(keyed(5, vm))[0].State, job.Ready)
}

func policyClose(r *rig) {
	r.limit(kindOf(vm), 0)
	r.insert(keyedRows(vm, 1, 5)...)
	c := r.all(3)
	run := r.claim(c).Rows // 1, 2, 3 run
	r.must(end(run[2], job.Parked))
	r.must(end(run[1], job.Scheduled))
	r.limit(kindOf(vm), 1)
	for n, want := range []bool{true, false, true, true, true} { // running, scheduled, parked, ready, ready
		if got := r.get(n + 1); got.Turn != want {
			r.t.Fatalf("job %d, %s: turn %v, want %v", n+1, got.State, got.Turn, want)
		}
	}
	r.insert(keyed(6, vm))
	r.must(from(r.get(2), job.Ready))
	r.is("", job.Waiting, "", job.Ready, job.Ready, job.Waiting)
	late := r.start(4, 5)
	r.must(from(r.get(3), job.Failed))
	r.must(end(run[0], job.Succeeded))
	r.must(end(late[0], job.Succeeded))
	r.start()
	r.is("", job.Waiting, "", "", job.Running, job.Waiting)
	r.must(end(late[1], job.Succeeded))
	r.start(6) // its place was drawn first
	same(r.t, "repaired", r.audit(), 0)
}

func policyKey(r *rig) {
	r.insert(append(keyedRows(vm, 1, 3), keyedRows(other, 4, 5)...)...)
	r.limit(vm, 2)
	r.start(1, 2, 4)
	r.limit(kindOf(vm), 3)
	r.is("", "", job.Waiting, "", job.Ready)
	r.limit(vm, 0)
	r.is("", "", job.Ready)
}

func policyRollback(r *rig) {
	r.insert(keyedRows(vm, 1, 4)...)
	r.start(1)
	for _, n := range []int{0, 3} {
		_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
			_, err := r.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: n}}})
			return errors.Join(err, errUndo)
		})
		r.is(job.Running, job.Waiting, job.Waiting, job.Waiting)
		if !r.get(1).Turn {
			r.t.Fatal("turn lost")
		}
		same(r.t, "policies", len(r.limitNothing()), 0)
		r.start()
	}
	r.insert(keyed(5, vm))
	r.is("", "", "", "", job.Waiting)
	r.must(end(r.get(1), job.Succeeded))
	r.start(2)
}

// limitN runs a line of limit 3 in rounds: never more than 3, in order, nobody forgotten.
func limitN(r *rig) {
	r.limit(kindOf(vm), 3)
	var running []job.Row
	next, ended := 1, 0
	for round := 0; ended < 40; round++ {
		if next <= 40 && round%3 != 2 {
			r.insert(keyedRows(vm, next, min(next+3, 40))...)
			next += 4
		}
		running = append(running, r.claim(r.all(1+round%3)).Rows...)
		if len(running) > 3 {
			r.t.Fatalf("%v run at once", numbers(running))
		}
		ns := numbers(running)
		if !slices.IsSorted(ns) {
			r.t.Fatalf("start order %v", ns)
		}
		if len(running) == 0 {
			r.t.Fatalf("nothing runs, %d ended, %d submitted", ended, next-1)
		}
		if round%2 == 1 || len(running) == 3 {
			r.must(end(running[0], job.Succeeded))
			running = running[1:]
			ended++
		}
	}
	same(r.t, "repaired", r.audit(), 0)
}

func auditClean(r *rig) {
	r.limit(other, 2)
	r.insert(append(keyedRows(vm, 1, 4), keyedRows(other, 5, 9)...)...)
	same(r.t, "before a claim", r.audit(), 0)
	run := r.start(1, 5, 6)
	same(r.t, "running", r.audit(), 0)
	r.must(end(run[0], job.Succeeded))
	m := end(run[1], job.Parked)
	m.Free = true
	r.must(m)
	same(r.t, "handed on", r.audit(), 0)
	r.must(from(r.get(2), job.Cancelled))
	r.limit(other, 0)
	same(r.t, "unlimited", r.audit(), 0)
}
