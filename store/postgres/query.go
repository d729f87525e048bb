package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func replace(s, old, with string) string { return strings.Replace(s, old, with, 1) }

// querying builds the statement of a Query: placeholders only; what is text here is fixed.
type querying struct {
	args  []any
	where []string
}

// arg is the placeholder of v.
func (q *querying) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

func (q *querying) and(cond string) { q.where = append(q.where, cond) }

// stateConds are what a state is in each table, drover_pend by mode.
var stateConds = map[job.State]string{
	job.Scheduled: "mode = 3", job.Waiting: "mode IN (1, 2, 6)", job.Ready: "mode IN (-1, 0)", job.Parked: "mode = 5",
}

// parts are the tables that hold the states, each in order of seq: drover_pend_seq, drover_done_pkey; running ones are few.
func parts(states []job.State, bound string, order string, limit string) string {
	var pend, done []string
	running := states == nil
	for _, s := range states {
		switch {
		case s == job.Running:
			running = true
		case final(s):
			done = append(done, strconv.Itoa(int(stateCodes[s])))
		case stateConds[s] != "":
			pend = append(pend, stateConds[s])
		}
	}
	if states == nil {
		pend = []string{"true"}
	}
	var all []string
	add := func(table, cond string) {
		all = append(all, `(SELECT id, seq FROM `+table+` WHERE `+cond+` AND `+bound+` ORDER BY seq `+order+limit+`)`)
	}
	if len(pend) > 0 {
		add("@pend", "("+strings.Join(pend, " OR ")+")")
	}
	if running {
		add("@active", "session IS NOT NULL")
	}
	if len(done) > 0 {
		add("@done", "state IN ("+strings.Join(done, ", ")+")")
	}
	if len(all) == 0 {
		return `(SELECT NULL::uuid AS id, NULL::bigint AS seq WHERE false)`
	}
	return strings.Join(all, " UNION ALL ")
}

// page reads one page of a Query.
func (t *tx) page(ctx context.Context, f *job.Query) (all []*loaded, next string, err error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 500)
	order, compare := "", ">"
	if f.Newest {
		order, compare = "DESC", "<"
	}
	q := &querying{}
	bound := "true"
	if f.After != "" {
		after, err := strconv.ParseInt(f.After, 10, 64)
		if err != nil {
			return nil, "", fmt.Errorf("cursor %.64q is none", f.After)
		}
		bound = "seq " + compare + " " + q.arg(after) + "::bigint"
	}
	q.filter(f)
	most := ""
	if len(q.where) == 0 { // else many may be passed over
		most = " LIMIT " + strconv.Itoa(limit+1)
	}
	src := `(SELECT id, seq FROM (` + parts(f.States, bound, order, most) + `) u ORDER BY seq ` + order + `) q ` + jobOfQ
	if narrow := q.narrow(f); narrow != "" {
		src = `(SELECT id, seq FROM @job j WHERE ` + narrow + ` AND ` + bound + `) q ` + jobOfQ
		q.and(stateIn(f.States))
	}
	rest := ""
	if len(q.where) > 0 {
		rest = " WHERE " + strings.Join(q.where, " AND ")
	}
	rest += " ORDER BY q.seq " + order + " LIMIT " + strconv.Itoa(limit+1)
	if err := t.only(ctx, rowsFrom(src, rest), collect(&all), q.args...); err != nil {
		return nil, "", err
	}
	if len(all) > limit {
		all = all[:limit]
		next = strconv.FormatInt(all[limit-1].Seq, 10)
	}
	return all, next, nil
}

// stateIn filters rows of any table.
func stateIn(states []job.State) string {
	if states == nil {
		return "s.part < 3"
	}
	conds := []string{"false"}
	for _, st := range states {
		switch {
		case st == job.Running:
			conds = append(conds, "s.part = 2")
		case final(st):
			conds = append(conds, "s.part = 3 AND s.mode = "+strconv.Itoa(int(stateCodes[st])))
		case stateConds[st] != "":
			conds = append(conds, "s.part = 1 AND s."+stateConds[st])
		}
	}
	return "(" + strings.Join(conds, " OR ") + ")"
}

// narrow is a condition with an index on drover_job that finds few rows, or nothing.
func (q *querying) narrow(f *job.Query) string {
	switch {
	case f.Parent != "":
		return "parent = " + q.arg(uuidOrNone(f.Parent)) + "::text::uuid"
	case f.Root != "":
		a := q.arg(uuidOrNone(f.Root))
		return "(root = " + a + "::text::uuid OR id = " + a + "::text::uuid)"
	case f.Resource != "":
		return "resource = " + q.arg(f.Resource) + "::text"
	}
	return ""
}

// uuidOrNone is id, or one that no job has.
func uuidOrNone(id string) string {
	if isID(id) {
		return id
	}
	return "00000000-0000-0000-0000-000000000000"
}

// filter adds all conditions but states and cursor.
func (q *querying) filter(f *job.Query) {
	eq := func(column, value string) {
		if value != "" {
			q.and(column + " = " + q.arg(value) + "::text")
		}
	}
	any := func(column string, values []string) {
		if values != nil {
			q.and(column + " = ANY (" + q.arg(values) + "::text[])")
		}
	}
	any("j.kind", f.Kinds)
	any("j.queue", f.Queues)
	if f.Key != (syncqueue.Key{}) {
		eq("j.key", keyText(f.Key))
	}
	eq("j.resource", f.Resource)
	eq("n.name", f.Session)
	eq("j.account", f.Account)
	if f.Parent != "" {
		q.and("j.parent = " + q.arg(uuidOrNone(f.Parent)) + "::text::uuid")
	}
	if f.Root != "" {
		a := q.arg(uuidOrNone(f.Root))
		q.and("(j.root = " + a + "::text::uuid OR j.id = " + a + "::text::uuid)")
	}
	if f.Older > 0 {
		q.and("s.part = 2 AND s.started <= now() - " + q.arg(f.Older.Microseconds()) + "::bigint * interval '1 us'")
	}
	q.within("j.created", f.Created)
	q.within("greatest(j.created, s.updated, x.updated)", f.Updated)
	q.within("s.ended", f.Ended)
	if f.Suffix != "" {
		q.and("right(j.id::text, " + q.arg(len(f.Suffix)) + "::int) = " + q.arg(f.Suffix) + "::text")
	}
	if f.Text != "" {
		a := q.arg(strings.ToLower(f.Text)) + "::text"
		q.and("(strpos(lower(j.kind), " + a + ") > 0 OR strpos(lower(coalesce(j.resource, '')), " + a + ") > 0 OR strpos(lower(coalesce(coalesce(s.error, x.error)::json->>'text', '')), " + a +
			") > 0 OR EXISTS (SELECT 1 FROM json_each_text(j.identity::json) e WHERE strpos(lower(e.value), " + a + ") > 0))")
	}
}

// within: From <= column < To.
func (q *querying) within(column string, r job.Range) {
	bound := func(op string, t time.Time) {
		if !t.IsZero() {
			q.and(column + " " + op + " " + q.arg(t.UTC()) + "::timestamptz")
		}
	}
	bound(">=", r.From)
	bound("<", r.To)
}
