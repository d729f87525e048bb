package memory

import (
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// Jobs keeps jobs, their lines and their turns. Rows share Args, Result, Error and Wakes with the store: nobody changes
// what these point to.
func (s *Store) Jobs() job.Store { return jobs{s} }

type jobs struct{ s *Store }

var (
	_ job.Store    = jobs{}
	_ job.Turner   = jobs{}
	_ job.Finisher = jobs{}
)

// Turns is the store of the turns that jobs take.
func (j jobs) Turns() syncqueue.Store { return j.s.Queues() }

// rec is a stored job. Its place in every index follows from its present fields alone.
type rec struct {
	*image         // nil: packed is what there is
	packed *packed // of a final row
	bucket *bucket
}

// image is what a rollback puts back.
type image struct {
	job.Row
	since    time.Time // its turn began
	enqueued time.Time // it joined its line
	waits    *waits
}

// jobTables are guarded by turn.
type jobTables struct {
	seq int64 // last one handed out, also as Place

	// By what never changes, as long as a row is kept.
	rows     map[string]*rec
	bySeq    set
	idem     map[scope]*rec
	names    map[scope]*rec // children by (parent, name)
	children map[string]*set
	trees    map[string]*set // descendants by root, without it

	// By state.
	queues    map[string]*queue
	buckets   []*bucket // of all queues, by queue and kind
	due       set       // scheduled, by RunAt
	deadlines set       // live, not running, not unwinding, by Deadline
	sessions  map[int64]*held
	unique    map[scope]*rec
	resources map[string]*set
	joiners   map[string]*set // parked, by the job they have joined
	topics    map[string]*set // live, by what they have subscribed to
	wakes     set             // parked, by WakeAt
	lines     map[syncqueue.Key]*line
	dirty     []*line // changed since the last settle
	policies  map[syncqueue.Key]syncqueue.Policy
	subs      int                      // lines of borrowers
	legacies  map[string]syncqueue.Key // turns left to borrowers, by their lender
	settings  map[string]bool          // that are on

	logs   map[string]*jobLog
	images []image  // before-images of the open transaction
	loose  []*rec   // final or opened in the open transaction
	spare  []*image // for new rows
}

// scope is a name and what it is unique in.
type scope struct{ a, b, name string }

// queue is what jobs of one queue are claimed from.
type queue struct {
	topic string
	kinds map[string]*bucket
}

// bucket is a queue's part of one kind.
type bucket struct {
	of                 *jobTables
	queue, kind, topic string
	levels             []level // claimable: ready, or the waiter its line offers; by priority, none empty
	ended              set     // final, by Ended
	offers             set     // the waiters among the claimable, by Seq
}

type level struct {
	priority int
	rows     *set // by RunAt
}

// held is what one session runs.
type held struct {
	rows    set // by Seq
	cancels set // those with a cancel request
}

func (j *jobTables) init() {
	j.rows = map[string]*rec{}
	j.idem = map[scope]*rec{}
	j.names = map[scope]*rec{}
	j.children = map[string]*set{}
	j.trees = map[string]*set{}
	j.queues = map[string]*queue{}
	j.sessions = map[int64]*held{}
	j.unique = map[scope]*rec{}
	j.resources = map[string]*set{}
	j.joiners = map[string]*set{}
	j.topics = map[string]*set{}
	j.lines = map[syncqueue.Key]*line{}
	j.policies = map[syncqueue.Key]syncqueue.Policy{}
	j.legacies = map[string]syncqueue.Key{}
	j.settings = map[string]bool{}
	j.logs = map[string]*jobLog{}
}

func final(s job.State) bool {
	switch s {
	case job.Succeeded, job.Failed, job.Cancelled:
		return true
	}
	return false
}

// micros orders times; stored times have no finer part.
func micros(t time.Time) int64 { return t.UnixMicro() }

func normal(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// update is the only way to change a row: f's changes are indexed, counted in Rev, and undone by a rollback.
func (t *tx) update(r *rec, f func(r *rec)) {
	j := &t.s.jobs
	before, held, key := r.State, r.Turn, r.lineKey()
	t.save(r)
	j.unindex(r)
	f(r)
	r.Rev++
	r.Updated = t.now
	j.index(r)
	if r.State == job.Ready && before != job.Ready {
		t.Hint(r.bucket.topic)
	}
	if held && !r.Turn && !t.bequeath(r, key) {
		if l := j.lines[key]; l != nil {
			l.freed = true
		}
	}
}

// revise changes only what is not the row's own: its waits.
func (t *tx) revise(r *rec, f func(r *rec)) {
	t.save(r)
	if r.waits != nil {
		t.s.jobs.unindexWaits(r)
	}
	if f(r); r.waits != nil {
		t.s.jobs.indexWaits(r)
	}
}

func (t *tx) save(r *rec) {
	j := &t.s.jobs
	t.undo = append(t.undo, undo{r: r, image: len(j.images)})
	j.images = append(j.images, *r.image)
}

func (t *tx) restore(u undo) {
	j := &t.s.jobs
	j.unindex(u.r)
	*u.r.image = j.images[u.image]
	j.index(u.r)
}

// insert adds a row for good; forget is its reverse.
func (t *tx) insert(r *rec) {
	t.s.jobs.remember(r)
	t.undo = append(t.undo, undo{r: r, image: -1})
}

func (t *tx) remove(r *rec) {
	t.s.jobs.forget(r)
	log := t.s.jobs.logs[r.ID]
	delete(t.s.jobs.logs, r.ID)
	t.onRollback(func() {
		t.s.jobs.remember(r)
		if log != nil {
			t.s.jobs.logs[r.ID] = log
		}
	})
}

// dropImages ends a transaction; what it needed is kept for the next one, unless that was much.
func (j *jobTables) dropImages() {
	if clear(j.images); len(j.images) > 4096 {
		j.images = nil
	}
	j.images = j.images[:0]
}
