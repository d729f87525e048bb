package periodic

import "time"

// entry is a task in a Set. The Set's mutex guards it.
type entry struct {
	Task
	set   *Set
	limit time.Duration // 0: none
	pace  pacer         // of Adaptive and Backoff

	begun    bool
	start    time.Time
	disabled bool
	finished bool
	removed  chan struct{} // of Remove; closed when no run is left
	gone     bool

	due    time.Time     // the next due time not dealt with; zero: none
	jitter time.Duration // of that
	last   Run           // what the timetable goes on from
	at     time.Time     // when the Set looks again; zero: only when told
	index  int           // in the queue, -1: not in it

	trigger bool
	runs    []*run // active, in order of start
	queued  *queuedDue
	claim   *run // of a singleton: the due time being asked for

	stats
}

// queuedDue is the due time remembered until a run ends.
type queuedDue struct {
	due    time.Time
	missed int64
}

// stats is what Status tells of the past.
type stats struct {
	number, failures, overran, missed, gated, taken int64

	started, lastDue, succeeded time.Time
	took                        time.Duration
	err                         error
	text                        string // of the last error logged
	outlasted                   bool   // due times came during the run
	panicked                    bool   // a gate did, and it has been logged
	unknown                     bool   // the ledger cannot be asked
	epoch                       int64
}

// begin puts the task on its timetable, which starts at now.
func (e *entry) begin(now time.Time) {
	e.begun = true
	e.trigger = e.trigger || e.now
	e.set.shift(e, e.Task.spread(), now)
	if e.start = now; e.single != nil {
		e.claim = e.set.newRun(e.set.base, e, now)
		e.claim.look, e.claim.askAt = true, now
		delete(e.set.active, e.claim)
	}
}

// shift starts a timetable at now, moved by chance within spread.
func (s *Set) shift(e *entry, spread time.Duration, now time.Time) {
	phase := upTo(s.env.Rand, spread)
	if !afterEnd(e.When) {
		phase = -phase // the first due time is not later than a spacing from now
	}
	anchor := now.Add(phase)
	if e.single != nil {
		anchor = e.single.anchor(e, now)
	}
	if e.onWall() {
		anchor = anchor.Round(0)
	}
	e.last = Run{Name: e.Name, Due: anchor, Started: anchor, Ended: anchor}
	e.follow(now)
}

// follow works out the next due time from the last.
func (e *entry) follow(now time.Time) {
	next, ok := e.When.Next(e.last)
	if ok && (next.After(e.last.Due) || e.last.Number == 0 && !next.Before(e.last.Due)) {
		e.aim(next)
		return
	}
	e.due = time.Time{}
	if _, isPaced := unwrap(e.When).(paced); !isPaced {
		e.finished = true
	}
}

// aim makes due the next due time, with a jitter of its own.
func (e *entry) aim(due time.Time) {
	e.due, e.jitter = due, upTo(e.set.env.Rand, e.Jitter)
}

// onWall says that due times are compared with the wall clock.
func (e *entry) onWall() bool { return onWallClock(e.When) || e.single != nil }

const wallCheck = time.Minute

// schedule puts e into the queue for the next moment at which something is to be done.
func (e *entry) schedule(now time.Time) {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if e.waiting() {
		switch start := e.due.Add(e.jitter); {
		case e.trigger:
			at = now
		case e.due.IsZero():
		case e.onWall(): // the wall clock may be set: look again
			sooner(now.Add(min(start.Sub(now.Round(0)), wallCheck)))
		default:
			sooner(start)
		}
		if e.claim != nil {
			sooner(e.claim.askAt)
		}
	}
	for _, r := range e.runs {
		if !r.overdue {
			sooner(r.limit)
		}
	}
	e.set.queue.put(e, at)
}

// waiting says that due times count.
func (e *entry) waiting() bool {
	return e.begun && !e.disabled && !e.finished && !e.gone && !e.set.draining
}

// queue is the entries with something to be done, the soonest first: a heap of four children, whose order is in the slots, so
// that it is kept without a look at the entries.
type queue []slot

type slot struct {
	at int64 // ns since the Set's first look at the clock
	e  *entry
}

// put has e looked at at, or never if that is zero.
func (q *queue) put(e *entry, at time.Time) {
	e.at = at
	if at.IsZero() {
		if e.index >= 0 {
			q.remove(e.index)
		}
		return
	}
	s := slot{int64(at.Sub(e.set.origin)), e}
	if e.index < 0 {
		*q = append(*q, s)
		q.up(len(*q)-1, s)
		return
	}
	q.move(e.index, s)
}

// remove takes the slot i out.
func (q *queue) remove(i int) {
	h := *q
	h[i].e.index = -1
	last := h[len(h)-1]
	h[len(h)-1] = slot{}
	*q = h[:len(h)-1]
	if i < len(*q) {
		q.move(i, last)
	}
}

// move puts s, in the place of slot i, where it belongs.
func (q queue) move(i int, s slot) {
	if i > 0 && s.at < q[(i-1)/4].at {
		q.up(i, s)
		return
	}
	q.down(i, s)
}

func (q queue) up(i int, s slot) {
	for i > 0 {
		parent := (i - 1) / 4
		if q[parent].at <= s.at {
			break
		}
		q.set(i, q[parent])
		i = parent
	}
	q.set(i, s)
}

func (q queue) down(i int, s slot) {
	for {
		first := 4*i + 1
		if first >= len(q) {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, len(q)); c++ {
			if q[c].at < q[least].at {
				least = c
			}
		}
		if q[least].at >= s.at {
			break
		}
		q.set(i, q[least])
		i = least
	}
	q.set(i, s)
}

func (q queue) set(i int, s slot) {
	q[i] = s
	s.e.index = i
}

// take removes and gives the entries to be looked at now.
func (q *queue) take(now time.Time) (es []*entry) {
	for len(*q) > 0 && !(*q)[0].e.at.After(now) {
		es = append(es, (*q)[0].e)
		q.remove(0)
	}
	return es
}
