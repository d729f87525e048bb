package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/drover-cloud/drover/job"
)

// trivial is P1's backlog.
func (b *bench) trivial() backlog { return backlog{n: b.size(100_000, 50_000), tune: tuned} }

func p1(b *bench) (figures, error) {
	l := b.trivial()
	got, err := b.byTurns(l.side, riverWork(l.n, tunedRiver), b.limit(finishAndClaim(l.n)))
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[1], limit: got[2]}, nil
}

// p2's River works workers ÷ cooldown, whatever the backlog, so it gets a smaller one.
func p2(b *bench) (figures, error) {
	l := backlog{n: b.size(100_000, 30_000)}
	got, err := b.byTurns(l.side, riverWork(b.size(10_000, 4_000)))
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[1]}, nil
}

func p3(b *bench) (figures, error) {
	l := b.trivial()
	l.shape = distinct(l.n)
	got, err := b.byTurns(l.side, b.trivial().side, riverWork(l.n, tunedRiver))
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[2], more: share(got[0], got[1])}, nil
}

// share is the figure ownP1.
func share(got, p1 []float64) map[string]float64 {
	return map[string]float64{ownP1: median(got) / median(p1)}
}

func p4(b *bench) (figures, error) {
	const keys = 1_000
	line := newLine(keys)
	l := b.trivial()
	l.shape = distinct(keys)
	l.work = line.work
	got, err := b.byTurns(line.fresh(l.side), b.trivial().side)
	if err != nil {
		return figures{}, err
	}
	more := share(got[0], got[1])
	more["order violations"], more["overlaps"] = line.violations, line.overlaps
	return figures{drover: got[0], more: more}, nil
}

// p9's sides are both measured until so many handlers have run: the node is not empty then.
func p9(b *bench) (figures, error) {
	big := b.size(1_000_000, 200_000)
	side := func(crowd int) side {
		return func(ctx context.Context, dsn string) (float64, error) { return b.crowded(ctx, dsn, crowd) }
	}
	got, err := b.byTurns(side(big), side(0))
	if err != nil {
		return figures{}, err
	}
	more := share(got[0], got[1])
	more["waiting and finished, each"] = float64(big)
	return figures{drover: got[0], more: more}, nil
}

// crowded works P1's jobs where crowd jobs are finished and crowd more wait.
func (b *bench) crowded(ctx context.Context, dsn string, crowd int) (float64, error) {
	n := b.trivial().n
	var worked atomic.Int64
	count := func(context.Context, int) error { worked.Add(1); return nil }
	d, err := newDrover(ctx, dsn, count, tuned)
	if err != nil {
		return 0, err
	}
	defer d.close()
	if crowd > 0 {
		if err := d.fill(ctx, crowd, nil); err != nil {
			return 0, err
		}
		d.start(ctx)
		if err := errors.Join(reaches(ctx, &worked, crowd), d.finish(), d.manage(count, tuned)); err != nil {
			return 0, err
		}
	}
	if err := d.fill(ctx, n+crowd, nil); err != nil {
		return 0, err
	}
	start := time.Now()
	d.start(ctx)
	if err := reaches(ctx, &worked, n+crowd); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if err := d.finish(); err != nil {
		return 0, err
	}
	return float64(n) / took.Seconds(), d.kept(ctx, n, crowd)
}

// kept checks that what was worked is done, that the rest waits, and that nothing was lost.
func (d *droverSide) kept(ctx context.Context, n, crowd int) error {
	done, waiting := 0, 0
	if err := d.db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM drover_done), (SELECT count(*) FROM drover_pend)").Scan(&done, &waiting); err != nil {
		return err
	}
	if done+waiting != n+2*crowd || done < n+crowd {
		return fmt.Errorf("%d done and %d waiting of %d", done, waiting, n+2*crowd)
	}
	return nil
}

func p11(b *bench) (figures, error) {
	big := b.size(1_000_000, 200_000)
	l := b.trivial()
	var idle []float64
	l.there = func(ctx context.Context, d *droverSide) error {
		tomorrow := time.Now().Add(24 * time.Hour)
		return d.fill(ctx, big, func(i int, r *job.Request) { r.RunAt = tomorrow })
	}
	l.after = func(ctx context.Context, d *droverSide) error {
		read, err := d.idleReads(ctx, 3*time.Second)
		idle = append(idle, read)
		if err != nil {
			return err
		}
		return d.succeeded(ctx, l.n)
	}
	got, err := b.byTurns(l.side, b.trivial().side)
	if err != nil {
		return figures{}, err
	}
	more := share(got[0], got[1])
	more["rows read/s when idle"], more["scheduled"] = median(idle), float64(big)
	return figures{drover: got[0], more: more}, nil
}

// idleReads is how many rows per second a node with nothing to do makes the server read.
func (d *droverSide) idleReads(ctx context.Context, dur time.Duration) (float64, error) {
	if err := d.manage(noWork, tuned); err != nil {
		return 0, err
	}
	read := func() (n float64, err error) {
		err = d.db.QueryRowContext(ctx, `SELECT coalesce(sum(seq_tup_read), 0) + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes) FROM pg_stat_user_tables`).Scan(&n)
		return n, err
	}
	d.start(ctx)
	time.Sleep(dur) // what starting reads, and until the server has counted what came before
	before, err := read()
	if err != nil {
		return 0, err
	}
	time.Sleep(dur)
	after, err := read()
	if err != nil {
		return 0, err
	}
	return (after - before) / dur.Seconds(), d.finish()
}

func p28(b *bench) (figures, error) {
	l := b.trivial()
	l.tune = func(c *job.Config) {
		tuned(c)
		c.Env.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
		c.Env.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	}
	got, err := b.byTurns(l.side, b.trivial().side)
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[1]}, nil
}
