package postgres_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store/postgres"
)

// crowd is 100 000 waiting jobs, half of them keyed, 20 000 running, 100 000 final, 100 000 for tomorrow.
var crowd = []string{
	`INSERT INTO drover_session (epoch, name, incarnation, store, process, until, state, kinds, queues) VALUES (1, 'n', 1, 's', 'p', now() + interval '1 h', 'active', '{}', '{}')`,
	`INSERT INTO drover_job (id, seq, created, run_at, priority, bits, max_attempts, timeout, queue, kind, key, print, args)
 SELECT md5(i::text)::uuid, i, now(), now(), 0, 0, 5, 0, 'q', 'k', CASE WHEN i % 2 = 0 THEN 'vm' || chr(31) || i % 20000 END, 'p', '{}' FROM generate_series(1, 320000) i`,
	`INSERT INTO drover_pend (run_at, seq, id, place, priority, mode, queue, kind, key)
 SELECT now(), i, md5(i::text)::uuid, CASE WHEN i % 2 = 0 THEN i END, 0, CASE WHEN i % 2 = 0 THEN 2 ELSE 0 END, 'q', 'k', CASE WHEN i % 2 = 0 THEN 'vm' || chr(31) || i % 20000 END
 FROM generate_series(20001, 120000) i`,
	`INSERT INTO drover_pend (run_at, seq, id, priority, mode, queue, kind) SELECT now() + interval '1 d', i, md5(i::text)::uuid, 0, 3, 'q', 'k' FROM generate_series(220001, 320000) i`,
	`INSERT INTO drover_active (id, seq, epoch, session, place, started, rev, runs, slot, key)
 SELECT md5(i::text)::uuid, i, 5, 1, i, now(), 2, 1, CASE WHEN i % 2 = 0 THEN 0 END, CASE WHEN i % 2 = 0 THEN 'vm' || chr(31) || i END FROM generate_series(1, 20000) i`,
	`INSERT INTO drover_done (seq, id, epoch, ended, rev, runs, state) SELECT i, md5(i::text)::uuid, 4, now(), 3, 1, 5 FROM generate_series(120001, 220000) i`,
	`INSERT INTO drover_extra (id, rev, percent) SELECT md5(i::text)::uuid, 1, 5 FROM generate_series(1, 30000) i`,
	`ANALYZE`,
}

// TestExplain: no hot statement reads a big table from end to end, nor joins two CTEs, whose sizes the planner can only guess.
func TestExplain(t *testing.T) {
	t.Parallel()
	for name, rows := range map[string][]string{"fresh": nil, "crowded": crowd} {
		t.Run(name, func(t *testing.T) { explain(t, rows) })
	}
}

// fill takes its time, which may be longer on a busy machine than the store's statement timeout.
func fill(t *testing.T, db *bun.DB, rows []string) {
	t.Helper()
	c, err := db.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, q := range slices.Concat([]string{"SET statement_timeout = 0"}, rows, []string{"RESET statement_timeout"}) {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

func explain(t *testing.T, rows []string) {
	ctx := context.Background()
	db := fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 2)
	s := migrated(t, db, postgres.Config{})
	fill(t, db, rows)
	ids := []string{"c4ca4238-a0b9-2382-0dcc-509a6f75849b", "c81e728d-9d4c-2f63-6f06-7f89cc14862c"}
	at, n, none := []time.Time{time.Unix(0, 0)}, []int64{0}, []*string{nil}
	claim := []any{"q", 500, int64(1), n, at, n, []string{"k"}}
	heads := []any{"q", 500, int64(1), []int64{}, []time.Time{}, []int64{}, []string{"k"}}
	args := map[string][]any{
		"claim": claim, "claim from the head": heads, "claim oldest": heads, "probe": {int64(1), []string{"q"}, []string{"k"}},
		"finish":  {ids[:1], []int64{5}, []int16{5}, none, none, []*int64{nil}},
		"hand on": {[]string{"vm\x1f42", "vm\x1f44"}, []int64{42, 44}, int64(1), 10, []string{"k"}, []string{"q"}, []int64{10}},
		"by id":   {ids}, "left": {ids}, "lock pend": {ids}, "lock active": {ids}, "start": {[]int64{20001, 20003}, int64(1), false},
		"claim by number": append(slices.Clone(heads), []int64{20001}),
		"scheduled": {1000}, "deadline": {1000}, "cancel": {1000, []int64{1}}, "resources": {1000, []string{"vm/1"}},
		"retain": {1000, time.Now().Add(-time.Hour), []string(nil), []string{}},
	}
	for name, a := range args {
		t.Run(name, func(t *testing.T) {
			for _, generic := range []bool{false, true} {
				plan, err := postgres.Explain(ctx, s, generic, postgres.Hot[name], a...)
				if err != nil {
					t.Fatal(err)
				}
				if bad := badPlan(plan); bad != "" {
					t.Errorf("generic %v: %s\n%s", generic, bad, plan)
				}
			}
		})
	}
}

var (
	scanned = regexp.MustCompile(`Seq Scan on drover_(job|pend|active|done|extra|ident|step|journal)\b`)
	node    = regexp.MustCompile(`^( *)(?:->  )?([A-Z][A-Za-z ]+)`)
)

// badPlan names what a hot plan must not have.
func badPlan(plan string) string {
	if m := scanned.FindString(plan); m != "" {
		return m
	}
	lines := strings.Split(plan, "\n")
	depth := func(l string) int { return strings.Index(l, "->") }
	for i, l := range lines {
		m := node.FindStringSubmatch(l)
		if m == nil || !strings.Contains(m[2], "Join") && !strings.Contains(m[2], "Nested Loop") {
			continue
		}
		var children []string
		level := 0
		for _, c := range lines[i+1:] {
			d := depth(c)
			if d < 0 {
				continue
			}
			if d <= depth(l) {
				break
			}
			if level == 0 {
				level = d
			}
			if d == level {
				children = append(children, strings.TrimSpace(c))
			}
		}
		if len(children) > 1 && !slices.ContainsFunc(children, func(c string) bool { return !strings.HasPrefix(c, "->  CTE Scan") }) {
			return "a join of two CTEs"
		}
	}
	return ""
}
