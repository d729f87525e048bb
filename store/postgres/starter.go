package postgres

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
)

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
