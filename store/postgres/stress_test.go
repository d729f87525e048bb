package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/syncqueue"
)

var errUndo = errors.New("rolled back")

// TestStress lets submitters, workers, sweepers, cancellers and an auditor loose on few keys of every kind of limit: never
// more of a key at once than its limit, never a stale finish accepted, on ordered keys starts in submission order, never
// a line forgotten on any snapshot, nothing left at the end, no deadlock. DROVER_LONG: a minute for each number of keys.
func TestStress(t *testing.T) {
	d, runs := 2*time.Second, []int{3}
	if os.Getenv("DROVER_LONG") != "" {
		d, runs = time.Minute, []int{2, 4, 8, 16, 64}
	}
	for _, keys := range runs {
		t.Run(fmt.Sprintf("queue-50 queue-57 %d keys", keys), func(t *testing.T) {
			s := &stress{T: t, dsn: fixture.Postgres(t).Database(t), keys: keys, until: time.Now().Add(d)}
			s.Store = fixture.PostgresStore(t, s.dsn, drover.Env{})
			s.run()
		})
	}
}

type stress struct {
	*testing.T
	*postgres.Store
	dsn   string
	keys  int
	until time.Time

	submitted, ended, ops, lost, retried, cancelled, audits atomic.Int64
	mu                                                      sync.Mutex
	ids                                                     []string
	running                                                 map[syncqueue.Key]int
	started                                                 map[syncqueue.Key]int64 // highest number on ordered keys
	next                                                    []int64
	lock                                                    []sync.Mutex
}

// limits by kind; "flip" changes all the time and is checked for nothing but its end.
var limits = map[string]int{"vm": 1, "host": 3, "free": 0}

func (s *stress) ok(err error) {
	if err != nil && !s.Failed() {
		s.Helper()
		s.Error(err)
	}
}

func (s *stress) in(f func(ctx context.Context, tx store.Tx) error) {
	s.Helper()
	s.ok(s.InTx(context.Background(), f))
}

func (s *stress) run() {
	s.running, s.started = map[syncqueue.Key]int{}, map[syncqueue.Key]int64{}
	s.next, s.lock = make([]int64, s.keys), make([]sync.Mutex, s.keys)
	s.policy("host", 3)
	s.policy("free", 0)
	var wg sync.WaitGroup
	workers := make([]*worker, 5)
	for i := range workers {
		workers[i] = &worker{stress: s, name: fmt.Sprint("w", i), r: rand.New(rand.NewPCG(uint64(i), uint64(s.keys)))}
		workers[i].open()
	}
	for i, w := range workers {
		wg.Go(func() {
			for time.Now().Before(s.until) && !s.Failed() {
				w.round(false)
			}
		})
		if i < 4 {
			wg.Go(func() { s.submitter(rand.New(rand.NewPCG(100+uint64(i), uint64(s.keys)))) })
		}
	}
	wg.Go(func() { s.every(3*time.Millisecond, s.sweep) })
	wg.Go(func() { s.every(2*time.Millisecond, s.steer) })
	wg.Go(func() { s.every(5*time.Millisecond, s.audit) })
	db := fixture.OpenPostgres(s, s.dsn, 1)
	wg.Go(func() { s.every(time.Millisecond, func() { s.hold(db) }) })
	n := 0
	wg.Go(func() {
		s.every(60*time.Millisecond, func() { n++; s.policy("flip", []int{1, 3, 0, 2, 0, 1}[n%6]) })
	})
	wg.Wait()
	s.drain(workers)
}

func (s *stress) every(d time.Duration, f func()) {
	for time.Now().Before(s.until) && !s.Failed() {
		f()
		time.Sleep(d)
	}
}

func (s *stress) policy(kind string, n int) {
	s.in(func(ctx context.Context, tx store.Tx) error {
		_, err := s.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: kind, Policy: syncqueue.Policy{Limit: n}}})
		return err
	})
}

// ordered keys: even ids of kind vm, whose submitters take turns and whose jobs never give their turn up.
func ordered(k syncqueue.Key) (n int, ok bool) {
	if k.Kind != "vm" {
		return 0, false
	}
	_, _ = fmt.Sscan(k.ID, &n)
	return n, n%2 == 0
}

func (s *stress) submitter(r *rand.Rand) {
	env := drover.Env{}.Defaults()
	for time.Now().Before(s.until) && !s.Failed() {
		if s.submitted.Load()-s.ended.Load() > int64(100*s.keys) {
			time.Sleep(time.Millisecond)
			continue
		}
		k := syncqueue.Key{Kind: []string{"vm", "vm", "vm", "host", "free", "flip"}[r.IntN(6)], ID: fmt.Sprint(r.IntN(s.keys))}
		n, inOrder := ordered(k)
		rows := make([]job.Row, 1+r.IntN(4))
		if inOrder {
			s.lock[n].Lock()
		}
		for i := range rows {
			rows[i] = job.Row{Print: "p", Job: job.Job{ID: env.NewID(), Kind: "k", Queue: []string{"q", "q", "q2"}[r.IntN(3)], MaxAttempts: 5}}
			if r.IntN(8) > 0 {
				rows[i].Sync = k
			}
			if inOrder {
				s.next[n]++
				rows[i].Args = fmt.Append(nil, s.next[n])
				rows[i].Queue = "q"
				continue
			}
			rows[i].Priority = r.IntN(3) - 1
			if r.IntN(6) == 0 {
				rows[i].RunAt = time.Now().Add(time.Duration(r.IntN(40)) * time.Millisecond)
			}
		}
		err := s.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
			if _, err := s.Jobs().Insert(ctx, tx, rows); err != nil {
				return err
			}
			if !inOrder && r.IntN(10) == 0 {
				time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
			}
			if r.IntN(20) == 0 {
				return errUndo
			}
			return nil
		})
		if inOrder {
			s.lock[n].Unlock()
		}
		s.ops.Add(1)
		if errors.Is(err, errUndo) {
			continue
		}
		s.ok(err)
		s.submitted.Add(int64(len(rows)))
		s.mu.Lock()
		for _, row := range rows {
			s.ids = append(s.ids, row.ID)
		}
		if len(s.ids) > 2000 {
			s.ids = s.ids[1000:]
		}
		s.mu.Unlock()
	}
}

// enter and leave count what runs by the test's own book.
func (s *stress) enter(rows []job.Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		if r.Sync.Kind == "" {
			continue
		}
		s.running[r.Sync]++
		if n := limits[r.Sync.Kind]; n > 0 && s.running[r.Sync] > n {
			s.Errorf("%d of %v run, limit %d", s.running[r.Sync], r.Sync, n)
		}
		if _, ok := ordered(r.Sync); ok {
			var n int64
			_, _ = fmt.Sscan(string(r.Args), &n)
			if n < s.started[r.Sync] {
				s.Errorf("%v: %d starts after %d", r.Sync, n, s.started[r.Sync])
			}
			s.started[r.Sync] = n
		}
	}
}

func (s *stress) leave(rows []job.Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		if r.Sync.Kind != "" {
			s.running[r.Sync]--
		}
	}
}

// sweep marks dead sessions, returns their jobs, and makes due ones ready.
func (s *stress) sweep() {
	move := func(f job.Find, m func(r job.Row) job.Move) {
		s.in(func(ctx context.Context, tx store.Tx) error {
			found, err := s.Jobs().List(ctx, tx, f)
			if err != nil || len(found.Rows) == 0 {
				return err
			}
			var ms []job.Move
			for _, r := range found.Rows {
				ms = append(ms, m(r))
			}
			_, err = s.Jobs().Move(ctx, tx, ms)
			return err
		})
	}
	var dead []int64
	s.in(func(ctx context.Context, tx store.Tx) error {
		toks, err := s.Leases().Sweep(ctx, tx, 100)
		dead = nil
		for _, k := range toks {
			dead = append(dead, k.Epoch)
		}
		return err
	})
	if len(dead) > 0 {
		move(job.Find{Sessions: dead, SkipLocked: true}, func(r job.Row) job.Move {
			s.lost.Add(1)
			return job.Move{ID: r.ID, From: job.Running, To: job.Ready, Epoch: r.Epoch, Raise: true, Lost: r.Lost + 1}
		})
	}
	move(job.Find{Due: "scheduled", SkipLocked: true}, func(r job.Row) job.Move {
		return job.Move{ID: r.ID, From: job.Scheduled, To: job.Ready, Epoch: r.Epoch}
	})
	s.ops.Add(3)
}

// steer cancels what has not started, and wakes what is parked.
func (s *stress) steer() {
	s.mu.Lock()
	var some []string
	for range min(5, len(s.ids)) {
		some = append(some, s.ids[rand.IntN(len(s.ids))])
	}
	s.mu.Unlock()
	if len(some) == 0 {
		return
	}
	s.in(func(ctx context.Context, tx store.Tx) error {
		found, err := s.Jobs().List(ctx, tx, job.Find{IDs: some})
		if err != nil {
			return err
		}
		n := int64(0)
		for i, r := range found.Rows {
			to := job.Cancelled
			switch {
			case r.State == job.Parked:
				to = job.Ready
			case i > 0 || r.State == job.Running || r.State == job.Succeeded || r.State == job.Cancelled:
				continue
			}
			done, err := s.Jobs().Move(ctx, tx, []job.Move{{ID: r.ID, From: r.State, To: to, Epoch: r.Epoch}})
			if err != nil {
				return err
			}
			if done[0] && to == job.Cancelled {
				n++
			}
		}
		s.cancelled.Add(n)
		s.ended.Add(n)
		return nil
	})
	s.ops.Add(1)
}

// hold locks a few waiters for a while and changes nothing, as a refused cancel or a host's transaction that goes back does.
func (s *stress) hold(db *bun.DB) {
	tx, err := db.BeginTx(context.Background(), nil)
	s.ok(err)
	_, err = tx.Exec(`SELECT 1 FROM drover_pend WHERE mode IN (1, 2) ORDER BY random() LIMIT 3 FOR UPDATE SKIP LOCKED`)
	s.ok(err)
	time.Sleep(time.Duration(rand.IntN(12)) * time.Millisecond)
	s.ok(tx.Rollback())
}

func (s *stress) audit() {
	s.in(func(ctx context.Context, tx store.Tx) error {
		n, err := s.Queues().Audit(ctx, tx, 1000)
		if n > 0 {
			s.Errorf("%d lines forgotten", n)
		}
		return err
	})
	s.audits.Add(1)
}

// drain works off what is left, one round at a time.
func (s *stress) drain(workers []*worker) {
	s.policy("flip", 2)
	for idle := 0; idle < 5 && !s.Failed(); {
		before := s.ended.Load()
		s.sweep()
		s.mu.Lock()
		s.ids = nil
		s.mu.Unlock()
		s.in(func(ctx context.Context, tx store.Tx) error {
			found, err := s.Jobs().List(ctx, tx, job.Find{Query: &job.Query{States: []job.State{job.Parked}, Limit: 500}})
			if err != nil {
				return err
			}
			for _, r := range found.Rows {
				if _, err := s.Jobs().Move(ctx, tx, []job.Move{{ID: r.ID, From: job.Parked, To: job.Ready, Epoch: r.Epoch}}); err != nil {
					return err
				}
			}
			return nil
		})
		for _, w := range workers {
			w.round(true)
		}
		idle++
		if s.ended.Load() != before {
			idle = 0
		}
		time.Sleep(5 * time.Millisecond)
	}
	var left []job.Row
	s.in(func(ctx context.Context, tx store.Tx) error {
		found, err := s.Jobs().List(ctx, tx, job.Find{Query: &job.Query{Limit: 10}})
		left = found.Rows
		return err
	})
	for _, r := range left {
		s.Errorf("left: %s %s %v turn %v place %d queue %s", r.ID, r.State, r.Sync, r.Turn, r.Place, r.Queue)
	}
	if s.submitted.Load() != s.ended.Load() {
		s.Errorf("%d submitted, %d ended", s.submitted.Load(), s.ended.Load())
	}
	db := fixture.OpenPostgres(s, s.dsn, 1)
	var deadlocks int
	s.ok(db.QueryRow(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&deadlocks))
	s.Logf("%d operations, %d jobs, %d retried, %d lost and swept, %d cancelled, %d audits, %d deadlocks", s.ops.Load(), s.submitted.Load(),
		s.retried.Load(), s.lost.Load(), s.cancelled.Load(), s.audits.Load(), deadlocks)
	if deadlocks > 0 {
		s.Errorf("%d deadlocks", deadlocks)
	}
}
