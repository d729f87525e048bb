package memory

import (
	"errors"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// query goes through the narrowest index that fits and filters.
func (j *jobTables) query(now time.Time, q *job.Query) (rows []*rec, next string, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 500)
	from := int64(-1)
	if q.Newest {
		from = math.MaxInt64
	}
	if q.After != "" {
		if from, err = strconv.ParseInt(q.After, 10, 64); err != nil {
			return nil, "", errors.New("memory: Query.After is no cursor")
		}
	}
	fits := matcher(now, q)
	var room image
	for r := range j.candidates(q, from) {
		look := r
		if r.image == nil { // most do not fit: these stay packed
			if q.States == nil || !slices.Contains(q.States, r.packed.state) {
				continue
			}
			room = image{}
			r.packed.into(&room, r.bucket)
			look = &rec{image: &room, bucket: r.bucket}
		}
		if !fits(look) {
			continue
		}
		if len(rows) == limit {
			return rows, strconv.FormatInt(rows[limit-1].Seq, 10), nil
		}
		rows = append(rows, r.open())
	}
	return rows, "", nil
}

func (j *jobTables) candidates(q *job.Query, from int64) iter.Seq[*rec] {
	s := &j.bySeq
	switch {
	case q.Parent != "":
		s = j.children[q.Parent]
	case q.Root != "":
		s = &set{}
		if r := j.row(q.Root); r != nil {
			s.add(r.Seq, r)
		}
		if tree := j.trees[q.Root]; tree != nil {
			for r := range tree.all() {
				if r.ID != q.Root {
					s.add(r.Seq, r)
				}
			}
		}
	case q.Resource != "" && liveOnly(q.States):
		s = j.resources[q.Resource]
	case q.Key != (syncqueue.Key{}) && liveOnly(q.States):
		s = &set{}
		if l := j.lines[q.Key]; l != nil {
			for _, part := range []*set{&l.holders, &l.waiters, &l.others} {
				for r := range part.all() {
					s.add(r.Seq, r)
				}
			}
		}
	}
	switch {
	case s == nil:
		return func(func(*rec) bool) {}
	case q.Newest:
		return s.before(from, math.MinInt64)
	}
	return s.shut(from, math.MaxInt64)
}

func liveOnly(states []job.State) bool { return !slices.ContainsFunc(states, final) }

func matcher(now time.Time, q *job.Query) func(r *rec) bool {
	text := strings.ToLower(q.Text)
	return func(r *rec) bool {
		switch {
		case q.States == nil && final(r.State), q.States != nil && !slices.Contains(q.States, r.State),
			q.Kinds != nil && !slices.Contains(q.Kinds, r.Kind), q.Queues != nil && !slices.Contains(q.Queues, r.Queue),
			q.Key != (syncqueue.Key{}) && r.Sync != q.Key,
			q.Resource != "" && r.Resource != q.Resource, q.Session != "" && r.Session != q.Session,
			q.Account != "" && r.Account != q.Account,
			q.Parent != "" && r.Parent != q.Parent, q.Root != "" && r.Root != q.Root && r.ID != q.Root,
			q.Older > 0 && (r.State != job.Running || r.Started.Add(q.Older).After(now)),
			!within(q.Created, r.Created), !within(q.Updated, r.Updated), !within(q.Ended, r.Ended),
			!strings.HasSuffix(r.ID, q.Suffix), text != "" && !r.mentions(text):
			return false
		}
		return true
	}
}

// within tells whether From <= t < To; a zero bound is open, and only an open range holds the zero time.
func within(r job.Range, t time.Time) bool {
	if t.IsZero() {
		return r.From.IsZero() && r.To.IsZero()
	}
	return !t.Before(r.From) && (r.To.IsZero() || t.Before(r.To))
}

func (r *rec) mentions(text string) bool {
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	if has(r.Kind) || has(r.Resource) || r.Error != nil && has(r.Error.Text) {
		return true
	}
	for _, v := range r.Identity { // any of them will do
		if has(v) {
			return true
		}
	}
	return false
}
