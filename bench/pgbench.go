package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// pgbench is a limit: what the plainest SQL for a workload reaches on the same server. A script is one transaction.
type pgbench struct {
	setup   []string
	script  string
	clients int
	seconds int // how long; 0: transactions says
	txs     int // per client
	per     float64
	latency bool // milliseconds of one transaction instead of per × transactions per second
}

// limit is p's side, nil where pgbench is not installed.
func (b *bench) limit(p pgbench) side {
	path := pgbenchPath(b.pg.Bin())
	if path == "" {
		return nil
	}
	return func(ctx context.Context, dsn string) (float64, error) {
		if err := execAll(ctx, dsn, p.setup); err != nil {
			return 0, err
		}
		f, err := os.CreateTemp("", "pgbench*.sql")
		if err != nil {
			return 0, err
		}
		defer os.Remove(f.Name())
		if _, err := f.WriteString(p.script + "\n"); err != nil {
			return 0, err
		}
		if err := f.Close(); err != nil {
			return 0, err
		}
		args := []string{"-n", "-M", "prepared", "-f", f.Name(), "-c", strconv.Itoa(p.clients), "-j", strconv.Itoa(min(2, p.clients))}
		if p.seconds > 0 {
			args = append(args, "-T", strconv.Itoa(p.seconds))
		} else {
			args = append(args, "-t", strconv.Itoa(p.txs))
		}
		out, err := exec.CommandContext(ctx, path, append(args, dsn)...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
		}
		tps, err := transactions(out)
		if p.latency {
			return 1e3 * float64(p.clients) / tps, err
		}
		return p.per * tps, err
	}
}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

func transactions(out []byte) (float64, error) {
	m := tpsLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench says no tps:\n%s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// pgbenchPath looks beside the server's programs, and where those really are.
func pgbenchPath(bin string) string {
	if bin == "" {
		return ""
	}
	server, err := filepath.EvalSymlinks(filepath.Join(bin, "postgres"))
	if err != nil {
		return ""
	}
	for _, dir := range []string{bin, filepath.Dir(server)} {
		if path, err := exec.LookPath(filepath.Join(dir, "pgbench")); err == nil {
			return path
		}
	}
	path, _ := exec.LookPath("pgbench")
	return path
}

func execAll(ctx context.Context, dsn string, statements []string) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, q := range statements {
		if _, err := c.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// finishAndClaim is the limit of P1: two connections work off n rows, each with one statement that finishes its last 1 000
// and claims the next.
func finishAndClaim(n int) pgbench {
	return pgbench{
		setup: []string{
			"CREATE TABLE wait (id bigint PRIMARY KEY, args text NOT NULL)",
			"CREATE TABLE run (id bigint PRIMARY KEY, conn int NOT NULL)",
			"CREATE TABLE fin (id bigint PRIMARY KEY, ended timestamptz NOT NULL, result text)",
			fmt.Sprintf(`INSERT INTO wait SELECT i, '{"num":' || i || '}' FROM generate_series(1, %d) i`, n),
			"VACUUM ANALYZE",
		},
		script: `WITH d AS (DELETE FROM run WHERE conn = :client_id RETURNING id), f AS (INSERT INTO fin SELECT id, now(), '{}' FROM d), ` +
			`c AS (DELETE FROM wait WHERE ctid = ANY (ARRAY(SELECT ctid FROM wait ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)) RETURNING id, args), ` +
			`r AS (INSERT INTO run SELECT id, :client_id FROM c) SELECT id, args FROM c;`,
		clients: 2, txs: n / 2_000, per: 1_000,
	}
}

const plainJobs = "CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, args text NOT NULL)"

// oneInsert is the limit of P6: commits of one row.
func oneInsert(seconds int) pgbench {
	return pgbench{setup: []string{plainJobs}, script: `INSERT INTO job (args) VALUES ('{"num":1}');`, clients: 16, seconds: seconds, per: 1}
}

// insertSelect is the limit of P7: 10 000 rows a commit.
func insertSelect(n int) pgbench {
	return pgbench{
		setup:  []string{plainJobs},
		script: `INSERT INTO job (args) SELECT '{"num":' || i || '}' FROM generate_series(1, 10000) i;`, clients: 1, txs: n / 10_000, per: 10_000,
	}
}

// insertNotify is the limit of P8: a row and a notification, committed.
func insertNotify(seconds int) pgbench {
	return pgbench{
		setup:  []string{plainJobs},
		script: "BEGIN;\nINSERT INTO job (args) VALUES ('{\"num\":1}');\nNOTIFY jobs;\nCOMMIT;", clients: 1, seconds: seconds, latency: true,
	}
}

// fourCommits is the limit of P14: three steps and a result, each committed.
func fourCommits(seconds int) pgbench {
	return pgbench{
		setup: []string{
			"CREATE TABLE step (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data text NOT NULL)",
			"CREATE TABLE fin (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, result text)",
		},
		script:  "INSERT INTO step (data) VALUES ('1');\nINSERT INTO step (data) VALUES ('2');\nINSERT INTO step (data) VALUES ('3');\nINSERT INTO fin (result) VALUES ('6');",
		clients: 16, seconds: seconds, per: 1,
	}
}
