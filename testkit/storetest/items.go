package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func items(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-93 items: one at a time, returned, released", itemLine},
		{"st-93 items: of dead holders, once", itemOrphans},
		{"st-93 items: take turns with jobs", itemJobs},
		{"st-93 items: limits", itemLimits},
	})
}

func (r *rig) enter(k syncqueue.Key, names ...string) (out []syncqueue.Item) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		out = nil
		for n, name := range names {
			uuid := fmt.Sprintf("%s0000-8000-8000-%04d%08x", syncqueue.ItemID, n, []byte(name + "____")[:4])
			i, err := r.Queues().Enter(ctx, tx, uuid[:36], syncqueue.Item{Key: k, Content: name})
			if err != nil {
				return err
			}
			out = append(out, i)
		}
		return nil
	})
	return out
}

func (r *rig) take(holder string, most int, dead ...string) (out []syncqueue.Item) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		out, err = r.Queues().Take(ctx, tx, syncqueue.Take{Holder: holder, Max: most, Dead: dead})
		return err
	})
	return out
}

func (r *rig) release(i syncqueue.Item, back bool) (done bool) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		done, err = r.Queues().Release(ctx, tx, i, back)
		return err
	})
	return done
}

func names(items []syncqueue.Item) (out []string) {
	for _, i := range items {
		out = append(out, i.Content)
	}
	return out
}

func itemLine(r *rig) {
	all := r.enter(vm, "a", "b", "c", "d")
	if all[1].Seq <= all[0].Seq || all[0].Place == 0 || all[0].Key != vm || all[0].Enqueued.IsZero() {
		r.t.Fatalf("%+v", all)
	}
	got := r.take("h1", 10)
	same(r.t, "taken", names(got), []string{"a"})
	if i := got[0]; i.Holder != "h1" || i.Seq != all[0].Seq || i.Epoch == 0 || i.Since.IsZero() || i.Key != vm {
		r.t.Fatalf("%+v", i)
	}
	same(r.t, "no more", len(r.take("h1", 10)), 0)
	line := r.items(syncqueue.Filter{Key: vm})
	same(r.t, "line", names(line), []string{"a", "b", "c", "d"})
	same(r.t, "holder", line[0].Holder, "h1")
	same(r.t, "returned", r.release(got[0], true), true)
	again := r.take("h2", 10)
	same(r.t, "at the head", names(again), []string{"a"})
	same(r.t, "not the first one's any more", r.release(got[0], false), false)
	same(r.t, "a waiter", r.release(all[2], false), true)
	same(r.t, "gone", r.release(all[2], false), false)
	same(r.t, "still one", len(r.take("h1", 10)), 0)
	same(r.t, "released", r.release(again[0], false), true)
	same(r.t, "gone", r.release(again[0], true), false)
	next := r.take("h1", 10)
	same(r.t, "handed on", names(next), []string{"b"})
	same(r.t, "released", r.release(next[0], false), true)
	same(r.t, "last", names(r.take("h1", 10)), []string{"d"})
	same(r.t, "repaired", r.audit(), 0)
}

func itemOrphans(r *rig) {
	r.enter(vm, "a", "b")
	r.enter(other, "c")
	first := r.take("h1", 1)
	r.take("h2", 10)
	same(r.t, "of the dead", names(r.take("h3", 10, "h1", "h9")), names(first))
	same(r.t, "once", len(r.take("h3", 10, "h1", "h9")), 0)
	same(r.t, "too late", r.release(first[0], false), false)
	mine := r.take("h4", 10, "h3")
	same(r.t, "of the next", names(mine), names(first))
	same(r.t, "released", r.release(mine[0], false), true)
	same(r.t, "repaired", r.audit(), 0)
}

func itemJobs(r *rig) {
	r.insert(keyed(1, vm))
	r.enter(vm, "a")
	r.insert(keyed(2, vm))
	r.start(1)
	same(r.t, "behind a job", len(r.take("h1", 10)), 0)
	r.must(end(r.get(1), job.Succeeded))
	r.start()
	got := r.take("h1", 10)
	same(r.t, "taken", names(got), []string{"a"})
	r.start()
	r.release(got[0], false)
	r.start(2)
	same(r.t, "repaired", r.audit(), 0)
}

func itemLimits(r *rig) {
	r.limit(kindOf(vm), 2)
	r.enter(vm, "a", "b", "c")
	r.limit(kindOf(free), 0)
	r.enter(free, "x", "y")
	got := r.take("h1", 10)
	same(r.t, "taken", names(got), []string{"a", "b", "x", "y"})
	r.policy(vm, syncqueue.Inherit, true)
	r.release(got[0], true)
	same(r.t, "paused", len(r.take("h1", 10)), 0)
	r.policy(vm, syncqueue.Inherit, false)
	same(r.t, "in order", names(r.take("h1", 10)), []string{"a"})
	same(r.t, "repaired", r.audit(), 0)
}
