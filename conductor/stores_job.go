package conductor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

type none = struct{}

// jobMethods are job.Store's, and job.Finisher's.
var jobMethods = tableOf("job",
	on("list", R, func(ctx context.Context, s job.Store, tx store.Tx, f job.Find) (job.Found, error) {
		if len(f.IDs) > maxPage {
			return job.Found{}, fmt.Errorf("%w: a list of %d jobs, at most %d", errInvalid, len(f.IDs), maxPage)
		}
		if f.Limit <= 0 || f.Limit > maxPage {
			f.Limit = maxPage
		}
		return s.List(ctx, tx, f)
	},
		rows(func(f job.Find) []string { return jobRows(f.IDs, self) }), stamp(jobsSeen), allow(mayList), check(mayRead)),
	on("insert", W, func(ctx context.Context, s job.Store, tx store.Tx, rows []job.Row) ([]job.Row, error) {
		return s.Insert(ctx, tx, rows)
	}, rows(func(rows []job.Row) []string { return jobRows(rows, rowID) }), guess(asInserted), stamp(insertStamp), drawn, again(insertBrief, insertAgain), allow(maySubmit)),
	on("claim", X, func(ctx context.Context, s job.Store, tx store.Tx, c job.Claim) (job.Claimed, error) {
		return s.Claim(ctx, tx, c)
	},
		kindBy(func(c job.Claim) Kind { return pick(c.Max == 0, R, X) }), again(claimBrief, claimAgain), allow(mayClaim), check(hasClaimed)),
	on("move", W, func(ctx context.Context, s job.Store, tx store.Tx, ms []job.Move) ([]bool, error) {
		return s.Move(ctx, tx, ms)
	},
		rows(func(ms []job.Move) []string { return jobRows(ms, moveID) }), guess(allDone), stamp(doneStamp), wrote(moved), allow(mayMove), check(hasMoved)),
	on("log", W, func(ctx context.Context, s job.Store, tx store.Tx, es []job.Entry) (none, error) {
		return none{}, s.Log(ctx, tx, es)
	},
		rows(func(es []job.Entry) []string { return jobRows(es, entryID) }), allow(mayLog)),
	on("signal", W, func(ctx context.Context, s job.Store, tx store.Tx, sig job.Signal) (job.Signalled, error) {
		return s.Signal(ctx, tx, sig)
	},
		stamp(signalStamp), wrote(func(job.Signal, job.Signalled) []string { return nil }), allow(maySignal), check(hasSignalled)),
	on("set", X, func(ctx context.Context, s job.Store, tx store.Tx, set []job.Setting) ([]string, error) {
		return s.Set(ctx, tx, set)
	},
		kindBy(func(set []job.Setting) Kind { return pick(len(set) == 0, R, X) }), allow(mayLook)),
	on("finish", W, func(ctx context.Context, s job.Store, tx store.Tx, f job.Finish) (job.Finished, error) {
		return finish(ctx, s, tx, f)
	},
		kindBy(func(f job.Finish) Kind { return pick(f.Start.Max > 0, X, W) }),
		rows(func(f job.Finish) []string { return jobRows(f.Moves, moveID) }), guess(asFinished), stamp(finishStamp),
		wrote(func(f job.Finish, r job.Finished) []string { return moved(f.Moves, r.Done) }),
		again(finishBrief, finishAgain), allow(mayFinish), check(hasFinished)),
)

type jobs struct{ f face }

var (
	_ job.Store    = jobs{}
	_ job.Finisher = jobs{}
)

// ClaimOnly tells a job.Manager that sweeps, promotion, admission, retention and audits are for nodes with the store.
func (j jobs) ClaimOnly() bool { return true }

func (j jobs) Insert(ctx context.Context, tx store.Tx, rows []job.Row) ([]job.Row, error) {
	return do[[]job.Row](ctx, j.f, tx, jobMethods["insert"], rows)
}

func (j jobs) List(ctx context.Context, tx store.Tx, f job.Find) (job.Found, error) {
	return do[job.Found](ctx, j.f, tx, jobMethods["list"], f)
}

func (j jobs) Claim(ctx context.Context, tx store.Tx, c job.Claim) (job.Claimed, error) {
	c.Into = nil
	return do[job.Claimed](ctx, j.f, tx, jobMethods["claim"], c)
}

func (j jobs) Move(ctx context.Context, tx store.Tx, ms []job.Move) ([]bool, error) {
	return do[[]bool](ctx, j.f, tx, jobMethods["move"], ms)
}

func (j jobs) Log(ctx context.Context, tx store.Tx, es []job.Entry) error {
	return act(ctx, j.f, tx, jobMethods["log"], es)
}

func (j jobs) Signal(ctx context.Context, tx store.Tx, s job.Signal) (job.Signalled, error) {
	return do[job.Signalled](ctx, j.f, tx, jobMethods["signal"], s)
}

func (j jobs) Set(ctx context.Context, tx store.Tx, set []job.Setting) ([]string, error) {
	return do[[]string](ctx, j.f, tx, jobMethods["set"], set)
}

func (j jobs) Finish(ctx context.Context, tx store.Tx, f job.Finish) (job.Finished, error) {
	f.Start.Into = nil
	return do[job.Finished](ctx, j.f, tx, jobMethods["finish"], f)
}

// finish is the store's own, or what stands in for it. It tells what has parked, so that the body need not look.
func finish(ctx context.Context, s job.Store, tx store.Tx, f job.Finish) (r job.Finished, err error) {
	if fin, ok := s.(job.Finisher); ok {
		r, err = fin.Finish(ctx, tx, f)
	} else {
		r.Awaited = true
		r.Done, err = s.Move(ctx, tx, f.Moves)
	}
	r.Parked = []job.Row{}
	ids := parking(f.Moves, r.Done)
	if err != nil || len(ids) == 0 {
		return r, err
	}
	found, err := s.List(ctx, tx, job.Find{IDs: ids, Waits: true, Limit: len(ids)})
	for _, id := range ids {
		for _, row := range found.Rows {
			if row.ID == id {
				r.Parked = append(r.Parked, row)
			}
		}
	}
	return r, err
}

// parking are the jobs of those moves that have parked them.
func parking(ms []job.Move, done []bool) (ids []string) {
	for i, m := range ms {
		if i < len(done) && done[i] && m.To == job.Parked && m.Park != nil {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func pick(cond bool, a, b Kind) Kind {
	if cond {
		return a
	}
	return b
}

func self(id string) string        { return id }
func rowID(r job.Row) string       { return r.ID }
func moveID(m job.Move) string     { return m.ID }
func entryID(e job.Entry) string   { return e.JobID }
func jobRow(id string) string      { return "job/" + id }
func seen(r *job.Row) string       { return fmt.Sprintf("%s@%d.%d.%s", r.ID, r.Rev, r.Epoch, r.State) }
func joined(parts []string) string { return strings.Join(parts, " ") }

func jobRows[T any](of []T, id func(T) string) (out []string) {
	for _, x := range of {
		out = append(out, jobRow(id(x)))
	}
	return out
}

// jobsSeen is the version of rows asked for by id, absence included.
func jobsSeen(f job.Find, found job.Found) string {
	if len(f.IDs) == 0 {
		return ""
	}
	out := make([]string, 0, len(f.IDs))
	for _, id := range f.IDs {
		i := slices.IndexFunc(found.Rows, func(r job.Row) bool { return r.ID == id })
		if i < 0 {
			out = append(out, id+"-")
			continue
		}
		out = append(out, seen(&found.Rows[i]))
	}
	return joined(out)
}

func asInserted(rows []job.Row) []job.Row {
	rows = slices.Clone(rows)
	for i := range rows {
		if rows[i].Rev, rows[i].Met = 1, ""; rows[i].State == "" {
			rows[i].State = job.Ready
		}
	}
	return rows
}

// insertStamp is what a submission decides by: the commit's values come with it.
func insertStamp(_ []job.Row, got []job.Row) string {
	out := make([]string, len(got))
	for i := range got {
		out[i] = got[i].ID + ":" + got[i].Met
	}
	return joined(out)
}

func allDone(ms []job.Move) []bool {
	done := make([]bool, len(ms))
	for i := range done {
		done[i] = true
	}
	return done
}

func doneStamp(_ []job.Move, done []bool) string {
	b := make([]byte, len(done))
	for i, d := range done {
		if b[i] = '0'; d {
			b[i] = '1'
		}
	}
	return string(b)
}

func moved(ms []job.Move, done []bool) (out []string) {
	for i, m := range ms {
		if i < len(done) && done[i] {
			out = append(out, jobRow(m.ID))
		}
	}
	return out
}

func signalStamp(_ job.Signal, r job.Signalled) string {
	out := []string{fmt.Sprint(r.Reached, r.Next, r.Full)}
	for i := range r.Rows {
		row := &r.Rows[i]
		out = append(out, seen(row), toJSON([]any{row.Inbox, row.Joins, row.WakeAt}))
	}
	return joined(out)
}

// asFinished expects that somebody may have joined: to ask costs nothing, since it goes with the commit.
// Nor that what parks finds what it waits for to be over.
func asFinished(f job.Finish) job.Finished {
	r := job.Finished{Done: allDone(f.Moves), Awaited: true, Parked: []job.Row{}}
	for _, m := range f.Moves {
		if m.To == job.Parked && m.Park != nil {
			row := job.Row{Conditions: m.Park.Conditions, WakeAt: m.Park.WakeAt, Joins: slices.Sorted(slices.Values(m.Park.Jobs))}
			row.ID, row.State, row.Epoch = m.ID, job.Parked, m.Epoch
			r.Parked = append(r.Parked, row)
		}
	}
	return r
}

func finishStamp(f job.Finish, r job.Finished) string {
	out := []string{doneStamp(f.Moves, r.Done)}
	for i := range r.Parked {
		p := &r.Parked[i]
		out = append(out, p.ID, toJSON([]any{len(p.Joins), strings.Join(p.Joins, " "), len(p.Inbox)}))
	}
	return joined(out)
}

// started is what is kept of claims whose rows are too large.
type started struct {
	IDs   []string
	Epoch int64
	Rest  json.RawMessage // the answer without its rows
}

func startedOf(rows []job.Row, rest any) string {
	s := started{}
	for i := range rows {
		s.IDs, s.Epoch = append(s.IDs, rows[i].ID), max(s.Epoch, rows[i].Epoch)
	}
	s.Rest, _ = encode(rest)
	return toJSON(s)
}

// again reads the rows that still run as they were claimed.
func (s *started) again(ctx context.Context, st job.Store, tx store.Tx, rest any, text string) ([]job.Row, error) {
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, err
	}
	if err := decode(s.Rest, rest, false); err != nil || len(s.IDs) == 0 {
		return nil, err
	}
	found, err := st.List(ctx, tx, job.Find{IDs: s.IDs, Limit: len(s.IDs)})
	var out []job.Row
	for _, id := range s.IDs {
		for _, r := range found.Rows {
			if r.ID == id && r.State == job.Running && r.Epoch <= s.Epoch {
				out = append(out, r)
			}
		}
	}
	return out, err
}

func claimBrief(c job.Claimed) string {
	rows := c.Rows
	c.Rows = nil
	return startedOf(rows, c)
}

func claimAgain(ctx context.Context, st job.Store, tx store.Tx, _ job.Claim, text string) (c job.Claimed, err error) {
	var s started
	rows, err := s.again(ctx, st, tx, &c, text)
	c.Rows = rows
	return c, err
}

func finishBrief(f job.Finished) string {
	rows := f.Started
	f.Started = nil
	return startedOf(rows, f)
}

func finishAgain(ctx context.Context, st job.Store, tx store.Tx, _ job.Finish, text string) (f job.Finished, err error) {
	var s started
	rows, err := s.again(ctx, st, tx, &f, text)
	f.Started = rows
	return f, err
}

// insertBrief is which rows were answered, and what they met.
func insertBrief(rows []job.Row) string {
	brief := make([][2]string, len(rows))
	for i := range rows {
		brief[i] = [2]string{rows[i].ID, rows[i].Met}
	}
	return toJSON(brief)
}

func insertAgain(ctx context.Context, st job.Store, tx store.Tx, rows []job.Row, text string) ([]job.Row, error) {
	var brief [][2]string
	if err := json.Unmarshal([]byte(text), &brief); err != nil || len(brief) != len(rows) {
		return nil, fmt.Errorf("%w: a commit record that cannot be read", errInvalid)
	}
	ids := make([]string, len(brief))
	for i := range brief {
		ids[i] = brief[i][0]
	}
	found, err := st.List(ctx, tx, job.Find{IDs: ids, Limit: len(ids)})
	out := make([]job.Row, len(brief))
	for i, b := range brief {
		out[i] = rows[i] // gone by now: as it was asked for
		for _, r := range found.Rows {
			if r.ID == b[0] {
				out[i] = r
			}
		}
		out[i].ID, out[i].Met = b[0], b[1]
	}
	return out, err
}
