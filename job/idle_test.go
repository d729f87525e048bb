package job_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/postgres"
)

// long says that the figures of the specification are wanted, whatever they take.
var long = os.Getenv("DROVER_LONG") != ""

// TestIdle is job-84: what a cluster costs that has nothing to do, and what is stored costs one that has. In full it is 50 nodes,
// 100 000 final and 1 000 000 future jobs; without DROVER_LONG a tenth of it.
func TestIdle(t *testing.T) {
	nodes, final, future := 5, 10_000, 100_000
	if long {
		nodes, final, future = 50, 100_000, 1_000_000
	}
	t.Run("job-84 an idle cluster", func(t *testing.T) {
		server := fixture.FreshPostgres(t, "shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_utility=off", "max_connections=300")
		dsn := server.Database(t)
		empty, crowded := idleWorld(t, server.Database(t)), idleWorld(t, dsn)
		admin := fixture.OpenPostgres(t, dsn, 1)
		crowd(t, admin, final, future)
		idleStatements(crowded, admin, dsn, nodes)
		if !testing.Short() { // that is for the race detector, under which nothing has its usual price
			claimRate(empty, crowded)
		}
	})
}

func idleWorld(t *testing.T, dsn string) *world {
	t.Helper()
	db := postgres.New(fixture.OpenPostgres(t, dsn, 5), postgres.Config{})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &world{T: t, db: db, ttl: 30 * time.Second, poll: time.Second, real: true}
}

// crowd fills a database with jobs that are over and jobs of tomorrow.
func crowd(t *testing.T, db *bun.DB, final, future int) {
	t.Helper()
	for _, q := range []string{
		"SET statement_timeout = 0", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
		fmt.Sprintf(`INSERT INTO drover_job (id, seq, created, run_at, priority, bits, max_attempts, timeout, queue, kind, print, args)
 SELECT gen_random_uuid(), -i, now(), now() + interval '1 d', 0, 2, 5, 0, 'default', 'noop', '', '{}' FROM generate_series(1, %d) i`, final+future),
		fmt.Sprintf(`INSERT INTO drover_done (seq, id, epoch, started, ended, rev, runs, state) SELECT seq, id, 0, now(), now(), 3, 1, 5 FROM drover_job WHERE seq >= %d`, -final),
		fmt.Sprintf(`INSERT INTO drover_pend (run_at, seq, id, priority, mode, queue, kind) SELECT run_at, seq, id, 0, 3, 'default', 'noop' FROM drover_job WHERE seq < %d`, -final),
		"ANALYZE",
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

// idleStatements counts what the server is asked while nobody submits.
func idleStatements(w *world, admin *bun.DB, dsn string, nodes int) {
	var ns []*node
	for i := range nodes {
		own := &world{T: w.T, db: postgres.New(fixture.OpenPostgres(w, dsn, 2), postgres.Config{Env: drover.Env{Node: fmt.Sprint("pg", i)}}), ttl: w.ttl, poll: w.poll, real: true}
		ns = append(ns, own.node(fmt.Sprint("n", i), noop))
	}
	calls := func() (n int64) {
		// What the pools' sessions say by themselves (BEGIN, COMMIT) is no statement.
		err := admin.NewRaw(`SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_statements%'`).Scan(w.Context(), &n)
		w.must(err)
		return n
	}
	window := 5 * time.Second
	if long {
		window = time.Minute
	}
	time.Sleep(5 * time.Second)
	before, start := calls(), time.Now()
	time.Sleep(window)
	rate := float64(calls()-before) / time.Since(start).Seconds() / float64(nodes)
	w.Logf("%d idle nodes: %.2f statements/s each", nodes, rate)
	if rate > 2 {
		w.Errorf("%.2f statements/s per idle node, at most 2", rate)
	}
	for _, n := range ns {
		w.must(n.stop())
	}
}

// claimRate compares how fast jobs are done with nothing and with much else stored: the median of 5 to 15 tries each, in turn.
func claimRate(empty, crowded *world) {
	const jobs = 2000
	var rates [2][]float64
	a, b := empty.node("empty", noop), crowded.node("crowded", noop)
	once := func(n *node) float64 {
		js, err := n.SubmitMany(n.w.Context(), slices.Repeat([]job.Request{{Kind: "noop", RunAt: time.Now().Add(500 * time.Millisecond)}}, jobs))
		n.w.must(err)
		ctx, cancel := context.WithTimeout(n.w.Context(), time.Minute)
		defer cancel()
		for _, j := range js {
			_, err := n.Wait(ctx, j.ID)
			n.w.must(err)
		}
		last, err := n.Get(ctx, js[0].ID)
		n.w.must(err)
		first, end := last.Started, last.Ended
		for j, err := range n.List(ctx, job.Query{States: []job.State{job.Succeeded}, Created: job.Range{From: js[0].Created}, Limit: 500}) {
			n.w.must(err)
			if j.Started.Before(first) {
				first = j.Started
			}
			if j.Ended.After(end) {
				end = j.Ended
			}
		}
		return jobs / end.Sub(first).Seconds()
	}
	once(a)
	once(b)
	var free, full float64
	for try := 0; try < 15 && (try < 5 || full < 0.95*free); try++ {
		rates[0], rates[1] = append(rates[0], once(a)), append(rates[1], once(b))
		free, full = median(rates[0]), median(rates[1])
	}
	empty.Logf("%.0f jobs/s on an empty store, %.0f/s (%.0f %%) on a full one", free, full, 100*full/free)
	if full < 0.95*free {
		empty.Errorf("%.1f %% of the rate of an empty store, want 95", 100*full/free)
	}
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}
