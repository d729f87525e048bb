package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

var errUndo = errors.New("undo")

func in(t testing.TB, s *Store, f func(ctx context.Context, x store.Tx) error) {
	t.Helper()
	if err := s.InTx(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func row(n int, k syncqueue.Key) job.Row {
	return job.Row{Job: job.Job{ID: fmt.Sprint(n), Kind: fmt.Sprint("k", n%2), Queue: "q", Sync: k}}
}

func opened(t testing.TB, s *Store) (tok lease.Token) {
	in(t, s, func(ctx context.Context, x store.Tx) (err error) {
		tok, err = s.Leases().Open(ctx, x, lease.Info{Name: "n", State: lease.Active}, "p", 1000*time.Hour)
		return err
	})
	return tok
}

func claim(tok lease.Token, most int) job.Claim {
	return job.Claim{Session: tok, Kinds: []string{"k0", "k1"}, Free: map[string]int{"q": most}, Max: most}
}

// The control of queue-49: a holder that was not counted down is found, its turn goes to the waiter, and then all is well.
func TestAuditRepairs(t *testing.T) {
	var s Store
	tok, k := opened(t, &s), syncqueue.Key{Kind: "vm", ID: "1"}
	in(t, &s, func(ctx context.Context, x store.Tx) error {
		_, err := s.Jobs().Insert(ctx, x, []job.Row{row(1, k), row(2, k)})
		if err != nil {
			return err
		}
		_, err = s.Jobs().Claim(ctx, x, claim(tok, 1))
		return err
	})
	first := s.jobs.row("1")
	in(t, &s, func(ctx context.Context, x store.Tx) error {
		_, err := s.Jobs().Move(ctx, x, []job.Move{{ID: "2", From: job.Waiting, To: job.Parked}, {ID: "1", From: job.Running, To: job.Succeeded, Epoch: first.Epoch}})
		return err
	})
	s.jobs.lines[k].holders.add(first.Place, first) // as if the finish had left it there
	in(t, &s, func(ctx context.Context, x store.Tx) error {
		_, err := s.Jobs().Move(ctx, x, []job.Move{{ID: "2", From: job.Parked, To: job.Ready}})
		return err
	})
	in(t, &s, func(ctx context.Context, x store.Tx) error {
		if got, err := s.Jobs().Claim(ctx, x, claim(tok, 9)); err != nil || len(got.Rows) != 0 {
			t.Fatalf("the broken line is not stuck: %d, %v", len(got.Rows), err)
		}
		for _, want := range []int{1, 0} {
			if n, err := s.Queues().Audit(ctx, x, 10); n != want || err != nil {
				t.Fatalf("audit repaired %d, %v, want %d", n, err, want)
			}
		}
		if got, err := s.Jobs().Claim(ctx, x, claim(tok, 9)); err != nil || len(got.Rows) != 1 || got.Rows[0].ID != "2" {
			t.Fatalf("after the repair: %d rows, %v", len(got.Rows), err)
		}
		return nil
	})
}

// In a bubble, who waits for a transaction waits durably, his ctx ends the wait, and a hint comes after the commit.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Store
		hint, stop := s.Notifier().Wake("t")
		defer stop()
		hold, held := make(chan struct{}), make(chan error)
		go func() {
			held <- s.InTx(t.Context(), func(_ context.Context, x store.Tx) error {
				x.Hint("t")
				<-hold
				return nil
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := s.InTx(ctx, func(context.Context, store.Tx) error { t.Error("ran beside another"); return nil })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Fatalf("%v after %v, want the deadline's error after 1s", err, time.Since(began))
		}
		if len(hint) != 0 {
			t.Fatal("hint before the commit")
		}
		close(hold)
		if err := <-held; err != nil || len(hint) != 1 {
			t.Fatalf("%v, %d hints", err, len(hint))
		}
		in(t, &s, func(context.Context, store.Tx) error { return nil }) // the turn was given back
	})
}

// picture is everything the indexes say, in their order.
func (j *jobTables) picture() map[string][]string {
	p := map[string][]string{}
	put := func(name string, s *set) {
		if n := 0; s.n > 0 {
			for r := range s.all() {
				p[name], n = append(p[name], fmt.Sprint(r.ID, r.State, r.Turn, r.Place, r.Epoch, r.Rev)), n+1
			}
			if n != s.n {
				p[name] = append(p[name], fmt.Sprintf("counts %d", s.n))
			}
		}
	}
	put("all", &j.bySeq)
	put("due", &j.due)
	put("deadlines", &j.deadlines)
	for _, b := range j.buckets {
		for _, l := range b.levels {
			put(fmt.Sprint("ready", b.kind, l.priority), l.rows)
		}
		put("ended"+b.kind, &b.ended)
		put("offers"+b.kind, &b.offers)
	}
	for e, h := range j.sessions {
		put(fmt.Sprint("session", e), &h.rows)
		put(fmt.Sprint("cancels", e), &h.cancels)
	}
	for k, l := range j.lines {
		put(fmt.Sprint("holders", k, l.limit), &l.holders)
		put(fmt.Sprint("waiters", k, l.limit), &l.waiters)
		put(fmt.Sprint("others", k, l.limit), &l.others)
		if l.offered != nil {
			p[fmt.Sprint("offered", k)] = []string{l.offered.ID}
		}
	}
	return p
}

// fresh is what the indexes should be: those of the same rows, put in anew.
func (j *jobTables) fresh() *jobTables {
	var f jobTables
	f.init()
	f.policies = j.policies
	for r := range j.bySeq.all() {
		i := *r.image
		f.remember(&rec{image: &i})
	}
	f.settle(nil, nil)
	return &f
}

// Random operations, half of them rolled back: the indexes are always those of the rows, and a rollback leaves no trace.
func TestModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var s Store
		tok, n := opened(t, &s), 0
		for step := range 80 {
			before := s.jobs.picture()
			undo := r.IntN(2) == 0
			err := s.InTx(t.Context(), func(ctx context.Context, x store.Tx) error {
				for range 1 + r.IntN(4) {
					if err := s.random(ctx, x, r, tok, &n); err != nil {
						return err
					}
				}
				if undo {
					return errUndo
				}
				return nil
			})
			if err != nil && (!undo || !errors.Is(err, errUndo)) {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			now := s.jobs.picture()
			if undo && !reflect.DeepEqual(now, before) {
				t.Fatalf("seed %d, step %d: after a rollback\n%v\nbefore\n%v", seed, step, now, before)
			}
			if want := s.jobs.fresh().picture(); !reflect.DeepEqual(now, want) {
				t.Fatalf("seed %d, step %d: indexes\n%v\nwant\n%v", seed, step, now, want)
			}
		}
	}
}

// random does one operation; moves may be refused.
func (s *Store) random(ctx context.Context, x store.Tx, r *rand.Rand, tok lease.Token, n *int) (err error) {
	switch r.IntN(8) {
	case 0, 1, 2:
		*n++
		new := row(*n, syncqueue.Key{Kind: "vm", ID: fmt.Sprint(r.IntN(3))})
		if r.IntN(4) == 0 {
			new.Sync = syncqueue.Key{}
		}
		new.Priority, new.Resource = r.IntN(3), fmt.Sprint(r.IntN(3))
		if r.IntN(5) == 0 {
			new.RunAt = x.Now().Add(time.Hour)
		}
		if r.IntN(5) == 0 {
			new.Deadline = x.Now().Add(time.Hour)
		}
		_, err = s.Jobs().Insert(ctx, x, []job.Row{new})
	case 3, 4:
		_, err = s.Jobs().Claim(ctx, x, claim(tok, 1+r.IntN(3)))
	case 5:
		_, err = s.Queues().Policy(ctx, x, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: r.IntN(4), Paused: r.IntN(6) == 0}}})
	default:
		if *n == 0 {
			return nil
		}
		old := s.jobs.row(fmt.Sprint(1 + r.IntN(*n)))
		if old == nil {
			return nil
		}
		to := []job.State{job.Ready, job.Parked, job.Scheduled, job.Succeeded, job.Failed, old.State, ""}[r.IntN(7)]
		m := job.Move{ID: old.ID, From: old.State, To: to, Epoch: old.Epoch, Free: r.IntN(4) == 0, Raise: r.IntN(5) == 0}
		if r.IntN(4) == 0 {
			m.Cancel = &job.CancelRequest{By: "x"}
		}
		if allowed(&m) == nil {
			_, err = s.Jobs().Move(ctx, x, []job.Move{m})
		}
	}
	return err
}
