package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

const (
	feeders  = 2
	maxBatch = 32
	kindOne  = "one"   // limit 1
	kindSome = "three" // limit 3
)

// sent is one job as its feeder knows it. began and acked are nanoseconds since the start, around the submission.
type sent struct {
	n            int64
	id           string
	feeder       int
	key          syncqueue.Key
	limit        int
	mode         string
	began, acked int64
	hosted, kept bool // in a transaction with a row of the host's; committed
}

// feed submits the jobs, in batches, half of them in transactions of the host; of those one in twenty rolls back.
func (h *harness) feed(ctx context.Context, feeder int) {
	r := rand.New(rand.NewPCG(h.o.seed, uint64(10+feeder)))
	newID := drover.Env{}.Defaults().NewID
	for ctx.Err() == nil {
		batch := make([]*sent, 1+r.IntN(maxBatch))
		hosted := r.IntN(2) == 0
		kept := !hosted || r.IntN(20) > 0
		for i := range batch {
			batch[i] = h.newJob(r, newID(), feeder)
			batch[i].hosted, batch[i].kept = hosted, kept
		}
		if !h.awaitRoom(ctx, len(batch), kept) {
			return
		}
		began := time.Since(h.began)
		err := until(ctx, func() error { return h.submit(ctx, r, batch, hosted, kept) })
		if err != nil {
			return // unknown outcome: not counted as sent
		}
		h.mu.Lock()
		for _, s := range batch {
			s.began, s.acked = int64(began), int64(time.Since(h.began))
		}
		h.sent = append(h.sent, batch...)
		h.mu.Unlock()
	}
}

func (h *harness) newJob(r *rand.Rand, id string, feeder int) *sent {
	s := &sent{n: h.next.Add(1), id: id, feeder: feeder}
	k := r.IntN(h.o.Keys)
	s.key, s.limit = syncqueue.Key{Kind: kindOne, ID: fmt.Sprint(k)}, 1
	if k*10 >= h.o.Keys*9 {
		s.key.Kind, s.limit = kindSome, 3
	}
	at := r.IntN(1000)
	for _, m := range modes {
		if at -= m.of; at < 0 {
			s.mode = m.name
			break
		}
	}
	return s
}

// awaitRoom keeps the backlog short and the feeders in step with the torments; false: enough is fed.
func (h *harness) awaitRoom(ctx context.Context, n int, kept bool) bool {
	for ctx.Err() == nil {
		fed, all := h.fed.Load(), int64(h.o.Jobs)
		acts := int64(h.o.plan.all())
		inStep := acts == 0 || fed*acts <= (h.acted.Load()+acts/50+2)*all
		if fed >= all {
			return false
		}
		if inStep && h.open.Load() < h.room {
			if kept {
				h.fed.Add(int64(n))
				h.open.Add(int64(n))
			}
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// submit hands the batch in; a repetition answers what is there already.
func (h *harness) submit(ctx context.Context, r *rand.Rand, batch []*sent, hosted, kept bool) error {
	rs := make([]job.Request, len(batch))
	for i, s := range batch {
		rs[i] = job.Request{ID: s.id, Kind: kind, Args: args{N: s.n, Mode: s.mode}, Sync: s.key}
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if !hosted {
		_, err := h.jobs.SubmitMany(ctx, rs)
		return err
	}
	tx, err := h.bun.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	ns, ids := make([]int64, len(batch)), make([]string, len(batch))
	for i, s := range batch {
		ns[i], ids[i] = s.n, s.id
	}
	if _, err := tx.Tx.ExecContext(ctx, `INSERT INTO chaos_host SELECT * FROM unnest($1::bigint[], $2::uuid[]) ON CONFLICT DO NOTHING`, ns, ids); err != nil {
		return err
	}
	if _, err := h.jobs.SubmitManyTx(ctx, h.store.Join(tx), rs); err != nil {
		return err
	}
	if r.IntN(8) == 0 {
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond) // a host that takes its time
	}
	if !kept {
		return nil
	}
	return tx.Commit()
}

// grantWishes cancels and wakes the jobs that ask for it. A wish goes when it is granted, so that none is lost.
func (h *harness) grantWishes(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		var id string
		var wake bool
		err := h.bun.QueryRowContext(ctx, `SELECT job, wake FROM chaos_wish LIMIT 1`).Scan(&id, &wake)
		if err != nil {
			continue
		}
		if wake {
			err = h.jobs.Wake(ctx, "job/"+id)
		} else {
			_, err = h.jobs.Cancel(ctx, id, "chaos")
		}
		if err == nil || errors.Is(err, job.ErrFinished) {
			_, _ = h.bun.ExecContext(ctx, `DELETE FROM chaos_wish WHERE job = ?`, id)
		}
	}
}
