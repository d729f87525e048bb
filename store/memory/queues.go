package memory

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Queues steers and shows the lines that jobs stand in.
func (s *Store) Queues() syncqueue.Store { return queues{s} }

type queues struct{ s *Store }

func (q queues) Policy(_ context.Context, x store.Tx, set []syncqueue.PolicyRow) ([]syncqueue.PolicyRow, error) {
	t, err := q.s.of(x)
	if err != nil {
		return nil, err
	}
	j := &q.s.jobs
	for _, row := range set {
		key := syncqueue.Key{Kind: row.Kind, ID: row.ID}
		old, had := j.policies[key]
		if j.policies[key] = row.Policy; row.Policy == (syncqueue.Policy{Limit: syncqueue.Inherit}) {
			delete(j.policies, key)
		}
		t.onRollback(func() {
			if j.policies[key] = old; !had {
				delete(j.policies, key)
			}
			for _, l := range j.linesOf(row.Kind) {
				l.limit, l.paused = j.policy(l.key)
				j.touch(l)
			}
		})
		for _, l := range j.linesOf(row.Kind) {
			t.apply(l)
		}
		j.settle(t, nil)
	}
	all := make([]syncqueue.PolicyRow, 0, len(j.policies))
	for k, p := range j.policies {
		all = append(all, syncqueue.PolicyRow{Kind: k.Kind, ID: k.ID, Policy: p})
	}
	slices.SortFunc(all, func(a, b syncqueue.PolicyRow) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// linesOf are the lines of a kind ("": all), by key.
func (j *jobTables) linesOf(kind string) []*line {
	var ls []*line
	for _, l := range j.lines {
		if kind == "" && !l.isLent() || l.key.Kind == kind {
			ls = append(ls, l)
		}
	}
	slices.SortFunc(ls, func(a, b *line) int { return a.key.Compare(b.key) })
	return ls
}

// apply brings a line to its present policy.
func (t *tx) apply(l *line) {
	j := &t.s.jobs
	oldLimit, wasPaused := l.limit, l.paused
	l.limit, l.paused = j.policy(l.key)
	if l.limit == oldLimit && l.paused == wasPaused {
		return
	}
	j.touch(l)
	switch {
	case oldLimit == 0 && l.limit > 0:
		for _, r := range slices.Collect(l.others.all()) {
			if r.State == job.Ready || r.State == job.Running || r.State == job.Parked {
				t.update(r, func(r *rec) { r.takeTurn(t, l) })
			}
		}
	case oldLimit > 0 && l.limit == 0:
		for _, r := range slices.Collect(l.holders.all()) {
			t.update(r, func(r *rec) { r.Turn, r.since = false, time.Time{} })
		}
	}
	if l.paused && !wasPaused { // granted but not claimed: back to their places
		for _, part := range []*set{&l.holders, &l.others} {
			for _, r := range slices.Collect(part.all()) {
				if r.State == job.Ready && (!r.Turn || !j.borrowed(r)) {
					t.update(r, func(r *rec) {
						r.Turn, r.since = false, time.Time{}
						r.joinLine(t)
					})
				}
			}
		}
	}
	t.grant(l, nil)
}

func (q queues) List(ctx context.Context, x store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
	list, err := q.list(ctx, x, f)
	if err == nil {
		err = q.items().Fill(ctx, x, list)
	}
	return list, err
}

func (q queues) list(_ context.Context, x store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
	t, err := q.s.of(x)
	if err != nil {
		return nil, err
	}
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 1000
	}
	switch {
	case f.Kinds:
		return q.s.jobs.kinds(), nil
	case f.Keys:
		return q.s.jobs.keys(f), nil
	case f.Older > 0:
		return q.s.jobs.older(f, t.now.Add(-f.Older)), nil
	}
	waiting, place, seq, err := syncqueue.ParseCursor(f.After)
	if err != nil {
		return nil, err
	}
	l := q.s.jobs.lines[f.Key]
	if l == nil {
		return nil, nil
	}
	var rows []*rec
	if !waiting {
		holders := q.s.jobs.holding(l)
		rows = take(rows, holders.after(place, seq), f.Limit)
		place, seq = math.MinInt64, math.MinInt64
	}
	rows = take(rows, l.waiters.after(place, seq), f.Limit)
	return q.s.jobs.items(rows), nil
}

// keys lists the first waiter of each key that has a line.
func (j *jobTables) keys(f syncqueue.Filter) []syncqueue.Item {
	kind, id, _ := strings.Cut(f.After, "\n")
	var out []syncqueue.Item
	for _, l := range j.linesOf(f.Kind) {
		if l.waiters.n == 0 || f.After != "" && l.key.Compare(syncqueue.Key{Kind: kind, ID: id}) <= 0 {
			continue
		}
		if len(out) == f.Limit {
			break
		}
		i := j.item(l.waiters.first())
		i.Held, i.Waiting = j.holding(l).n, l.waiters.n
		out = append(out, i)
	}
	return out
}

// kinds counts who waits and what is held.
func (j *jobTables) kinds() []syncqueue.Item {
	var out []syncqueue.Item
	for _, l := range j.linesOf("") {
		held := l.holders.n + l.left
		if held+l.waiters.n == 0 {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Key.Kind != l.key.Kind {
			out = append(out, syncqueue.Item{Key: syncqueue.Key{Kind: l.key.Kind}})
		}
		i := &out[len(out)-1]
		i.Held, i.Waiting = i.Held+held, i.Waiting+l.waiters.n
		for r := range l.waiters.all() {
			if at := j.item(r).Enqueued; i.Enqueued.IsZero() || at.Before(i.Enqueued) {
				i.Enqueued = at
			}
		}
	}
	return out
}

// older lists waiters that joined before then, behind the holders of their keys.
func (j *jobTables) older(f syncqueue.Filter, then time.Time) []syncqueue.Item {
	var out []syncqueue.Item
	for _, l := range j.linesOf(f.Kind) {
		var late []*rec
		for r := range l.waiters.all() {
			if !r.enqueued.After(then) {
				late = append(late, r)
			}
		}
		if len(late) > 0 {
			out = append(append(out, j.items(slices.Collect(j.holding(l).all()))...), j.items(late)...)
		}
		if len(out) >= f.Limit {
			return out[:f.Limit]
		}
	}
	return out
}

// holding are those that count as holders.
func (j *jobTables) holding(l *line) *set {
	if l.limit > 0 && l.left == 0 {
		return &l.holders
	}
	s := &set{}
	for _, part := range []*set{&l.holders, &l.others} {
		for r := range part.all() {
			if l.counts(r) {
				s.add(r.Place, r)
			}
		}
	}
	for _, r := range j.heirs(l) {
		s.add(r.Place, r)
	}
	return s
}

// counts tells whether r is one of them.
func (l *line) counts(r *rec) bool {
	return r.Turn || l.limit == 0 && (r.State == job.Ready || r.State == job.Running || r.State == job.Parked)
}

func (j *jobTables) items(rows []*rec) []syncqueue.Item {
	out := make([]syncqueue.Item, len(rows))
	for i, r := range rows {
		out[i] = j.item(r)
	}
	return out
}

func (j *jobTables) item(r *rec) syncqueue.Item {
	i := syncqueue.Item{Seq: r.Seq, Place: r.Place, Key: r.Sync, Content: r.ID, Epoch: r.Epoch, Enqueued: r.enqueued}
	if r.State != job.Waiting || r.Turn {
		i.Holder, i.Since, i.LentTo = r.Session, r.since, j.lentTo(r)
		if i.Since.IsZero() { // needs no turn
			i.Since = r.Updated
		}
	}
	if i.Enqueued.IsZero() {
		i.Enqueued = r.Created
	}
	return i
}

// Audit repairs lines whose holders or waiters are none, or whose next waiter nobody would be offered.
func (q queues) Audit(_ context.Context, x store.Tx, limit int) (repaired int, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return 0, err
	}
	for _, l := range append(q.s.jobs.linesOf(""), q.s.jobs.linesOf(lent)...) {
		if repaired >= limit {
			break
		}
		if q.s.jobs.mend(l) {
			repaired++
			t.grant(l, nil)
		}
	}
	q.s.jobs.settle(t, nil)
	return repaired, nil
}

// mend tells whether a line was wrong. What it repairs stays repaired after a rollback.
func (j *jobTables) mend(l *line) (wrong bool) {
	purge := func(s *set, belongs func(r *rec) bool) {
		for _, chunk := range slices.Clone(s.chunks) {
			for _, e := range slices.Clone(chunk) {
				if r := e.r.open(); j.rows[r.ID] != r || final(r.State) || !belongs(r) {
					wrong = s.remove(e.key, e.r) || wrong
				}
			}
		}
	}
	purge(&l.holders, func(r *rec) bool { return r.Turn })
	purge(&l.waiters, func(r *rec) bool { return r.State == job.Waiting })
	left := 0
	for id, key := range j.legacies {
		if sub := j.lines[lentKey(id)]; key == l.key && (sub == nil || sub.taken()+sub.waiters.n == 0) {
			delete(j.legacies, id)
		} else if key == l.key {
			left++
		}
	}
	if left != l.left {
		l.left, wrong = left, true
	}
	wrong = wrong || l.next() != l.offered
	j.touch(l)
	return wrong
}
