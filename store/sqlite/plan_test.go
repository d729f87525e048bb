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
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
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

// Every statement on jobs goes by an index, but for pages that an operator asks for.
func TestPlans(t *testing.T) {
	plain := fixture.OpenSQLite(t, ":memory:")
	rec := &recorder{Driver: plain.Driver()}
	sql.Register("recorder", rec)
	dsn, err := sqlite.DSN(fixture.SQLiteFile(t))
	if err != nil {
		t.Fatal(err)
	}
	sqldb, err := sql.Open("recorder", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sqldb.Close() }()
	s := sqlite.New(bun.NewDB(sqldb, sqlitedialect.New()), sqlite.Config{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	everything(t, s)
	scans := regexp.MustCompile(`^SCAN (drover_\w+|j|b|s|p)( |$)`)
	allowed := []string{
		"SCAN drover_meta", "SCAN drover_migration", "SCAN drover_policy", "SCAN drover_arrival", // few rows, or all of them wanted
		"SCAN drover_session", "SCAN drover_lease", // the list of all
		"SCAN s USING INDEX drover_session_dead", "SCAN s USING COVERING INDEX drover_session_dead", // the dead of the last hour
		"SCAN p",                             // the priorities that there are
		"SCAN j USING INDEX drover_job_live", // an operator's page
		"SCAN drover_job USING INDEX drover_job_line", // late waiters, audit: all lines
	}
	seen := 0
	for _, q := range rec.queries {
		head := strings.Fields(q)[0]
		if !strings.Contains(q, "drover_") || !slices.Contains([]string{"SELECT", "UPDATE", "DELETE", "INSERT", "WITH"}, head) {
			continue
		}
		seen++
		if testing.Verbose() {
			t.Log(q)
		}
		for _, step := range plan(t, sqldb, q) {
			if scans.MatchString(step) && !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(step, a) }) {
				t.Errorf("%s\n\tin %s", step, q)
			}
			if testing.Verbose() {
				t.Log(step)
			}
			if strings.Contains(step, "AUTOMATIC") {
				t.Errorf("%s\n\tin %s", step, q)
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d statements seen", seen)
	}
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

// everything calls every method in every way that makes a statement of its own.
func everything(t *testing.T, s *sqlite.Store) {
	token := session(t, s, "n1")
	key := syncqueue.Key{Kind: "vm", ID: "1"}
	rows := []job.Row{row("a", syncqueue.Key{}), row("b", key), row("c", key), row("a", key), row("d", syncqueue.Key{})}
	rows[0].Idem, rows[0].Unique, rows[0].Name, rows[0].Parent = "i", "u", "n", "p"
	rows[4].RunAt = time.Now().Add(time.Hour)
	claim := job.Claim{Session: token, Kinds: []string{"k"}, Free: map[string]int{"default": 9}, Max: 9}
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		js := s.Jobs()
		_, err := js.Insert(ctx, tx, rows)
		do(t, err)
		got, err := js.Claim(ctx, tx, claim)
		do(t, err)
		claim.Oldest = true
		_, err = js.Claim(ctx, tx, claim)
		do(t, err)
		if len(got.Rows) != 2 {
			t.Fatalf("claimed %v", got.Rows)
		}
		for _, r := range got.Rows {
			do(t, js.Log(ctx, tx, []job.Entry{{JobID: r.ID, Epoch: r.Epoch, Step: "s", Text: "t", Mark: job.NoReturn, Progress: &job.Progress{Percent: 1}}}))
			_, err = js.(job.Finisher).Finish(ctx, tx, job.Finish{Start: claim, Moves: []job.Move{{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch, Result: []byte("1")}}})
			do(t, err)
		}
		lists(ctx, t, tx, s, key)
		_, err = js.Move(ctx, tx, []job.Move{{ID: "a", From: job.Succeeded, Epoch: got.Rows[0].Epoch}})
		do(t, err)
		leaseStatements(ctx, t, tx, s)
		return nil
	})
}

func lists(ctx context.Context, t *testing.T, tx store.Tx, s *sqlite.Store, key syncqueue.Key) {
	js, qs := s.Jobs(), s.Queues()
	for _, f := range []job.Find{
		{IDs: []string{"a"}, Steps: true, Journal: true}, {Resources: []string{"vm/1"}}, {Sessions: []int64{1}},
		{Due: "scheduled"}, {Due: "deadline"}, {Due: "cancel", Sessions: []int64{1}}, {Due: "retain", Kinds: []string{"k"}, Before: tx.Now()},
		{Query: &job.Query{}}, {Query: &job.Query{Key: key, Resource: "x"}}, {Query: &job.Query{Parent: "p"}}, {Query: &job.Query{Root: "r"}},
		{Query: &job.Query{Resource: "x", States: []job.State{job.Succeeded}}},
	} {
		_, err := js.List(ctx, tx, f)
		do(t, err)
	}
	for _, f := range []syncqueue.Filter{{Key: key}, {Keys: true}, {Keys: true, Kind: "vm", After: "vm\n0"}, {Older: time.Hour}} {
		_, err := qs.List(ctx, tx, f)
		do(t, err)
	}
	for _, n := range []int{0, 3, 1} {
		_, err := qs.Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: n, Paused: n == 3}}})
		do(t, err)
	}
	_, err := qs.Audit(ctx, tx, 10)
	do(t, err)
}

func leaseStatements(ctx context.Context, t *testing.T, tx store.Tx, s *sqlite.Store) {
	token, err := s.Leases().Open(ctx, tx, lease.Info{Name: "n2", State: lease.Active}, "p", time.Hour)
	do(t, err)
	do(t, s.Leases().Renew(ctx, tx, token, lease.Info{State: lease.Active}, time.Hour))
	_, err = s.Leases().Acquire(ctx, tx, token, "leader")
	do(t, err)
	_, _, err = s.Ledger().Take(ctx, tx, token, "gc", tx.Now())
	do(t, err)
	_, err = s.Ledger().Last(ctx, tx, "gc")
	do(t, err)
	do(t, s.Leases().Close(ctx, tx, token))
	_, err = s.Leases().Sweep(ctx, tx, 9)
	do(t, err)
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
