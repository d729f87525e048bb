package memory

import (
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// line is what is known of one key with live jobs.
type line struct {
	key     syncqueue.Key
	limit   int // 0 = unlimited
	paused  bool
	holders set // hold a turn, by Place
	waiters set // are waiting, by Place
	others  set // live but neither: unlimited, not due yet, or their turn was given up; by Seq
	left    int // turns that belong to the borrowers of those who gave them up

	// offered is the waiter that claims may take: the first one, while a turn is free that nobody handed on (an arrival).
	offered *rec
	freed   bool // a turn came free since the last settle: it is handed on
	dirty   bool
}

func (j *jobTables) lineOf(k syncqueue.Key) *line {
	l := j.lines[k]
	if l == nil {
		l = &line{key: k}
		l.limit, l.paused = j.policy(k)
		if j.lines[k] = l; l.isLent() {
			j.subs++
		}
	}
	return l
}

// policy of a key: its own limit beats its kind's, either pauses it.
func (j *jobTables) policy(k syncqueue.Key) (limit int, paused bool) {
	p, ok := j.policies[syncqueue.Key{Kind: k.Kind}]
	if !ok || p.Limit == syncqueue.Inherit {
		p.Limit = 1
	}
	own, ok := j.policies[k]
	if ok && own.Limit != syncqueue.Inherit {
		p.Limit = own.Limit
	}
	return p.Limit, p.Paused || own.Paused
}

func (j *jobTables) touch(l *line) *line {
	if !l.dirty {
		l.dirty = true
		j.dirty = append(j.dirty, l)
	}
	return l
}

// needsTurn tells whether r may be ready only with a turn.
func (j *jobTables) needsTurn(r *rec) bool {
	return r.Sync != (syncqueue.Key{}) && j.lineOf(r.lineKey()).guarded()
}

func (l *line) guarded() bool { return l.limit > 0 || l.paused }

// open tells whether a turn may be granted.
func (l *line) open() bool { return !l.paused && (l.limit == 0 || l.taken() < l.limit) }

func (l *line) add(r *rec) {
	switch {
	case r.Turn:
		l.holders.add(r.Place, r)
	case r.State == job.Waiting:
		l.waiters.add(r.Place, r)
	default:
		l.others.add(r.Seq, r)
	}
}

func (l *line) remove(r *rec) {
	switch {
	case r.Turn:
		l.holders.remove(r.Place, r)
	case r.State == job.Waiting:
		l.waiters.remove(r.Place, r)
		l.withdraw(r)
	default:
		l.others.remove(r.Seq, r)
	}
}

func (l *line) withdraw(r *rec) {
	if l.offered == r {
		l.offered.bucket.remove(l.offered)
		l.offered = nil
	}
}

// next is the waiter that should be offered.
func (l *line) next() *rec {
	if !l.open() {
		return nil
	}
	return l.waiters.first()
}

// settle ends every call that changed lines: freed turns are handed on, then each line offers its next waiter.
// t is nil after a rollback. run may start a job that was just granted its turn, instead of leaving it ready.
func (j *jobTables) settle(t *tx, run func(r *rec) bool) {
	for again := t != nil; again; {
		again = false
		for i := 0; i < len(j.dirty); i++ { //nolint:intrange // it grows meanwhile; in order of change
			switch l := j.dirty[i]; {
			case l.isLent():
				again = t.lend(l, run) || again
			case l.freed:
				l.freed = false
				t.grant(l, run)
				again = j.subs > 0
			}
		}
	}
	for _, l := range j.dirty {
		l.dirty, l.freed = false, false
		if l.isLent() {
			l.paused = !j.lends(l)
		}
		if next := l.next(); next != l.offered {
			if l.offered != nil {
				l.withdraw(l.offered)
			}
			if l.offered = next; next != nil {
				next.bucket.add(next)
				if t != nil {
					t.Hint(next.bucket.topic)
				}
			}
		}
		if l.taken()+l.waiters.n+l.others.n == 0 && j.lines[l.key] == l {
			if delete(j.lines, l.key); l.isLent() {
				j.subs--
			}
		}
	}
	clear(j.dirty)
	j.dirty = j.dirty[:0]
}

// grant gives free turns to the first in line.
func (t *tx) grant(l *line, run func(r *rec) bool) {
	for l.open() && l.waiters.n > 0 {
		r := l.waiters.first()
		if run == nil || !run(r) {
			t.update(r, func(r *rec) {
				r.State = job.Ready
				r.takeTurn(t, l)
			})
		}
	}
}

// takeTurn notes that r holds a turn, if there are turns to hold.
func (r *rec) takeTurn(t *tx, l *line) {
	if !r.Turn && l.limit > 0 {
		r.Turn, r.since = true, t.now
	}
}

// joinLine makes r wait at its Place, drawn now if it has none.
func (r *rec) joinLine(t *tx) {
	r.State = job.Waiting
	if r.Place == 0 {
		r.Place = t.nextSeq() * syncqueue.Gap
	}
	if r.enqueued.IsZero() {
		r.enqueued = t.now
	}
}

func (t *tx) nextSeq() int64 {
	t.s.jobs.seq++
	return t.s.jobs.seq
}
