package storetest

import (
	"context"
	"fmt"
	"sync"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// joinRace ends jobs while others join them: the one who comes second knows of the other.
func joinRace(r *rig) {
	fin := r.finisher()
	const pairs = 40
	r.insert(plainRows(1, 2*pairs)...)
	rows := r.claim(r.all(2 * pairs)).Rows
	same(r.t, "started", len(rows), 2*pairs)
	var wg sync.WaitGroup
	for i := range pairs {
		waiter, target := rows[2*i], rows[2*i+1]
		wg.Go(func() {
			move(r, park(waiter, job.Parking{Jobs: []string{target.ID, rows[(2*i+3)%(2*pairs)].ID}}))
		})
		wg.Go(func() {
			err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
				got, err := fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(target, job.Succeeded)}})
				if err != nil || !got.Done[0] {
					return fmt.Errorf("done %v, %w", got.Done, err)
				}
				if got.Awaited {
					_, err = r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{target.ID}})
				}
				return err
			})
			if err != nil {
				r.t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range pairs {
		if row := r.waiting(2*i + 1); row.State != job.Parked || len(row.Joins) > 0 {
			r.t.Fatalf("job %d is %s and sleeps for ever on %v", 2*i+1, row.State, row.Joins)
		}
	}
}

func move(r *rig, m job.Move) {
	err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
		done, err := r.Jobs().Move(ctx, tx, []job.Move{m})
		if err == nil && !done[0] {
			err = fmt.Errorf("move of %s to %s refused", m.ID, m.To)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

// signalRace parks jobs while they are signalled.
func signalRace(r *rig) {
	const jobs = 40
	r.insert(plainRows(1, jobs)...)
	rows := r.claim(r.all(jobs)).Rows
	same(r.t, "started", len(rows), jobs)
	var wg sync.WaitGroup
	for _, row := range rows {
		seen := make(chan bool, 2)
		wg.Go(func() {
			err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
				if _, err := r.Jobs().Move(ctx, tx, []job.Move{park(row, job.Parking{})}); err != nil {
					return err
				}
				found, err := r.Jobs().List(ctx, tx, job.Find{IDs: []string{row.ID}, Waits: true})
				if err == nil {
					seen <- len(found.Rows[0].Inbox) > 0
				}
				return err
			})
			if err != nil {
				r.t.Error(err)
				seen <- true
			}
		})
		wg.Go(func() {
			var out job.Signalled
			err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
				out, err = r.Jobs().Signal(ctx, tx, job.Signal{Topic: job.JobTopic(row.ID)})
				return err
			})
			if err != nil || len(out.Rows) != 1 {
				r.t.Errorf("%d rows, %v", len(out.Rows), err)
				return
			}
			if parked := out.Rows[0].State == job.Parked; !<-seen && !parked {
				r.t.Errorf("neither saw the other: %s", row.ID)
			}
		})
	}
	wg.Wait()
}

// lastTwo ends the two targets of each waiter in two transactions at once: one of them finds that none is left.
func lastTwo(r *rig) {
	fin := r.finisher()
	const waiters = 20
	r.insert(plainRows(1, 3*waiters)...)
	rows := r.claim(r.all(3 * waiters)).Rows
	same(r.t, "started", len(rows), 3*waiters)
	for i := range waiters {
		r.must(park(rows[3*i], job.Parking{Jobs: []string{rows[3*i+1].ID, rows[3*i+2].ID}}))
	}
	var mu sync.Mutex
	woken := map[string]int{}
	var wg sync.WaitGroup
	for _, side := range []int{1, 2} {
		for i := range waiters {
			target := rows[3*i+side]
			wg.Go(func() {
				var out job.Signalled
				err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
					if _, err := fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(target, job.Succeeded)}}); err != nil {
						return err
					}
					var err error
					out, err = r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{target.ID}})
					return err
				})
				if err != nil {
					r.t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, row := range out.Rows {
					if len(row.Joins) == 0 {
						woken[row.ID]++
					}
				}
			})
		}
	}
	wg.Wait()
	for i := range waiters {
		same(r.t, "woken "+rows[3*i].ID, woken[rows[3*i].ID], 1)
	}
}

// signalTwice signals a topic twice at once; whoever is first wakes the job, which is then not told again.
func signalTwice(r *rig) {
	const jobs = 20
	r.insert(plainRows(1, jobs)...)
	rows := r.claim(r.all(jobs)).Rows
	same(r.t, "started", len(rows), jobs)
	var wg sync.WaitGroup
	for i, row := range rows {
		topic := fmt.Sprint("t", i)
		r.must(park(row, job.Parking{Topics: []string{topic}}))
		for range 2 {
			wg.Go(func() {
				err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
					out, err := r.Jobs().Signal(ctx, tx, job.Signal{Topic: topic})
					if err != nil || len(out.Rows) == 0 {
						return err
					}
					wake := from(out.Rows[0], job.Ready)
					wake.Wakes = out.Rows[0].Inbox
					_, err = r.Jobs().Move(ctx, tx, []job.Move{wake})
					return err
				})
				if err != nil {
					r.t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for n := 1; n <= jobs; n++ {
		if row := r.waiting(n); row.State != job.Ready || len(row.Inbox) > 0 || len(row.Wakes) != 1 {
			r.t.Fatalf("job %d is %s, woken by %v, told %v", n, row.State, row.Wakes, row.Inbox)
		}
	}
}
