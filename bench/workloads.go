package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func (b *bench) size(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

func own(n int) func(int) syncqueue.Key {
	return func(i int) syncqueue.Key { return syncqueue.Key{Kind: "k", ID: fmt.Sprint(i % n)} }
}

func p1(b *bench) (row, error) {
	n := b.size(100_000, 50_000)
	got, err := b.byTurns(droverWork(n, nil, nil, tuned), riverWork(n, tunedRiver), plainSQL(b, n))
	if err != nil {
		return row{}, err
	}
	b.p1 = got[0]
	r := row{ID: "P1", Workload: fmt.Sprintf("%d jobs waiting, one node, tuned", n), Unit: "jobs/s", Drover: got[0], Alternative: got[1], Limit: got[2], Bar: "ratio >= 2.5"}
	r.Ratio = median(got[0]) / median(got[1])
	r.Met = r.Ratio >= 2.5
	return r, nil
}

func p2(b *bench) (row, error) {
	n := b.size(100_000, 20_000)
	riverN := min(n, 5_000) // its rate is workers ÷ cooldown whatever the backlog
	got, err := b.byTurns(droverWork(n, nil, nil), riverWork(riverN))
	if err != nil {
		return row{}, err
	}
	r := row{ID: "P2", Workload: fmt.Sprintf("%d jobs waiting, defaults of both", n), Unit: "jobs/s", Drover: got[0], Alternative: got[1], Bar: "ratio >= 20"}
	r.Ratio = median(got[0]) / median(got[1])
	r.Met = r.Ratio >= 20
	return r, nil
}

// ownP1 is drover's P1 of this run, measured now if it was not asked for.
func (b *bench) ownP1() (float64, error) {
	if b.p1 == nil {
		got, err := b.byTurns(droverWork(b.size(100_000, 50_000), nil, nil, tuned))
		if err != nil {
			return 0, err
		}
		b.p1 = got[0]
	}
	return median(b.p1), nil
}

func p3(b *bench) (row, error) {
	n := b.size(100_000, 50_000)
	got, err := b.byTurns(droverWork(n, own(n), nil, tuned), riverWork(n, tunedRiver))
	if err != nil {
		return row{}, err
	}
	p1, err := b.ownP1()
	r := row{ID: "P3", Workload: fmt.Sprintf("%d keys, one job each, limit 1 (River: no keys)", n), Unit: "jobs/s", Drover: got[0], Alternative: got[1], Bar: "ratio >= 1.8, >= 0.75 own P1"}
	r.Ratio = median(got[0]) / median(got[1])
	share := median(got[0]) / p1
	r.More = map[string]float64{"share of own P1": share}
	r.Met = r.Ratio >= 1.8 && share >= 0.75
	return r, err
}

func p4(b *bench) (row, error) {
	n := b.size(100_000, 50_000)
	const keys = 1_000
	var mu sync.Mutex
	last := map[int]int{}
	violations := 0
	seen := func(num int) {
		mu.Lock()
		defer mu.Unlock()
		if k := num % keys; num > 0 && last[k] > num {
			violations++
		} else {
			last[k] = num
		}
	}
	run := droverWork(n, own(keys), seen, tuned)
	got, err := b.byTurns(func(ctx context.Context, dsn string) (float64, error) { clear(last); return run(ctx, dsn) })
	if err != nil {
		return row{}, err
	}
	p1, err := b.ownP1()
	r := row{ID: "P4", Workload: fmt.Sprintf("%d keys x %d jobs, limit 1, FIFO", keys, n/keys), Unit: "jobs/s", Drover: got[0], Bar: ">= 0.65 own P1, 0 order violations"}
	share := median(got[0]) / p1
	r.More = map[string]float64{"share of own P1": share, "order violations": float64(violations)}
	r.Met = share >= 0.65 && violations == 0
	return r, err
}

func p5(b *bench) (row, error) {
	n := b.size(20_000, 6_000)
	var mu sync.Mutex
	var ended time.Time
	var gaps []float64
	running, overlap := 0, 0
	seen := func(int) {
		mu.Lock()
		now := time.Now()
		if running++; running > 1 {
			overlap++
		}
		if !ended.IsZero() {
			gaps = append(gaps, now.Sub(ended).Seconds()*1e3)
		}
		mu.Unlock()
		mu.Lock()
		running--
		ended = time.Now()
		mu.Unlock()
	}
	run := droverWork(n, own(1), seen, tuned)
	got, err := b.byTurns(func(ctx context.Context, dsn string) (float64, error) { ended = time.Time{}; return run(ctx, dsn) })
	if err != nil {
		return row{}, err
	}
	r := row{ID: "P5", Workload: fmt.Sprintf("one key, %d jobs, limit 1: hand-off", n), Unit: "jobs/s", Drover: got[0], Bar: ">= 1300/s, gap p50 <= 1.5 ms"}
	r.More = map[string]float64{"gap p50 ms": quantile(gaps, 0.5), "gap p99 ms": quantile(gaps, 0.99), "overlaps": float64(overlap)}
	r.Met = median(got[0]) >= 1300 && r.More["gap p50 ms"] <= 1.5 && overlap == 0
	return r, nil
}

// parallel runs f from 16 goroutines, n times in all, and gives the rate.
func parallel(n int, f func(i int) error) (float64, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 16)
	start := time.Now()
	for g := range errs {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if err := f(i); err != nil {
					errs[g] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds(), errors.Join(errs...)
}

func p6(b *bench) (row, error) {
	n := b.size(60_000, 20_000)
	submitOnly := func(c *job.Config) { c.Queues = map[string]int{} }
	ours := func(ctx context.Context, dsn string) (float64, error) {
		d, err := newDrover(ctx, dsn, func(int) {}, submitOnly)
		if err != nil {
			return 0, err
		}
		defer d.close()
		return parallel(n, func(i int) error {
			_, err := d.jobs.Submit(ctx, job.Request{Kind: "bench", Args: args{i}})
			return err
		})
	}
	theirs := func(ctx context.Context, dsn string) (float64, error) {
		r, err := newRiver(ctx, dsn, func(int) {}, tunedRiver)
		if err != nil {
			return 0, err
		}
		defer r.close()
		return parallel(n, func(i int) error {
			_, err := r.client.Insert(ctx, riverArgs{i}, nil)
			return err
		})
	}
	got, err := b.byTurns(ours, theirs)
	if err != nil {
		return row{}, err
	}
	r := row{ID: "P6", Workload: "single Submit, 16 goroutines", Unit: "jobs/s", Drover: got[0], Alternative: got[1], Bar: "ratio >= 1.6"}
	r.Ratio = median(got[0]) / median(got[1])
	r.Met = r.Ratio >= 1.6
	return r, nil
}

func p7(b *bench) (row, error) {
	n := b.size(200_000, 50_000)
	rate := func(f func(at, k int) error) (float64, error) {
		start := time.Now()
		for at := 0; at < n; at += 10_000 {
			if err := f(at, min(10_000, n-at)); err != nil {
				return 0, err
			}
		}
		return float64(n) / time.Since(start).Seconds(), nil
	}
	ours := func(ctx context.Context, dsn string) (float64, error) {
		d, err := newDrover(ctx, dsn, func(int) {}, func(c *job.Config) { c.Queues = map[string]int{} })
		if err != nil {
			return 0, err
		}
		defer d.close()
		return rate(func(at, k int) error {
			rs := make([]job.Request, k)
			for i := range rs {
				rs[i] = job.Request{Kind: "bench", Args: args{at + i}}
			}
			_, err := d.jobs.SubmitMany(ctx, rs)
			return err
		})
	}
	theirs := func(ctx context.Context, dsn string) (float64, error) {
		r, err := newRiver(ctx, dsn, func(int) {}, tunedRiver)
		if err != nil {
			return 0, err
		}
		defer r.close()
		return rate(func(at, k int) error {
			params := make([]river.InsertManyParams, k)
			for i := range params {
				params[i].Args = riverArgs{at + i}
			}
			_, err := r.client.InsertMany(ctx, params)
			return err
		})
	}
	got, err := b.byTurns(ours, theirs)
	if err != nil {
		return row{}, err
	}
	r := row{ID: "P7", Workload: "SubmitMany in 10 000s", Unit: "jobs/s", Drover: got[0], Alternative: got[1], Bar: "ratio >= 1.6"}
	r.Ratio = median(got[0]) / median(got[1])
	r.Met = r.Ratio >= 1.6
	return r, nil
}

// latencies measures submit to start on an idle node, of singles and of pairs 30 ms apart, in milliseconds.
func latencies(n int, submit func(num int) error, started <-chan int) (first, second []float64, err error) {
	one := func(num int) (float64, error) {
		start := time.Now()
		if err := submit(num); err != nil {
			return 0, err
		}
		select {
		case <-started:
			return time.Since(start).Seconds() * 1e3, nil
		case <-time.After(10 * time.Second):
			return 0, errors.New("a job did not start within 10 s")
		}
	}
	for i := range n {
		time.Sleep(170 * time.Millisecond)
		d, err := one(2 * i)
		if err != nil {
			return nil, nil, err
		}
		first = append(first, d)
		if i%2 == 1 {
			continue
		}
		time.Sleep(30 * time.Millisecond)
		if d, err = one(2*i + 1); err != nil {
			return nil, nil, err
		}
		second = append(second, d)
	}
	return first, second, nil
}

func p8(b *bench) (row, error) {
	n := b.size(200, 60)
	var first, second, riverSecond []float64
	ours := func(ctx context.Context, dsn string) (float64, error) {
		started := make(chan int, 10)
		d, err := newDrover(ctx, dsn, func(num int) { started <- num })
		if err != nil {
			return 0, err
		}
		defer d.close()
		d.start(ctx)
		time.Sleep(time.Second)
		f, s, err := latencies(n, func(num int) error {
			_, err := d.jobs.Submit(ctx, job.Request{Kind: "bench", Args: args{num}})
			return err
		}, started)
		first, second = append(first, f...), append(second, s...)
		return median(f), errors.Join(err, d.finish())
	}
	theirs := func(ctx context.Context, dsn string) (float64, error) {
		started := make(chan int, 10)
		r, err := newRiver(ctx, dsn, func(num int) { started <- num })
		if err != nil {
			return 0, err
		}
		defer r.close()
		if err := r.client.Start(ctx); err != nil {
			return 0, err
		}
		time.Sleep(time.Second)
		f, s, err := latencies(n, func(num int) error {
			_, err := r.client.Insert(ctx, riverArgs{num}, nil)
			return err
		}, started)
		riverSecond = append(riverSecond, s...)
		return median(f), errors.Join(err, r.client.Stop(ctx))
	}
	got, err := b.byTurns(ours, theirs)
	if err != nil {
		return row{}, err
	}
	r := row{ID: "P8", Workload: "submit to start, idle node, defaults", Unit: "ms", Drover: got[0], Alternative: got[1], Bar: "p50 <= 3, p99 <= 15 ms; second of a pair no slower"}
	r.Ratio = median(got[1]) / median(got[0])
	r.More = map[string]float64{"p50 ms": quantile(first, 0.5), "p99 ms": quantile(first, 0.99), "second p50 ms": quantile(second, 0.5), "River second p50 ms": quantile(riverSecond, 0.5)}
	r.Met = r.More["p50 ms"] <= 3 && r.More["p99 ms"] <= 15 && r.More["second p50 ms"] <= 1.25*r.More["p50 ms"]+0.5
	return r, nil
}

// plainSQL is the limit: a table of n rows worked off by two connections with one statement that finishes the last batch of
// 1 000 and claims the next.
func plainSQL(b *bench, n int) side {
	const batch = 1_000
	return func(ctx context.Context, dsn string) (float64, error) {
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return 0, err
		}
		defer c.Close(ctx)
		for _, q := range []string{
			"CREATE TABLE wait (id bigint PRIMARY KEY, args text NOT NULL)",
			"CREATE TABLE run (id bigint PRIMARY KEY, conn int NOT NULL)",
			"CREATE TABLE fin (id bigint PRIMARY KEY, ended timestamptz NOT NULL, result text)",
			fmt.Sprintf(`INSERT INTO wait SELECT i, '{"num":' || i || '}' FROM generate_series(1, %d) i`, n),
			"VACUUM ANALYZE",
		} {
			if _, err := c.Exec(ctx, q); err != nil {
				return 0, err
			}
		}
		const step = `WITH d AS (DELETE FROM run WHERE conn = $1 RETURNING id), f AS (INSERT INTO fin SELECT id, now(), '{}' FROM d),
c AS (DELETE FROM wait WHERE ctid = ANY (ARRAY(SELECT ctid FROM wait ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING id, args),
r AS (INSERT INTO run SELECT id, $1 FROM c) SELECT id, args FROM c`
		start := time.Now()
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for k := range errs {
			wg.Go(func() { errs[k] = drain(ctx, dsn, step, k, batch) })
		}
		wg.Wait()
		return float64(n) / time.Since(start).Seconds(), errors.Join(errs...)
	}
}

func drain(ctx context.Context, dsn, step string, conn, batch int) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for {
		rows, err := c.Query(ctx, step, conn, batch)
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			n++
		}
		if rows.Close(); rows.Err() != nil || n == 0 {
			return rows.Err()
		}
	}
}
