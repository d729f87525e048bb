package memory

import (
	"cmp"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// remember puts a row into all indexes.
func (j *jobTables) remember(r *rec) {
	if r.bucket == nil {
		r.bucket = j.bucketOf(r.Queue, r.Kind)
	}
	j.rows[r.ID] = r
	j.bySeq.add(r.Seq, r)
	if r.Idem != "" {
		j.idem[r.idemScope()] = r
	}
	if r.Name != "" {
		j.names[r.nameScope()] = r
	}
	if r.Parent != "" {
		addTo(j.children, r.Parent, r)
		addTo(j.trees, r.Root, r)
	}
	j.index(r)
}

// forget takes a row out of all indexes.
func (j *jobTables) forget(r *rec) {
	j.unindex(r)
	delete(j.rows, r.ID)
	j.bySeq.remove(r.Seq, r)
	if r.Idem != "" {
		delete(j.idem, r.idemScope())
	}
	if r.Name != "" {
		delete(j.names, r.nameScope())
	}
	if r.Parent != "" {
		removeFrom(j.children, r.Parent, r)
		removeFrom(j.trees, r.Root, r)
	}
}

// index adds r where its changeable fields say.
func (j *jobTables) index(r *rec) {
	if l := j.sub(r); l != nil {
		j.touch(l)
	}
	switch r.State {
	case job.Ready:
		r.bucket.add(r)
	case job.Scheduled:
		j.due.add(micros(r.RunAt), r)
	case job.Running:
		h := j.sessions[r.SessionEpoch]
		if h == nil {
			h = &held{}
			j.sessions[r.SessionEpoch] = h
		}
		h.rows.add(r.Seq, r)
		if !r.CancelAt.IsZero() {
			h.cancels.add(r.Seq, r)
		}
	case job.Succeeded, job.Failed, job.Cancelled:
		r.bucket.ended.add(micros(r.Ended), r)
		j.loose = append(j.loose, r)
		return
	}
	if r.waits != nil {
		j.indexWaits(r)
	}
	if r.expires() {
		j.deadlines.add(micros(r.Deadline), r)
	}
	if r.Unique != "" {
		j.unique[r.uniqueScope()] = r
	}
	if r.Resource != "" {
		addTo(j.resources, r.Resource, r)
	}
	if r.Sync != (syncqueue.Key{}) {
		j.touch(j.lineOf(r.lineKey())).add(r)
	}
}

// unindex is the reverse of index, with the fields as they were then.
func (j *jobTables) unindex(r *rec) {
	switch r.State {
	case job.Ready:
		r.bucket.remove(r)
	case job.Scheduled:
		j.due.remove(micros(r.RunAt), r)
	case job.Running:
		h := j.sessions[r.SessionEpoch]
		h.rows.remove(r.Seq, r)
		h.cancels.remove(r.Seq, r)
		if h.rows.n == 0 {
			delete(j.sessions, r.SessionEpoch)
		}
	case job.Succeeded, job.Failed, job.Cancelled:
		r.bucket.ended.remove(micros(r.Ended), r)
		return
	}
	if r.waits != nil {
		j.unindexWaits(r)
	}
	if r.expires() {
		j.deadlines.remove(micros(r.Deadline), r)
	}
	if r.Unique != "" {
		delete(j.unique, r.uniqueScope())
	}
	if r.Resource != "" {
		removeFrom(j.resources, r.Resource, r)
	}
	if r.Sync != (syncqueue.Key{}) {
		j.touch(j.lineOf(r.lineKey())).remove(r)
	}
}

func (r *rec) idemScope() scope   { return scope{r.Account, r.Kind, r.Idem} }
func (r *rec) nameScope() scope   { return scope{r.Parent, "", r.Name} }
func (r *rec) uniqueScope() scope { return scope{r.Kind, "", r.Unique} }

// expires tells whether passing its Deadline ends the row.
func (r *rec) expires() bool {
	return !r.Deadline.IsZero() && r.State != job.Running && r.Flags&job.Unwinding == 0
}

func addTo(m map[string]*set, k string, r *rec) {
	s := m[k]
	if s == nil {
		s = &set{}
		m[k] = s
	}
	s.add(r.Seq, r)
}

func removeFrom(m map[string]*set, k string, r *rec) {
	if s := m[k]; s != nil {
		s.remove(r.Seq, r)
		if s.n == 0 {
			delete(m, k)
		}
	}
}

func (j *jobTables) bucketOf(name, kind string) *bucket {
	q := j.queues[name]
	if q == nil {
		q = &queue{topic: job.QueueTopic(name), kinds: map[string]*bucket{}}
		j.queues[name] = q
	}
	b := q.kinds[kind]
	if b == nil {
		b = &bucket{of: j, queue: name, kind: kind, topic: q.topic}
		q.kinds[kind] = b
		i, _ := slices.BinarySearchFunc(j.buckets, b, func(x, y *bucket) int {
			return cmp.Or(cmp.Compare(x.queue, y.queue), cmp.Compare(x.kind, y.kind))
		})
		j.buckets = slices.Insert(j.buckets, i, b)
	}
	return b
}

// add makes r claimable.
func (b *bucket) add(r *rec) {
	i, ok := b.level(r.Priority)
	if !ok {
		b.levels = slices.Insert(b.levels, i, level{r.Priority, &set{}})
	}
	b.levels[i].rows.add(micros(r.RunAt), r)
	if r.State == job.Waiting {
		b.offers.add(r.Seq, r)
	}
}

func (b *bucket) remove(r *rec) {
	if i, ok := b.level(r.Priority); ok {
		if b.levels[i].rows.remove(micros(r.RunAt), r); b.levels[i].rows.n == 0 {
			b.levels = slices.Delete(b.levels, i, i+1)
		}
	}
	if r.State == job.Waiting {
		b.offers.remove(r.Seq, r)
	}
}

func (b *bucket) level(priority int) (int, bool) {
	if len(b.levels) == 1 && b.levels[0].priority == priority {
		return 0, true
	}
	return slices.BinarySearchFunc(b.levels, priority, func(l level, p int) int { return cmp.Compare(l.priority, p) })
}

// first is the next to be claimed: by Priority, RunAt, Seq, or by RunAt and Seq alone.
func (b *bucket) first(oldest bool) *rec {
	var first *rec
	for _, l := range b.levels {
		if r := l.rows.first(); first == nil || before(r, first, true) {
			first = r
		}
		if !oldest {
			break
		}
	}
	return first
}

// before is the order of claims.
func before(a, b *rec, oldest bool) bool {
	if !oldest && a.Priority != b.Priority {
		return a.Priority < b.Priority
	}
	if !a.RunAt.Equal(b.RunAt) {
		return a.RunAt.Before(b.RunAt)
	}
	return a.Seq < b.Seq
}
