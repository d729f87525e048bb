package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

// crashFile makes this test binary a victim: it works on that file until it is killed.
const crashFile = "DROVER_TEST_SQLITE_VICTIM"

// A process that is killed at any point has lost nothing that it was told is committed, and left nothing half done.
func TestKilled(t *testing.T) {
	if path := os.Getenv(crashFile); path != "" {
		victim(t, path)
		return
	}
	t.Parallel()
	kills := 12
	if os.Getenv("DROVER_LONG") != "" {
		kills = 200
	}
	path := fixture.SQLiteFile(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	told := map[string]string{} // job: the last that was told of it
	for n := range kills {
		kill(t, path, 1+rnd.IntN(60), told)
		db, s := opened(t, path, sqlite.Config{})
		whole(t, db, s, told, n)
		do(t, db.Close())
	}
	if len(told) < 10*kills {
		t.Errorf("only %d jobs in %d runs: the victim hardly worked", len(told), kills)
	}
	db, s := opened(t, path, sqlite.Config{})
	drain(t, s)
	var live int
	do(t, db.NewRaw(`SELECT count(*) FROM drover_job WHERE ended IS NULL`).Scan(t.Context(), &live))
	if live != 0 {
		t.Errorf("%d jobs never end", live)
	}
}

// kill runs a victim until it has told some lines, and ends it wherever it is then.
func kill(t *testing.T, path string, lines int, told map[string]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), crashFile+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	do(t, err)
	do(t, cmd.Start())
	scan := bufio.NewScanner(out)
	for n := 0; scan.Scan(); n++ {
		if what, ids, ok := strings.Cut(scan.Text(), " "); ok && (what == "inserted" || what == "finished") {
			for _, id := range strings.Fields(ids) {
				told[id] = what
			}
		}
		if n == lines {
			do(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the victim ended by itself: %v", err)
	}
}

// victim submits, claims and finishes, and tells what is committed.
func victim(t *testing.T, path string) {
	_, s := opened(t, path, sqlite.Config{})
	claim := job.Claim{Session: session(t, s, "victim"), Kinds: []string{"k"}, Free: map[string]int{"default": 5}, Max: 5}
	sweep(t, s)
	for n := 0; ; n++ {
		rows := make([]job.Row, 7)
		ids := make([]string, len(rows))
		for i := range rows {
			ids[i] = fmt.Sprintf("%d-%d-%d", os.Getpid(), n, i)
			rows[i] = row(ids[i], syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i % 3)})
		}
		in(t, s, func(ctx context.Context, tx store.Tx) error {
			_, err := s.Jobs().Insert(ctx, tx, rows)
			return err
		})
		fmt.Println("inserted", strings.Join(ids, " "))
		fmt.Println("finished", strings.Join(round(t, s, claim), " "))
	}
}

// round claims and finishes, in two transactions, and answers who ended.
func round(t *testing.T, s *sqlite.Store, claim job.Claim) (ids []string) {
	var moves []job.Move
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		got, err := s.Jobs().Claim(ctx, tx, claim)
		moves, ids = nil, nil
		for _, r := range got.Rows {
			ids = append(ids, r.ID)
			moves = append(moves, job.Move{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch, Result: []byte(`"` + r.ID + `"`)})
		}
		return err
	})
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		_, err := s.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: moves})
		return err
	})
	return ids
}

// sweep takes back what dead sessions ran.
func sweep(t *testing.T, s *sqlite.Store) {
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		dead, err := s.Leases().Sweep(ctx, tx, 100)
		sessions := []int64{}
		for _, d := range dead {
			sessions = append(sessions, d.Epoch)
		}
		f, err2 := s.Jobs().List(ctx, tx, job.Find{Sessions: sessions})
		var moves []job.Move
		for _, r := range f.Rows {
			moves = append(moves, job.Move{ID: r.ID, From: job.Running, To: job.Ready, Epoch: r.Epoch, Raise: true, Lost: r.Lost + 1})
		}
		_, err3 := s.Jobs().Move(ctx, tx, moves)
		for _, err := range []error{err, err2, err3} {
			do(t, err)
		}
		return nil
	})
}

// drain works until nothing is left.
func drain(t *testing.T, s *sqlite.Store) {
	claim := job.Claim{Session: session(t, s, "victim"), Kinds: []string{"k"}, Free: map[string]int{"default": 500}, Max: 500}
	sweep(t, s)
	for len(round(t, s, claim)) > 0 {
	}
}

// whole checks a database after a kill.
func whole(t *testing.T, db *bun.DB, s *sqlite.Store, told map[string]string, n int) {
	t.Helper()
	for query, want := range map[string]string{
		`PRAGMA integrity_check`: "ok",
		`SELECT count(*) FROM drover_job j LEFT JOIN drover_body b ON b.seq = j.seq WHERE b.seq IS NULL`:                                 "0",
		`SELECT count(*) FROM drover_job WHERE (state = 'succeeded') <> (ended IS NOT NULL AND result = CAST('"' || id || '"' AS BLOB))`: "0",
		`SELECT count(*) FROM drover_job WHERE state = 'running' AND (epoch = 0 OR line <> 1)`:                                           "0",
		`SELECT count(*) FROM (SELECT 1 FROM drover_job WHERE line = 1 GROUP BY key_kind, key_id HAVING count(*) > 1)`:                   "0",
	} {
		var got string
		do(t, db.NewRaw(query).Scan(t.Context(), &got))
		if got != want {
			t.Errorf("kill %d: %s in %s", n, got, query)
		}
	}
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		for id, what := range told {
			f, err := s.Jobs().List(ctx, tx, job.Find{IDs: []string{id}})
			do(t, err)
			switch {
			case len(f.Rows) == 0:
				t.Errorf("kill %d: job %s is lost", n, id)
			case what == "finished" && f.Rows[0].State != job.Succeeded:
				t.Errorf("kill %d: finished job %s is %s", n, id, f.Rows[0].State)
			}
		}
		repaired, err := s.Queues().Audit(ctx, tx, 100)
		if repaired != 0 {
			t.Errorf("kill %d: audit repaired %d", n, repaired)
		}
		return err
	})
}
