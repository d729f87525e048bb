package memory

import (
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// Borrowers of a turn stand in a line of their own, of limit 1, whose key is lent and the lender's id; it is paused while the
// lender does not lend.
const lent = "\x1d"

func lentKey(lender string) syncqueue.Key { return syncqueue.Key{Kind: lent, ID: lender} }

func (l *line) isLent() bool { return l.key.Kind == lent }

// lineKey names the line that r belongs to.
func (r *rec) lineKey() syncqueue.Key {
	if r.Lender != "" {
		return lentKey(r.Lender)
	}
	return r.Sync
}

// taken is how many turns are.
func (l *line) taken() int { return l.holders.n + l.left }

// sub is the line of those who borrow r's turn, if there are any.
func (j *jobTables) sub(r *rec) *line {
	if j.subs == 0 {
		return nil
	}
	return j.lines[lentKey(r.ID)]
}

// borrowed tells whether r's turn has borrowers who wait or hold it.
func (j *jobTables) borrowed(r *rec) bool {
	l := j.sub(r)
	return l != nil && l.taken()+l.waiters.n > 0
}

// lentOut tells whether a borrower holds r's turn.
func (j *jobTables) lentOut(r *rec) bool {
	l := j.sub(r)
	return l != nil && l.taken() > 0
}

// choose settles whose turn r borrows, that of its lender or of whom that borrows from; nobody's if they have none any more.
func (j *jobTables) choose(r *rec) {
	for r.Lender != "" {
		if _, left := j.legacies[r.Lender]; left {
			return
		}
		o := j.row(r.Lender)
		if o != nil && o.Turn && o.Sync == r.Sync {
			return
		}
		if r.Lender = ""; o != nil {
			r.Lender = o.Lender
		}
	}
}

// lends tells whether the lender of a line lets its borrowers run.
func (j *jobTables) lends(l *line) bool {
	if _, left := j.legacies[l.key.ID]; left {
		return true
	}
	r := j.row(l.key.ID)
	switch {
	case r == nil || !r.Turn:
		return true
	case r.State == job.Running:
		return r.Flags&(job.Lending|job.Recalled) == job.Lending
	}
	return r.State == job.Parked
}

// bequeath leaves the turn that r gives up to those who borrow it; false if there are none.
func (t *tx) bequeath(r *rec, key syncqueue.Key) bool {
	j := &t.s.jobs
	if _, left := j.legacies[r.ID]; left || !j.borrowed(r) {
		return false
	}
	j.leave(r.ID, key)
	t.onRollback(func() { j.spend(r.ID) })
	return true
}

// leave notes that a turn of key belongs to the borrowers of lender; spend ends that.
func (j *jobTables) leave(lender string, key syncqueue.Key) {
	j.legacies[lender] = key
	j.touch(j.lineOf(key)).left++
	if l := j.lines[lentKey(lender)]; l != nil {
		j.touch(l)
	}
}

func (j *jobTables) spend(lender string) *line {
	key := j.legacies[lender]
	delete(j.legacies, lender)
	l := j.touch(j.lineOf(key))
	l.left--
	return l
}

// lend settles a line of borrowers, and tells whether anything changed: the lender goes on first, then the next borrower;
// a turn that was left to them passes on when there are none.
func (t *tx) lend(l *line, run func(r *rec) bool) (changed bool) {
	j := &t.s.jobs
	lender := j.row(l.key.ID)
	if l.taken() == 0 && lender != nil && lender.Turn {
		switch {
		case lender.State == job.Waiting:
			t.update(lender, func(r *rec) { r.State = job.Ready })
			changed = true
		case lender.Flags&job.Recalled != 0:
			t.update(lender, func(r *rec) { r.Flags &^= job.Lending | job.Recalled })
			t.Hint(job.JobTopic(lender.ID))
			changed = true
		}
	}
	key, left := j.legacies[l.key.ID]
	if left && l.taken()+l.waiters.n == 0 {
		id := l.key.ID
		j.spend(id).freed = true
		t.onRollback(func() { j.leave(id, key) })
		changed = true
	}
	l.paused, l.freed = !j.lends(l), false
	if l.open() && l.waiters.n > 0 {
		t.grant(l, run)
		changed = true
	}
	return changed
}

// lentTo names who has the turn that r lends.
func (j *jobTables) lentTo(r *rec) string {
	if l := j.sub(r); l != nil && l.taken() > 0 {
		return j.holding(l).first().ID
	}
	return ""
}

// heirs are those who have the turns of a line that were left to them, by Place.
func (j *jobTables) heirs(l *line) []*rec {
	if l.left == 0 {
		return nil
	}
	var rows []*rec
	for id, key := range j.legacies {
		if key != l.key {
			continue
		}
		if sub := j.lines[lentKey(id)]; sub != nil {
			rows = slices.AppendSeq(rows, j.holding(sub).all())
		}
	}
	slices.SortFunc(rows, byPlace)
	return rows
}

func byPlace(a, b *rec) int {
	if a.Place != b.Place && a.Place < b.Place || a.Place == b.Place && a.Seq < b.Seq {
		return -1
	}
	return 1
}
