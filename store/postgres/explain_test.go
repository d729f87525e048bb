package postgres_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store/postgres"
)

// TestExplain: no hot statement reads a table from end to end while the planner knows nothing yet, nor joins two CTEs, whose
// sizes it can only guess. TestStore does the same with all statements and a million jobs.
func TestExplain(t *testing.T) {
	t.Parallel()
	hot(t, migrated(t, fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 2), postgres.Config{}))
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

// hot explains the statements of claim, finish, hand-off and wait with arguments that meet rows.
func hot(t *testing.T, s *postgres.Store) {
	ctx := t.Context()
	ids := []string{"c4ca4238-a0b9-2382-0dcc-509a6f75849b", "c81e728d-9d4c-2f63-6f06-7f89cc14862c"}
	at, n, none := []time.Time{time.Unix(0, 0)}, []int64{0}, []*string{nil}
	claim := []any{"q", 500, int64(1), n, at, n, []string{"k"}}
	heads := []any{"q", 500, int64(1), []int64{}, []time.Time{}, []int64{}, []string{"k"}}
	hand := []any{[]string{"vm\x1f42", "vm\x1f44"}, int64(1), 10, []string{"k"}, []string{"q"}, []int64{10}}
	args := map[string][]any{
		"claim": claim, "claim from the head": heads, "claim oldest": heads, "probe": {int64(1), []string{"q"}, []string{"k"}},
		"finish":     {ids[:1], []int64{5}, []int16{5}, none, none, []*int64{nil}, none},
		"finish all": {ids[:1], []int64{5}, []int16{5}, none, none, []*int64{nil}, none, 1},
		"hand on":    hand, "hand on all": hand, "hand on roomy": hand, "seize": {[]string{"vm\x1f42", "vm\x1f44"}},
		"by id": {ids}, "left": {ids}, "lock pend": {ids}, "lock active": {ids}, "start": {[]int64{20001, 20003}, int64(1), false},
		"claim by number": append(slices.Clone(heads), []int64{20001}),
		"scheduled":       {1000}, "deadline": {1000}, "cancel": {1000, []int64{1}}, "resources": {1000, []string{"vm/1"}},
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
	scanned = regexp.MustCompile(`Seq Scan on drover_(job|pend|active|done|extra|ident|step|journal|park|join|topic|inbox|line|lease|host|claim)\b`)
	node    = regexp.MustCompile(`^( *)(?:->  )?([A-Z][A-Za-z ]+)`)
)

// badPlan names what a hot plan must not have.
func badPlan(plan string) string {
	if m := scanned.FindString(plan); m != "" {
		return m
	}
	return guessed(plan)
}

// guessed finds a join of two CTEs.
func guessed(plan string) string {
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
