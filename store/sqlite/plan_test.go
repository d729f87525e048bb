package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store/sqlite"
)

// recorder is the driver with a list of what was prepared.
type recorder struct {
	driver.Driver
	mu      sync.Mutex
	queries []string
}

func (r *recorder) Open(dsn string) (driver.Conn, error) {
	c, err := r.Driver.Open(dsn)
	return recording{c, r}, err
}

type recording struct {
	driver.Conn
	to *recorder
}

func (c recording) Prepare(query string) (driver.Stmt, error) {
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	if !slices.Contains(c.to.queries, query) {
		c.to.queries = append(c.to.queries, query)
	}
	return c.Conn.Prepare(query)
}

// recording opens stores of their own on the driver "recorder".
func (r *recorder) store(t testing.TB, c *clock) *sqlite.Store {
	dsn, err := sqlite.DSN(fixture.SQLiteFile(t))
	do(t, err)
	db, err := sql.Open("recorder", dsn+"&_pragma=synchronous(OFF)")
	do(t, err)
	t.Cleanup(func() { _ = db.Close() })
	s := sqlite.New(bun.NewDB(db, sqlitedialect.New()), sqlite.Config{Env: drover.Env{Clock: c}})
	do(t, s.Migrate(context.Background()))
	return s
}

// plans: every recorded statement goes by an index, but for those that are asked of all there is.
func (r *recorder) plans(t *testing.T) {
	db, _ := opened(t, fixture.SQLiteFile(t), sqlite.Config{})
	scans := regexp.MustCompile(`^SCAN (drover_\w+|[a-z])( |$)`)
	allowed := []string{
		"SCAN drover_meta", "SCAN drover_migration", "SCAN drover_policy", "SCAN drover_arrival", // few rows, or all of them wanted
		"SCAN drover_session", "SCAN drover_lease", "SCAN drover_host", // the list of all
		"SCAN s USING INDEX drover_session_dead", "SCAN s USING COVERING INDEX drover_session_dead", // the dead of the last hour
		"SCAN p",           // the priorities that there are
		"SCAN l", "SCAN h", // turns left to borrowers: few
		"SCAN j USING INDEX drover_job_live",          // an operator's page
		"SCAN drover_job USING INDEX drover_job_line", // late waiters, audit: all lines
	}
	counted := func(q string) bool {
		return strings.HasPrefix(q, "SELECT queue, count(*)") || strings.Contains(q, "kind NOT IN")
	} // all in a state
	seen := 0
	for _, q := range r.queries {
		head := strings.Fields(q)[0]
		if !strings.Contains(q, "drover_") || !slices.Contains([]string{"SELECT", "UPDATE", "DELETE", "INSERT", "WITH"}, head) {
			continue
		}
		seen++
		for _, step := range plan(t, db.DB, q) {
			page := step == "SCAN j" && strings.Contains(q, "ORDER BY j.seq") // by the row's number, to the end of the page
			if scans.MatchString(step) && !page && !counted(q) && !strings.Contains(step, "VIRTUAL TABLE") && !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(step, a) }) || strings.Contains(step, "AUTOMATIC") {
				t.Errorf("%s\n\tin %s", step, q)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d statements seen: run all of TestStore", seen)
	}
	t.Logf("%d statements", seen)
}

func plan(t *testing.T, db *sql.DB, query string) (steps []string) {
	args := make([]any, placeholders(query))
	rows, err := db.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%v in %s", err, query)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, detail)
	}
	do(t, rows.Err())
	return steps
}

// placeholders counts ? and finds the highest ?n.
func placeholders(query string) (n int) {
	for _, m := range regexp.MustCompile(`\?(\d*)`).FindAllStringSubmatch(query, -1) {
		k := 0
		if _, err := fmt.Sscan(m[1], &k); err != nil {
			k = n + 1
		}
		n = max(n, k)
	}
	return n
}

func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
