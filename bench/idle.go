package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
)

// p15 has a server of its own, which counts statements: pg_stat_statements, BEGIN and COMMIT included.
func p15(b *bench) (figures, error) {
	counting, err := testkit.StartPostgres(testkit.FsyncOn, "shared_preload_libraries=pg_stat_statements")
	if err != nil {
		return figures{}, err
	}
	defer counting.Stop()
	other := *b
	other.pg = counting
	more := map[string]float64{}
	got, err := other.once(func(ctx context.Context, dsn string) (float64, error) { return b.idle(ctx, dsn, more) })
	b.other = other.other
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], more: more}, nil
}

const (
	idleNodes = 50

	// sqlIdle counts what drover did: statements, and the WAL of those that are no renewals of a session, and of those.
	sqlIdle = `
SELECT coalesce(sum(calls), 0), coalesce(sum(wal_bytes) FILTER (WHERE query NOT LIKE '%drover_session%'), 0),
  coalesce(sum(wal_bytes) FILTER (WHERE query LIKE '%drover_session%'), 0), pg_current_wal_lsn() - '0/0'
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_statements%'`
)

func (b *bench) idle(ctx context.Context, dsn string, more map[string]float64) (float64, error) {
	if err := execAll(ctx, dsn, []string{"CREATE EXTENSION pg_stat_statements"}); err != nil {
		return 0, err
	}
	finished := backlog{n: b.size(100_000, 20_000), tune: tuned}
	if _, err := finished.side(ctx, dsn); err != nil {
		return 0, err
	}
	d, err := openDrover(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer d.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var nodes sync.WaitGroup
	errs := make([]error, idleNodes)
	for i := range idleNodes {
		m, err := job.New(job.Config{DB: d.store, Env: drover.Env{Node: nodeName(i)}})
		if err != nil {
			return 0, err
		}
		job.Handle(m, "bench", func(context.Context, args) (struct{}, error) { return struct{}{}, nil })
		nodes.Go(func() { errs[i] = m.Run(ctx) })
	}
	time.Sleep(5 * time.Second) // until all have a session and have looked around
	rate, err := d.countIdle(ctx, time.Duration(b.size(60, 20))*time.Second, more)
	stop()
	nodes.Wait()
	return rate, errors.Join(append(errs, err)...)
}

// countIdle looks for a while and gives statements per node and second.
func (d *droverSide) countIdle(ctx context.Context, dur time.Duration, more map[string]float64) (float64, error) {
	read := func() (v [4]float64, err error) {
		err = d.db.QueryRowContext(ctx, sqlIdle).Scan(&v[0], &v[1], &v[2], &v[3])
		return v, err
	}
	before, err := read()
	if err != nil {
		return 0, err
	}
	time.Sleep(dur)
	after, err := read()
	if err != nil {
		return 0, err
	}
	per := func(i int) float64 { return (after[i] - before[i]) / idleNodes / dur.Seconds() }
	more["WAL bytes beyond heartbeats"] = after[1] - before[1]
	more["WAL bytes of heartbeats per node and s"] = per(2)
	more["WAL bytes in all per node and s"] = per(3)
	return per(0), nil
}
