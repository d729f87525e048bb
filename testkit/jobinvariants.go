package testkit

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// JobInvariants watches every transaction on jobs from now on and fails the world with the guarantee that it broke:
//
//	G1  a committed job is never lost, one that was rolled back never runs
//	G2  a job's outcome comes from the attempt with the highest epoch, and never changes
//	G3  never more than limit jobs of a key hold a turn; with limit 1 they first start in the order of their places
//	G4  a turn that comes free goes to a waiter in the same transaction
//	G5  nobody who waits for a job still sleeps 90 s after it is final, on a node that runs and reaches the store
func (w *World) JobInvariants() {
	w.use("World.JobInvariants")
	w.watch(&jobEye{w: w, jobs: map[string]*seenJob{}, lines: map[syncqueue.Key]*seenLine{}, policies: map[syncqueue.Key]syncqueue.Policy{}})
}

func (w *World) watch(o observer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.eyes = append(w.eyes, o)
}

// waitsAtMost is how long a waiter may sleep on a final job: longer than any poll that is allowed.
const waitsAtMost = 90 * time.Second

// jobEye knows every job as the store last showed it.
type jobEye struct {
	w        *World
	jobs     map[string]*seenJob
	lines    map[syncqueue.Key]*seenLine
	policies map[syncqueue.Key]syncqueue.Policy
	broken   string
	next     time.Time // of the look at waiters
}

type seenJob struct {
	row    job.Row
	final  time.Time // since
	parked bool      // has been: its place says nothing about its order any more
	gone   bool      // this transaction deletes it
}

type seenLine struct {
	holders, waiters []string
	running          map[string]bool // under a turn, own or borrowed, and do not lend it
	place            int64           // of the job that first started last
}

func (e *jobEye) breaks(g, format string, a ...any) {
	if e.broken == "" {
		e.broken = "invariant " + g + " broken: " + fmt.Sprintf(format, a...)
	}
}

func (e *jobEye) look() string {
	now := time.Now()
	if e.broken != "" || now.Before(e.next) {
		return e.broken
	}
	e.next = now.Add(time.Second)
	for _, t := range e.w.hints.sorted {
		id, ok := strings.CutPrefix(t.name, "job/")
		j := e.jobs[id]
		if !ok || j == nil || j.final.IsZero() || now.Sub(j.final) < waitsAtMost {
			continue
		}
		for _, x := range t.subs {
			l := x.life
			if now.Sub(x.at) > waitsAtMost && !l.p.Dead() && !l.node.cut.any() && l.node.calm(now) {
				e.breaks("G5", "%s still waits for job %s, final since %v", l.p.Name, id, now.Sub(j.final))
			}
		}
	}
	return e.broken
}

// calm says that the node has been neither frozen nor without store for long enough to have polled.
func (n *Node) calm(now time.Time) bool {
	return now.Sub(n.life.p.FrozenUntil()) > waitsAtMost && now.Sub(n.w.down) > waitsAtMost && now.Sub(n.healed) > waitsAtMost
}

func (e *jobEye) committed(t *tx) {
	touched, steered := map[string]bool{}, false
	for _, event := range t.events {
		switch v := event.(type) {
		case inserted:
			for _, r := range v.rows {
				if r.Met == "" {
					e.insert(r)
					touched[r.ID] = true
				}
			}
		case claimed:
			for _, r := range v.rows {
				e.claim(r)
				touched[r.ID] = true
			}
		case moved:
			for i, m := range v.moves {
				if i < len(v.done) && v.done[i] {
					e.move(m)
					touched[m.ID] = true
				}
			}
		case reordered:
			e.line(v.key).place = math.MinInt64
		case policed:
			clear(e.policies)
			for _, p := range v.rows {
				e.policies[syncqueue.Key{Kind: p.Kind, ID: p.ID}] = p.Policy
			}
			steered = true
		}
	}
	if len(touched) > 0 || steered {
		e.compare(slices.Sorted(maps.Keys(touched)), steered)
	}
}

func (e *jobEye) insert(r job.Row) {
	if e.jobs[r.ID] != nil {
		e.breaks("G1", "job %s is stored a second time", r.ID)
	}
	e.jobs[r.ID] = &seenJob{row: r}
}

func (e *jobEye) claim(r job.Row) {
	j := e.jobs[r.ID]
	switch {
	case j == nil:
		e.breaks("G1", "job %s runs, but was never committed", r.ID)
		return
	case j.row.State.Final():
		e.breaks("G2", "job %s runs again, though it is %s", r.ID, j.row.State)
	case r.Epoch <= j.row.Epoch:
		e.breaks("G2", "job %s runs under epoch %d after %d", r.ID, r.Epoch, j.row.Epoch)
	}
	limit, _ := e.policy(r.Sync)
	if r.Runs == 1 && limit == 1 && r.Place != 0 && r.Lender == "" && !j.parked {
		l := e.line(r.Sync)
		if r.Place < l.place {
			e.breaks("G3", "job %s of %v at place %d started after place %d", r.ID, r.Sync, r.Place, l.place)
		}
		l.place = max(l.place, r.Place)
	}
}

func (e *jobEye) move(m job.Move) {
	j := e.jobs[m.ID]
	if j == nil {
		e.breaks("G1", "job %s moves, but is not known", m.ID)
		return
	}
	if m.From == job.Running && m.Epoch < j.row.Epoch && j.row.State == job.Running {
		e.breaks("G2", "job %s was written by epoch %d while %d runs it", m.ID, m.Epoch, j.row.Epoch)
	}
	j.gone = j.gone || m.To == ""
}

func (e *jobEye) line(k syncqueue.Key) *seenLine {
	l := e.lines[k]
	if l == nil {
		l = &seenLine{running: map[string]bool{}, place: math.MinInt64}
		e.lines[k] = l
	}
	return l
}

func (e *jobEye) policy(k syncqueue.Key) (limit int, paused bool) {
	p, ok := e.policies[syncqueue.Key{Kind: k.Kind}]
	if !ok || p.Limit == syncqueue.Inherit {
		p.Limit = 1
	}
	own, ok := e.policies[k]
	if ok && own.Limit != syncqueue.Inherit {
		p.Limit = own.Limit
	}
	return p.Limit, p.Paused || own.Paused
}

// compare holds what the store says of ids against what it said before; of all lines, if a policy was set: a raised limit
// grants turns without any job being named.
func (e *jobEye) compare(ids []string, steered bool) {
	keys := map[syncqueue.Key]bool{}
	if steered {
		for k := range e.lines {
			keys[k] = true
		}
	}
	err := e.w.db.InTx(context.Background(), func(ctx context.Context, x store.Tx) error {
		var found job.Found
		if len(ids) > 0 {
			var err error
			if found, err = e.w.db.Jobs().List(ctx, x, job.Find{IDs: ids, Limit: len(ids)}); err != nil {
				return err
			}
		}
		rows := map[string]job.Row{}
		for _, r := range found.Rows {
			rows[r.ID] = r
		}
		for _, id := range ids {
			r, ok := rows[id]
			if k := e.job(id, r, ok); k != (syncqueue.Key{}) {
				keys[k] = true
			}
		}
		for _, k := range slices.SortedFunc(maps.Keys(keys), func(a, b syncqueue.Key) int { return strings.Compare(a.Kind+"\n"+a.ID, b.Kind+"\n"+b.ID) }) {
			items, err := e.w.db.Queues().List(ctx, x, syncqueue.Filter{Key: k, Limit: 1000})
			if err != nil {
				return err
			}
			e.turns(k, items)
		}
		return nil
	})
	if err != nil {
		e.breaks("check", "the store cannot be read: %v", err)
	}
}

// job is one job's row as it is now; it answers the key.
func (e *jobEye) job(id string, r job.Row, ok bool) syncqueue.Key {
	j := e.jobs[id]
	switch {
	case j == nil:
		return r.Sync
	case !ok:
		if !j.gone || !j.row.State.Final() {
			e.breaks("G1", "job %s, %s, is lost", id, j.row.State)
		}
		delete(e.jobs, id)
		return j.row.Sync
	case j.row.State.Final() && (r.State != j.row.State || string(r.Result) != string(j.row.Result) || r.Epoch != j.row.Epoch):
		e.breaks("G2", "job %s was %s under epoch %d and is %s under epoch %d", id, j.row.State, j.row.Epoch, r.State, r.Epoch)
	}
	if r.State.Final() && j.final.IsZero() {
		j.final = time.Now()
	}
	j.row, j.parked = r, j.parked || r.State == job.Parked
	if r.Sync != (syncqueue.Key{}) {
		l := e.line(r.Sync)
		if delete(l.running, id); r.State == job.Running && r.Turn && r.Flags&job.Lending == 0 {
			l.running[id] = true
		}
	}
	return r.Sync
}

// turns holds the line of k against what it was.
func (e *jobEye) turns(k syncqueue.Key, items []syncqueue.Item) {
	l := e.line(k)
	old := *l
	l.holders, l.waiters = nil, nil
	for _, i := range items {
		if i.Since.IsZero() {
			l.waiters = append(l.waiters, i.Content)
		} else {
			l.holders = append(l.holders, i.Content)
		}
	}
	limit, paused := e.policy(k)
	if limit <= 0 || paused || len(items) == 1000 {
		return
	}
	if n := len(l.running); n > max(limit, len(l.holders)) {
		e.breaks("G3", "%d jobs run under %d turns of %v, limit %d: %v", n, len(l.holders), k, limit, slices.Sorted(maps.Keys(l.running)))
	}
	if len(l.holders) > limit && len(l.holders) > len(old.holders) {
		e.breaks("G3", "%d jobs hold a turn of %v, limit %d: %v", len(l.holders), k, limit, l.holders)
	}
	freed := slices.ContainsFunc(old.holders, func(id string) bool { return !slices.Contains(l.holders, id) })
	if freed && len(l.holders) < min(limit, len(old.holders)) { // else it was lent on
		for _, id := range l.waiters {
			if slices.Contains(old.waiters, id) {
				e.breaks("G4", "a turn of %v came free and job %s still waits for it: limit %d, held by %v, before by %v", k, id, limit, l.holders, old.holders)
			}
		}
	}
}
