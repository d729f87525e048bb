package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func transactions(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-01 commit visible, rollback not", txVisible},
		{"st-02 error rolls back", txError},
		{"st-03 panic rolls back and passes on", txPanic},
		{"st-04 conflicts are retried", txRetry},
		{"st-05 now", txNow},
		{"st-06 hints", txHints},
		{"st-08 cancelled", txCancelled},
		{"st-09 no skew on turns and names", txSkew},
		{"st-10 values", txValues},
		{"st-11 no nesting", txNested},
	})
	t.Run("st-07 foreign transaction", func(t *testing.T) { txForeign(newRig(t, open), newRig(t, open)) })
}

func txVisible(r *rig) {
	r.insert(plain(1))
	r.is(job.Ready)
	err := failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Insert(ctx, tx, []job.Row{plain(2)}); err != nil {
			return err
		}
		found, err := r.Jobs().List(ctx, tx, job.Find{IDs: []string{id(2)}})
		if err != nil || len(found.Rows) != 1 {
			r.t.Errorf("own write unseen: %d rows, %v", len(found.Rows), err)
		}
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		r.t.Fatal(err)
	}
	if got := r.find(job.Find{IDs: []string{id(1), id(2)}}).Rows; len(got) != 1 {
		r.t.Fatalf("%d rows after a rollback, want 1", len(got))
	}
}

func txError(r *rig) {
	r.unchanged(func(running job.Row) {
		err := failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
			return errors.Join(r.everything(ctx, tx, running), errUndo)
		})
		if err.Error() != errUndo.Error() {
			r.t.Fatal(err)
		}
	})
}

func txPanic(r *rig) {
	r.unchanged(func(running job.Row) {
		func() {
			defer func() { same(r.t, "recovered", recover(), any("boom")) }()
			_ = r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
				if err := r.everything(ctx, tx, running); err != nil {
					r.t.Error(err)
				}
				panic("boom")
			})
		}()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = r.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx store.Tx) error {
				if err := r.everything(ctx, tx, running); err != nil {
					r.t.Error(err)
				}
				runtime.Goexit()
				return nil
			})
		}()
		<-ended
	})
}

// txRetry crosses two names in two transactions. A store that can be told to fail (Conflict) is asked to, too.
func txRetry(r *rig) {
	var wg sync.WaitGroup
	met := make(chan struct{}, 2)
	a := with(plain(1), func(r *job.Row) { r.Idem = "a" })
	b := with(plain(2), func(r *job.Row) { r.Idem = "b" })
	a2, b2 := with(a, func(r *job.Row) { r.ID = id(3) }), with(b, func(r *job.Row) { r.ID = id(4) })
	for _, rows := range [][]job.Row{{a, b2}, {b, a2}} {
		wg.Go(func() {
			runs := 0
			err := r.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx store.Tx) error {
				if _, err := r.Jobs().Insert(ctx, tx, rows[:1]); err != nil {
					return err
				}
				if runs++; runs == 1 {
					met <- struct{}{}
					for range 20 { // until the other one is there too, if it can
						if len(met) == 2 {
							break
						}
						<-time.After(10 * time.Millisecond)
					}
				}
				_, err := r.Jobs().Insert(ctx, tx, rows[1:])
				return err
			})
			if err != nil {
				r.t.Error(err)
			}
		})
	}
	wg.Wait()
	if rows := r.find(job.Find{Query: &job.Query{}}).Rows; len(rows) != 2 {
		r.t.Fatalf("stored %v, want one of each name", numbers(rows))
	}
	c, ok := r.Stores.(interface {
		Conflict(ctx context.Context, tx store.Tx) error
	})
	if !ok {
		r.t.Log("Conflict not offered: nothing to be retried")
		return
	}
	runs := 0
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if runs++; runs <= 3 {
			return c.Conflict(ctx, tx)
		}
		return nil
	})
	same(r.t, "runs until it works", runs, 4)
	runs = 0
	_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		runs++
		return c.Conflict(ctx, tx)
	})
	if runs < 2 || runs > 10 {
		r.t.Fatalf("%d runs of what always conflicts, want 2…10", runs)
	}
}

func txNow(r *rig) {
	var last time.Time
	for n := range 30 {
		in(r.t, r, func(ctx context.Context, tx store.Tx) error {
			now := tx.Now()
			rows, err := r.Jobs().Insert(ctx, tx, []job.Row{plain(n)})
			if err != nil {
				return err
			}
			if !tx.Now().Equal(now) || !rows[0].Created.Equal(now) {
				r.t.Errorf("now %v, then %v, row %v", now, tx.Now(), rows[0].Created)
			}
			if now.Before(last) {
				r.t.Errorf("now went back from %v to %v", last, now)
			}
			last = now
			return nil
		})
	}
}

func txHints(r *rig) {
	c, stop := r.Notifier().Wake("storetest/a")
	hint := func(_ context.Context, tx store.Tx) error {
		for range 3 {
			tx.Hint("storetest/a")
		}
		if len(c) != 0 {
			r.t.Error("hint before commit")
		}
		return nil
	}
	in(r.t, r, hint)
	receive(r.t, c, "storetest/a")
	_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error { return errors.Join(hint(ctx, tx), errUndo) })
	if r.fence(); len(c) != 0 {
		r.t.Fatal("hint twice, or after a rollback")
	}
	in(r.t, r, hint)
	in(r.t, r, func(_ context.Context, tx store.Tx) error { // coalesces with what is not yet received
		tx.Hint("storetest/a")
		return nil
	})
	receive(r.t, c, "storetest/a")
	stop()
	stop()
	in(r.t, r, func(_ context.Context, tx store.Tx) error {
		tx.Hint("storetest/a")
		return nil
	})
}

func txForeign(a, b *rig) {
	for name, f := range map[string]func(ctx context.Context, tx store.Tx) error{
		"insert": func(ctx context.Context, tx store.Tx) error {
			_, err := b.Jobs().Insert(ctx, tx, []job.Row{plain(1)})
			return err
		},
		"list": func(ctx context.Context, tx store.Tx) error {
			_, err := b.Jobs().List(ctx, tx, job.Find{IDs: []string{id(1)}})
			return err
		},
		"claim": func(ctx context.Context, tx store.Tx) error { _, err := b.Jobs().Claim(ctx, tx, b.all(1)); return err },
		"move": func(ctx context.Context, tx store.Tx) error {
			_, err := b.Jobs().Move(ctx, tx, []job.Move{{ID: id(1), From: job.Ready, To: job.Cancelled}})
			return err
		},
		"log": func(ctx context.Context, tx store.Tx) error {
			return b.Jobs().Log(ctx, tx, []job.Entry{{JobID: id(1)}})
		},
		"queue list": func(ctx context.Context, tx store.Tx) error {
			_, err := b.Queues().List(ctx, tx, syncqueue.Filter{Key: vm})
			return err
		},
		"policy": func(ctx context.Context, tx store.Tx) error { _, err := b.Queues().Policy(ctx, tx, nil); return err },
		"audit":  func(ctx context.Context, tx store.Tx) error { _, err := b.Queues().Audit(ctx, tx, 1); return err },
	} {
		if err := failing(a.t, a, f); !errors.Is(err, store.ErrForeign) {
			a.t.Errorf("%s: %v, want store.ErrForeign", name, err)
		}
	}
}

func txCancelled(r *rig) {
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel()
	err := r.InTx(ctx, func(context.Context, store.Tx) error {
		r.t.Error("ran with an ended ctx")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		r.t.Fatalf("got %v, want context.Canceled", err)
	}
	for n := range 50 { // more than any pool has connections
		ctx, cancel := context.WithCancel(r.t.Context())
		err := r.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			_, err := r.Jobs().Insert(ctx, tx, []job.Row{plain(n)})
			cancel()
			return err
		})
		if err == nil {
			r.t.Fatal("committed with an ended ctx")
		}
	}
	if rows := r.find(job.Find{Query: &job.Query{}}).Rows; len(rows) != 0 {
		r.t.Fatalf("stored %v", numbers(rows))
	}
}

// txSkew lets many transactions decide at once who gets a turn and a name.
func txSkew(r *rig) {
	for round := range 10 {
		key := syncqueue.Key{Kind: "vm", ID: string(rune('a' + round))}
		first := 10 * round
		r.insert(keyedRows(key, first, first+3)...)
		var wg sync.WaitGroup
		var mu sync.Mutex
		started := 0
		for n := range 4 {
			wg.Go(func() {
				out, err := r.tryClaim(r.all(10))
				if err != nil {
					r.t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				started += len(out.Rows)
			})
			wg.Go(func() {
				row := with(plain(first+5+n), func(row *job.Row) { row.Kind, row.Unique = "named", key.ID })
				if _, err := r.tryInsert(row); err != nil {
					r.t.Error(err)
				}
			})
		}
		wg.Wait()
		if started > 1 {
			r.t.Fatalf("%d holders of one turn", started)
		}
		holders := 0
		for _, i := range r.items(syncqueue.Filter{Key: key}) {
			if !i.Since.IsZero() {
				holders++
			}
		}
		if holders > 1 {
			r.t.Fatalf("%d holders listed", holders)
		}
		if named := r.find(job.Find{Query: &job.Query{Kinds: []string{"named"}}}).Rows; len(named) != round+1 {
			r.t.Fatalf("%d live jobs of %d unique names", len(named), round+1)
		}
	}
	same(r.t, "repaired", r.audit(), 0)
}

func txValues(r *rig) {
	big, _ := json.Marshal(strings.Repeat("0123456789abcdef", 1<<16)) // 1 MiB
	long := strings.Repeat("k", 100)
	row := with(plain(1), func(row *job.Row) {
		row.Args, row.Kind, row.Queue, row.Idem, row.Unique = big, long, long, long, long
		row.Sync = syncqueue.Key{Kind: long, ID: "é 日本 '\"\\%_ 🚚"}
		row.Identity = map[string]string{"account": "", "user": "é'\"\\", long: strings.Repeat("v", 8000)}
		row.Resource, row.Account = "vm/日本", "acc'\";--"
		row.Deadline = r.now().Add(time.Hour)
		row.Timeout, row.Priority, row.Depth, row.Detached = 1500*time.Millisecond, -100, 16, true
		row.Flags = job.Unwinder | job.Locked
	})
	r.insert(row)
	got := r.get(1)
	sameJSON(r.t, "args", got.Args, big)
	same(r.t, "identity", got.Identity, row.Identity)
	same(r.t, "key", got.Sync, row.Sync)
	same(r.t, "names", []string{got.Kind, got.Queue, got.Idem, got.Unique, got.Resource, got.Account, got.Print, got.Root},
		[]string{row.Kind, row.Queue, row.Idem, row.Unique, row.Resource, row.Account, row.Print, row.Root})
	same(r.t, "numbers", []any{got.Timeout, got.Priority, got.Depth, got.Detached, got.Flags, got.MaxAttempts},
		[]any{row.Timeout, row.Priority, row.Depth, row.Detached, row.Flags, row.MaxAttempts})
	if !got.Deadline.Equal(row.Deadline) {
		r.t.Fatalf("deadline %v, want %v", got.Deadline, row.Deadline)
	}
	c := r.claim(job.Claim{Session: r.node, Kinds: []string{long}, Free: map[string]int{long: 1}, Max: 1})
	if len(c.Rows) != 1 {
		r.t.Fatal("not claimed")
	}
	failure := &job.Error{Code: "internal", Text: "é\n'\"", Meta: map[string]string{"a": ""}, Causes: []job.Error{{Code: "x", Text: "y"}}}
	m := end(c.Rows[0], job.Failed)
	m.Error, m.Result = failure, big
	m.Progress = &job.Progress{Percent: 7, Step: "s", Note: "n"}
	r.must(m)
	got = r.get(1)
	sameJSON(r.t, "result", got.Result, big)
	same(r.t, "error", got.Error, failure)
	same(r.t, "progress", got.Progress, *m.Progress)
	empty := with(plain(2), func(row *job.Row) { row.Args = json.RawMessage(`""`) })
	r.insert(empty)
	if got := r.get(2); string(got.Args) != `""` || len(got.Identity) != 0 || got.Error != nil || got.Result != nil {
		r.t.Fatalf("empty values came back as %+v", got)
	}
}

func txNested(r *rig) {
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if err := r.InTx(ctx, func(context.Context, store.Tx) error { return nil }); err == nil {
			r.t.Error("a transaction inside a transaction")
		}
		_, err := r.Jobs().Insert(ctx, tx, []job.Row{plain(1)})
		return err
	})
	r.is(job.Ready)
}
