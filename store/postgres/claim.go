package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// claims are the forms of sqlClaim: [behind the last one, from the head, only some by name][oldest first].
var claims = func() (all [3][2]string) {
	for form := range 3 {
		for oldest := range 2 {
			q := sqlClaim
			if form >= formHead {
				part := strings.Split(q, "/*from*/")
				q = strings.Replace(part[0], "\nWITH me AS", sqlHeads, 1) + sqlFromHeads + part[2] + sqlTellHeads
			}
			if oldest == 1 {
				q = strings.NewReplacer("/*oldest", "", "oldest*/", "").Replace(q)
			}
			if form == formOnly {
				part := strings.Split(q, "/*halted*/")
				q = strings.NewReplacer("/*only", "", "only*/", "").Replace(part[0] + stopped + part[2])
			}
			all[form][oldest] = q
		}
	}
	return all
}()

const (
	formHead = 1 + iota
	formOnly
)

// candidate is a row that a claim met.
type candidate struct {
	position
	id, kind, key, queue string
	place                int64
	class                int64
}

// probeEvery is how often a claim that came back full is followed by a probe.
const probeEvery = 100 * time.Millisecond

// claiming is one call of Claim.
type claiming struct {
	*tx
	job.Claim
	got    []job.Row
	left   []candidate
	parked int64
	cut    bool // waiters filled a look: what is behind them was not seen
	full   bool
}

func (j jobs) Claim(ctx context.Context, x store.Tx, c job.Claim) (out job.Claimed, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	cl := &claiming{tx: t, Claim: c, got: c.Into[:0]}
	if c.Max > 0 {
		if err := cl.all(ctx); err != nil {
			return out, fmt.Errorf("postgres: claim: %w", err)
		}
	}
	out.Rows, out.More = cl.got, c.Seqs == nil && (cl.full || cl.cut || len(cl.left) > 0)
	if !t.s.every(t.s.probes, c.Session.Epoch, probeEvery) && cl.full {
		return out, nil
	}
	return out, cl.probe(ctx, &out)
}

// all claims from every queue that has room, by name.
func (cl *claiming) all(ctx context.Context) error {
	for again := false; ; again = true {
		for _, q := range cl.queues() {
			if n := min(cl.Free[q], cl.Max-len(cl.got)); n > 0 {
				if err := cl.queue(ctx, q, n); err != nil {
					return err
				}
			}
		}
		if err := cl.foreign(ctx); err != nil {
			return err
		}
		retry, err := cl.leftovers(ctx)
		if err != nil {
			return err
		}
		if !retry || again {
			break
		}
		cl.left = nil
	}
	sortStarted(cl.got, cl.Oldest)
	return cl.extras(ctx, cl.got)
}

func (cl *claiming) queues() (names []string) {
	for q, n := range cl.Free {
		if n > 0 {
			names = append(names, q)
		}
	}
	slices.Sort(names)
	return names
}

// queue claims from the cursor, and if that was not enough from the head, as often as it may.
func (cl *claiming) queue(ctx context.Context, queue string, n int) error {
	if cl.Seqs != nil {
		_, err := cl.look(ctx, nil, nil, lookHead, queue, n)
		return err
	}
	cur := cl.s.cursor(cl.Session.Epoch, queue, cl.Kinds)
	for short := false; ; short = true {
		from, mode := cl.s.from(cur, short)
		if short && mode != lookHead {
			return nil
		}
		met, err := cl.look(ctx, cur, from, mode, queue, n)
		if err != nil || met >= n {
			cl.full = cl.full || err == nil
			return err
		}
		if n -= met; mode == lookHead || cl.Oldest {
			return nil
		}
	}
}

func (cl *claiming) look(ctx context.Context, cur *cursor, from []position, mode lookMode, queue string, n int) (int, error) {
	form := 0
	if mode == lookHead || cl.Oldest {
		from, mode, form = nil, lookHead, formHead
	}
	if cl.Seqs != nil {
		form = formOnly
	}
	prios, ats, seqs := make([]int64, len(from)), make([]time.Time, len(from)), make([]int64, len(from))
	for i, p := range from {
		prios[i], ats[i], seqs[i] = int64(p.priority), p.runAt, p.seq
	}
	oldest := 0
	if cl.Oldest {
		oldest = 1
	}
	began, parked := cl.s.env.Clock.Now(), cl.parked
	var met, heads []position
	s := starter{candidate: candidate{queue: queue}, session: cl.Session.Node, sessionEpoch: cl.Session.Epoch}
	err := cl.swift(ctx, claims[form][oldest], func(scan func(...any) error) error {
		if err := s.scan(scan); err != nil {
			return err
		}
		switch s.what {
		case 1, 4:
			if len(cl.got) == cap(cl.got) && cl.got != nil { // it may well be a full batch
				cl.got = slices.Grow(cl.got, n)
			}
			if err := cl.add(&s); err != nil {
				return err
			}
			met = append(met, s.position)
		case 2:
			c := s.candidate
			c.queue, c.class = queue, s.epoch
			cl.left = append(cl.left, c)
			met = append(met, s.position)
		case 3:
			cl.parked += s.seq
		case 5:
			heads = append(heads, position{priority: s.priority})
		}
		return nil
	}, append([]any{queue, n, cl.Session.Epoch, prios, ats, seqs, list(cl.Kinds)}, cl.only8()...)...)
	if err != nil {
		return 0, err
	}
	if len(met) > 0 {
		cl.saw(s.now)
	}
	if cl.Seqs != nil {
		return len(met), nil // what others are there was not looked at
	}
	cl.cut = cl.cut || cl.parked > parked && len(met)+int(cl.parked-parked) >= n
	cl.s.seen(cur, mode, cl.s.env.Clock.Now().Sub(began), len(met) >= n, append(heads, met...))
	return len(met), nil
}

// only8 is the argument that formOnly has more.
func (cl *claiming) only8() []any {
	if cl.Seqs == nil {
		return nil
	}
	return []any{cl.Seqs}
}

func sortStarted(rows []job.Row, oldest bool) {
	order := func(a, b *job.Row) int {
		p := cmp.Compare(a.Priority, b.Priority)
		if oldest {
			p = 0
		}
		return cmp.Or(p, a.RunAt.Compare(b.RunAt), cmp.Compare(a.Seq, b.Seq))
	}
	for i := 1; i < len(rows); i++ { // mostly they are in order already, and rows are large
		if order(&rows[i-1], &rows[i]) > 0 {
			slices.SortFunc(rows, func(a, b job.Row) int { return order(&a, &b) })
			return
		}
	}
}

// starter scans what sqlClaim and sqlHandOn answer.
type starter struct {
	candidate
	what, epoch          int64
	session              string
	sessionEpoch         int64
	packed               sql.NullString
	now, created         time.Time
	timeout, tries, bits int64
	print                string
	args                 []byte
	rest                 sql.NullString
	deadline             sql.NullTime
	withQueue            *string
	dest                 []any
}

func (s *starter) scan(scan func(...any) error) error {
	if s.dest == nil {
		s.dest = []any{&s.what, &s.id, &s.epoch, &s.seq, &s.place, &s.runAt, &s.priority, &s.kind, &s.key, &s.packed, &s.now,
			&s.created, &s.timeout, &s.tries, &s.bits, &s.print, &s.args, &s.deadline, &s.rest}
		if s.withQueue != nil {
			s.dest = slices.Insert(s.dest, 1, any(s.withQueue))
		}
	}
	s.args = nil
	return scan(s.dest...)
}

// rare are the columns of drover_job that few jobs use.
type rare struct {
	Parent   string   `json:"p"`
	Root     string   `json:"r"`
	RetryOf  string   `json:"y"`
	Name     string   `json:"n"`
	Account  string   `json:"a"`
	Resource string   `json:"o"`
	Idem     string   `json:"i"`
	Unique   string   `json:"u"`
	Identity jsonText `json:"d"`
}

// jsonText is a JSON object of strings stored as text.
type jsonText map[string]string

func (m *jsonText) UnmarshalJSON(b []byte) error {
	s, err := strconv.Unquote(string(b))
	if err != nil || s == "" {
		return nil //nolint:nilerr // null
	}
	return decode(sql.NullString{String: s, Valid: true}, (*map[string]string)(m))
}

// add appends the started job; rows are large.
func (cl *claiming) add(s *starter) error {
	cl.got = append(cl.got, job.Row{})
	return s.row(&cl.got[len(cl.got)-1])
}

// row fills in the started job; r is zero.
func (s *starter) row(r *job.Row) (err error) {
	now := s.now.UTC()
	r.ID, r.Kind, r.Queue, r.Seq, r.Place, r.Epoch, r.State, r.Rev = s.id, s.kind, s.queue, s.seq, s.place, s.epoch, job.Running, 1
	r.Session, r.SessionEpoch, r.Priority, r.MaxAttempts = s.session, s.sessionEpoch, s.priority, int(s.tries)
	r.RunAt, r.Deadline, r.Created, r.Started, r.Updated, r.Args = s.runAt.UTC(), asTime(s.deadline), s.created.UTC(), now, now, s.args
	r.Print, r.Timeout, r.Depth, r.Detached = s.print, time.Duration(s.timeout), int(s.bits>>depthShift), s.bits&bitDetached != 0
	if s.withQueue != nil {
		r.Queue = *s.withQueue
	}
	if s.key != "" {
		if r.Sync = realKey(s.key); isLent(s.key) {
			l, _ := lenderOf(s.key)
			r.Lender = l.id
		}
		r.Turn = s.what == 1
	}
	if s.packed.Valid {
		var flags int64
		for i, p := range strings.Split(s.packed.String, ",") {
			n, err := strconv.ParseInt(p, 10, 64)
			if err != nil {
				return err
			}
			switch i {
			case 0:
				r.Rev = n
			case 1:
				r.Attempt = int(n)
			case 2:
				r.Runs = int(n)
			case 3:
				r.Lost = int(n)
			case 4:
				flags = n
			}
		}
		r.Flags = job.Flag(flags & flagMask)
		r.Met = ""
		if flags&flagExtra != 0 {
			r.Met = metExtra
		}
	}
	r.Rev++
	r.Runs++
	r.RunUntil = runUntil(now, r.Timeout, r.Deadline)
	return s.rarely(r)
}

// metExtra marks, until the answer is complete, a row whose drover_extra must be read.
const metExtra = "\x00"

func (s *starter) rarely(r *job.Row) error {
	if s.bits&bitRootSelf != 0 {
		r.Root = r.ID
	}
	if !s.rest.Valid {
		return nil
	}
	var m rare
	if err := decode(s.rest, &m); err != nil {
		return err
	}
	r.Parent, r.Root, r.RetryOf, r.Name, r.Account = m.Parent, m.Root, m.RetryOf, m.Name, m.Account
	r.Resource, r.Idem, r.Unique, r.Identity = m.Resource, m.Idem, m.Unique, m.Identity
	if s.bits&bitRootSelf != 0 {
		r.Root = r.ID
	}
	return nil
}

func runUntil(started time.Time, timeout time.Duration, deadline time.Time) time.Time {
	if timeout <= 0 {
		return deadline
	}
	if end := started.Add(timeout); deadline.IsZero() || end.Before(deadline) {
		return end
	}
	return deadline
}

// extras completes rows that have a row in drover_extra, and clears their wakes.
func (cl *claiming) extras(ctx context.Context, rows []job.Row) error {
	var want []string
	for i := range rows {
		if rows[i].Met == metExtra {
			want = append(want, rows[i].ID)
		}
	}
	if len(want) == 0 {
		return nil
	}
	found := map[string]*extra{}
	err := cl.aside(ctx, sqlExtras, func(scan func(...any) error) error {
		e := &extra{}
		err := e.scan(scan)
		found[e.id] = e
		return err
	}, want)
	if err != nil {
		return err
	}
	for i := range rows {
		if rows[i].Met != metExtra {
			continue
		}
		rows[i].Met = ""
		if e := found[rows[i].ID]; e != nil {
			if err := e.apply(&rows[i]); err != nil {
				return err
			}
		}
	}
	return cl.aside(ctx, `UPDATE @extra SET wakes = NULL WHERE id = ANY ($1::uuid[]) AND wakes IS NOT NULL`, nil, want)
}

// probe answers what else a round should do.
func (cl *claiming) probe(ctx context.Context, out *job.Claimed) error {
	var live, dirty, more, arrived bool
	var next sql.NullTime
	var now time.Time
	var queues []string
	if cl.Max == 0 { // else the claim itself has looked
		queues = cl.queues()
	}
	err := cl.aside(ctx, sqlProbe, func(scan func(...any) error) error {
		return scan(&live, &out.Sweep, &dirty, &out.Cancels, &next, &more, (*texts)(&out.Settings), &arrived, &now)
	}, cl.Session.Epoch, list(queues), list(cl.Kinds))
	if err != nil {
		return fmt.Errorf("postgres: probe: %w", err)
	}
	if !live && cl.Max > 0 && len(cl.got) == 0 {
		return store.ErrConflict
	}
	cl.saw(now)
	if out.More = out.More || more; cl.Max > 0 || len(out.Settings) == 0 {
		out.Settings = nil
	}
	if next.Valid && next.Time.After(now) {
		out.Next = asTime(next)
	}
	out.Due = next.Valid && !next.Time.After(now)
	if dirty {
		busy, err := cl.dirty(ctx)
		if err != nil {
			return err
		}
		out.Sweep = out.Sweep || busy
	}
	if arrived {
		return cl.arrived(ctx)
	}
	return nil
}

// dirty tells whether dead sessions have running jobs, and remembers of the others that they have none.
func (cl *claiming) dirty(ctx context.Context) (busy bool, err error) {
	if !cl.single {
		return cl.sweptOut(ctx)
	}
	err = cl.s.apart(ctx, func(ctx context.Context, x store.Tx) error {
		busy, err = x.(*tx).sweptOut(ctx)
		return err
	})
	return busy, err
}
