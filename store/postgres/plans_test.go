package postgres_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store/postgres"
)

// recorder keeps every statement once, with arguments it had.
type recorder struct {
	mu    sync.Mutex
	args  map[string][]any
	texts []string
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.args[d.SQL]; !ok {
		r.args[d.SQL] = slices.Clone(d.Args)
		r.texts = append(r.texts, d.SQL)
	}
	return ctx
}

func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// open is fixture.OpenPostgres, recorded.
func (r *recorder) open(t testing.TB, dsn string, conns int) *bun.DB {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Tracer = r
	sqldb := stdlib.OpenDB(*cfg)
	sqldb.SetMaxOpenConns(conns)
	t.Cleanup(func() { _ = sqldb.Close() })
	return bun.NewDB(sqldb, pgdialect.New())
}

var (
	schemas = regexp.MustCompile(`"s\d+"\.drover_`)
	// What may read all of drover_active, which has a row per running job: an operator's page and lines, and what is left of a session.
	running = []string{"FROM drover_active WHERE session IS NOT NULL AND", "FROM drover_active WHERE key >= ", "session = ANY (", "a.session = s.epoch"}
	// What reads every row of a state in the narrow tables: the counts, and an operator's page of a state filtered by what has no index.
	states = []string{"count(*), min(", "FROM (SELECT id, seq FROM ((SELECT id, seq FROM drover_pend WHERE (mode "}
	// What is asked of all there is: the audit of lines, their counts by kind, the list of sessions and leases, the list of hosts, a text in any job.
	all = []string{"SELECT kind, sum(w), sum(h)", "strpos(lower(j.kind)", "SELECT DISTINCT key FROM drover_pend WHERE mode = 2 AND key >= ' ' EXCEPT", "UNION ALL\nSELECT n.name, true", "FROM drover_host ORDER BY host"}
)

// scans names the tables that a statement must not read from end to end.
func scans(text, plan string) (bad []string) {
	has := func(part string) bool { return strings.Contains(text, part) }
	for _, m := range scanned.FindAllStringSubmatch(plan, -1) {
		if slices.ContainsFunc(all, has) || m[1] == "active" && slices.ContainsFunc(running, has) || m[1] != "job" && slices.ContainsFunc(states, has) {
			continue
		}
		bad = append(bad, m[0])
	}
	if g := guessed(plan); g != "" {
		bad = append(bad, g)
	}
	return bad
}

// plans checks the hot statements, and every one that was recorded in a schema of its own, against a crowded database.
func (r *recorder) plans(t *testing.T) {
	n := 320_000
	if os.Getenv("DROVER_LONG") != "" {
		n = 1_000_000
	}
	db := fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 2)
	s := migrated(t, db, postgres.Config{})
	fill(t, db, crowd(n))
	hot(t, s)
	seen := map[string]bool{}
	for _, q := range r.texts {
		text := schemas.ReplaceAllString(q, "drover_")
		if text == q || seen[text] || !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}, strings.Fields(q)[0]) {
			continue
		}
		seen[text] = true
		for _, generic := range []bool{false, true} {
			plan, err := postgres.Explain(t.Context(), s, generic, text, r.args[q]...)
			if err != nil {
				t.Errorf("%v\n%s", err, text)
				break
			}
			if bad := scans(text, plan); len(bad) > 0 {
				t.Errorf("generic %v: %q\n%s\n%s", generic, bad, text, plan)
			}
		}
	}
	if len(seen) < 200 {
		t.Errorf("only %d statements seen: run all of TestStore", len(seen))
	}
	t.Logf("%d statements on %d jobs", len(seen), n)
}
