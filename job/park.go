package job

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// parkError makes a job wait without a worker.
type parkError struct{ c conditions }

func (e *parkError) Error() string { return "job: parked" }

// Condition is what a parked job waits for.
type Condition func(*conditions)

// conditions are what Park was given.
type conditions struct {
	want     []want
	expire   time.Duration
	expires  bool
	freeTurn bool
	bad      string
}

// want is a condition as it was written: relative, and with the children not known yet.
type want struct {
	jobs     []string
	children bool
	topic    string
	at       time.Time
	after    time.Duration
	timed    bool
	any, all []want
}

// Park is returned by a handler, wrapped or not, to free its worker until a condition holds: all jobs of OnJobs and
// OnChildren are final, or any other condition holds. The handler then starts from the top, with the reasons in the Wakes of
// [FromContext]; steps that are done are skipped. It spends no attempt, and the job keeps its turn unless FreeTurn is given.
//
// Nothing is missed that happens while the job parks. Whatever the conditions, signals to "job/<id>" and to topics of
// [Subscribe] wake it too. No condition at all fails the job with code "invalid". After a cancel request, Park is the same as
// any error.
func Park(c ...Condition) error {
	e := &parkError{}
	for _, f := range c {
		f(&e.c)
	}
	return e
}

// OnJobs holds when all these jobs are final, or not there any more; within [AnyOf], when one is. Without [FreeTurn], a job that waits
// for the key which this one holds could never become final: such a Park fails the job with code "invalid" ([syncqueue.ErrReentrant]).
// Descendants of the same key borrow the turn.
func OnJobs(ids ...string) Condition {
	ids = slices.Clone(ids)
	return func(c *conditions) { c.want = append(c.want, want{jobs: ids}) }
}

// OnChildren is OnJobs of all children that are live when the job parks.
func OnChildren() Condition {
	return func(c *conditions) { c.want = append(c.want, want{children: true}) }
}

// AnyOf holds when one of its conditions, or one job of theirs, does.
func AnyOf(c ...Condition) Condition {
	return func(to *conditions) { to.want = append(to.want, want{any: to.inner(c)}) }
}

// AllOf holds when all of its conditions do.
func AllOf(c ...Condition) Condition {
	return func(to *conditions) { to.want = append(to.want, want{all: to.inner(c)}) }
}

// inner are the conditions of a group; Expire and FreeTurn count for the whole wherever they stand.
func (c *conditions) inner(of []Condition) []want {
	in := conditions{}
	for _, f := range of {
		f(&in)
	}
	if in.expires {
		c.expire, c.expires = in.expire, true
	}
	c.freeTurn = c.freeTurn || in.freeTurn
	if in.bad != "" {
		c.bad = in.bad
	}
	if len(in.want) == 0 {
		c.bad = "an empty AnyOf or AllOf"
	}
	return in.want
}

// OnTopic holds when topic is signalled by [Manager.Wake] after the job has parked, or after it has subscribed.
func OnTopic(topic string) Condition {
	return func(c *conditions) {
		if why := badName(topic); why != "" {
			c.bad = fmt.Sprintf("topic %.64q %s", topic, why)
		}
		c.want = append(c.want, want{topic: topic})
	}
}

// At holds from t on, by the store's clock.
func At(t time.Time) Condition {
	return func(c *conditions) {
		if why := badTime(t); why != "" {
			c.bad = "At: " + why
		}
		c.want = append(c.want, want{timed: true, at: t})
	}
}

// After holds d after the job has parked.
func After(d time.Duration) Condition {
	return func(c *conditions) { c.want = append(c.want, want{timed: true, after: d}) }
}

// Expire ends the waiting d after the job has parked, whatever holds by then: the wake's Why is "expired".
func Expire(d time.Duration) Condition {
	return func(c *conditions) { c.expire, c.expires = d, true }
}

// FreeTurn gives the job's turn to the next in line while it is parked. Woken, it waits at its old place.
func FreeTurn() Condition { return func(c *conditions) { c.freeTurn = true } }

// parkOf finds a Park in what a handler returned.
func parkOf(err error) *conditions {
	p := new(parkError)
	if err == nil || !errors.As(err, &p) || isPermanent(err) {
		return nil
	}
	return &p.c
}

// check says why the run cannot park so.
func (c *conditions) check(r *run) error {
	switch {
	case c.bad != "":
		return invalid("Park", "%s", c.bad)
	case len(c.want) == 0 && !c.expires:
		return invalid("Park", "no condition")
	}
	n := 0
	return checkWants(c.want, r.row.ID, &n)
}

func checkWants(ws []want, self string, n *int) error {
	for i := range ws {
		w := &ws[i]
		for _, id := range w.jobs {
			if _, ok := canonicalID(id); !ok {
				return invalid("Park", "%.64q is no job's id", id)
			}
			if id == self {
				return invalid("Park", "a job cannot wait for itself")
			}
		}
		if *n += len(w.jobs); *n > maxChildren {
			return invalid("Park", "%d jobs, most are %d", *n, maxChildren)
		}
		for _, group := range [][]want{w.any, w.all} {
			if err := checkWants(group, self, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *conditions) needsChildren() bool { return slices.ContainsFunc(c.want, want.needsChildren) }

func (w want) needsChildren() bool {
	return w.children || slices.ContainsFunc(w.any, want.needsChildren) || slices.ContainsFunc(w.all, want.needsChildren)
}

// jobsOf adds the jobs of OnJobs, wherever they stand.
func jobsOf(ws []want, to []string) []string {
	for i := range ws {
		for _, id := range ws[i].jobs {
			id, _ = canonicalID(id)
			to = append(to, id)
		}
		to = jobsOf(ws[i].all, jobsOf(ws[i].any, to))
	}
	return to
}
