package testkit

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/testkit/faults"
	"github.com/drover-cloud/drover/internal/testkit/sched"
)

// Errors that nodes see. All are transient: what failed may be tried again.
var (
	// ErrStore is what Fail and FailAfter inject unless they are given another.
	ErrStore = errors.New("testkit: injected store error")
	// ErrDown is what operations get while the store is down or read-only, or when a partition broke their transaction.
	ErrDown = errors.New("testkit: store unavailable")
	// ErrCrashed is what a goroutine that is not the node's own gets from the store of a crashed node.
	ErrCrashed = errors.New("testkit: node has crashed")

	errSerialize = errors.New("testkit: injected serialization failure")
)

// rules are the world's answers to its scheduler. All run on the driver, while everything else rests.
type rules struct{ w *World }

func (r rules) Ready(e *sched.Entry, _ time.Time) (bool, time.Time) {
	switch {
	case e.IsHold() && e.Op == heldBus:
		return !lifeOf(e).node.off.any(), time.Time{}
	case e.IsHold():
		return !lifeOf(e).node.cut.any(), time.Time{}
	case e.IsOp() && e.Op == opSend:
		return !lifeOf(e).node.off.to, time.Time{}
	case e.IsOp() && e.Op == opBegin:
		return r.w.opener == nil && !lifeOf(e).node.cut.any(), time.Time{}
	case e.IsOp() && !e.InTx:
		return (!r.w.alone || r.w.opener == nil) && !lifeOf(e).node.cut.any(), time.Time{}
	}
	return true, time.Time{}
}

func lifeOf(e *sched.Entry) *life { return e.Proc.Owner.(*life) }

func (r rules) Judge(e *sched.Entry, now time.Time) sched.Verdict {
	if !e.IsOp() {
		return sched.Verdict{}
	}
	l := lifeOf(e)
	v := r.fault(l, e, now)
	if v.Kind == sched.Run || v.Kind == sched.FailAfter {
		if p := r.w.crash.visit(l, e); p != sched.Run {
			v = sched.Verdict{Kind: p, Note: "crash point"}
		}
	}
	switch {
	case v.Kind == sched.Hold:
		return v
	case v.Kind == sched.Die:
		l.node.kill(l, "before "+e.Op)
		if e.G.Proc != l.p {
			v = sched.Verdict{Kind: sched.Fail, Err: ErrCrashed}
		}
		return v
	case e.Op == opBegin && v.Kind == sched.FailAfter:
		v.Kind = sched.Fail
	}
	if e.Op == opBegin && v.Kind != sched.Fail {
		r.w.opener = e.G
	}
	return v
}

func (r rules) fault(l *life, e *sched.Entry, now time.Time) sched.Verdict {
	w, n := r.w, l.node
	fail := func(kind string, err error) sched.Verdict {
		w.faults[kind]++
		return sched.Verdict{Kind: sched.Fail, Err: err}
	}
	switch {
	case e.Op == opSend, strings.HasPrefix(e.Op, opHyp):
	case now.Before(w.down):
		return fail("store down", fmt.Errorf("%w: down", ErrDown))
	case now.Before(w.frozen) && writes[e.Op]:
		return fail("store read-only", fmt.Errorf("%w: read-only", ErrDown))
	case n.cut.to:
		return fail("partition", fmt.Errorf("%w: connection lost", ErrDown))
	}
	if n.slow > 1 && !e.Judged {
		d := time.Duration((0.5 + w.s.Delays.Float64()) * (n.slow - 1) * float64(time.Millisecond))
		return sched.Verdict{Kind: sched.Hold, Hold: d}
	}
	rule, ok := n.table.Strike(e.Op, !e.Judged, w.s.Faults)
	switch {
	case !ok:
	case rule.Kind == faults.Delay:
		w.faults["delay"]++
		d := rule.Min
		if rule.Max > rule.Min {
			d += time.Duration(w.s.Delays.Int64N(int64(rule.Max - rule.Min)))
		}
		return sched.Verdict{Kind: sched.Hold, Hold: d}
	case rule.Kind == faults.Serialize:
		return fail("serialization failure", errSerialize)
	case rule.Kind == faults.Before:
		return fail("error before", rule.Err)
	case rule.Kind == faults.After:
		w.faults["error after"]++
		return sched.Verdict{Kind: sched.FailAfter, Err: rule.Err}
	}
	return sched.Verdict{}
}

func (r rules) Check() string {
	for _, c := range r.w.checks {
		if c.ok() != c.want {
			if c.want {
				return fmt.Sprintf("always %q broken", c.what)
			}
			return fmt.Sprintf("never %q broken", c.what)
		}
	}
	for _, o := range r.w.eyes {
		if what := o.look(); what != "" {
			return what
		}
	}
	return ""
}

func (r rules) End() {
	for _, n := range r.w.nodes {
		n.life.cancel(errEnded)
	}
	r.w.cancel(errEnded)
}
