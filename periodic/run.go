package periodic

import (
	"context"
	"time"

	"github.com/drover-cloud/drover"
)

type (
	runKey     struct{}
	attemptKey struct{}
)

// RunOf is the run that ctx, a task's, belongs to; the zero Run elsewhere.
func RunOf(ctx context.Context) Run {
	r, ok := ctx.Value(runKey{}).(*run)
	if !ok {
		return Run{}
	}
	info := r.info
	if n, ok := ctx.Value(attemptKey{}).(int); ok {
		info.Attempt = n
	}
	return info
}

// run is a run from the decision that it shall be to what came of it.
type run struct {
	e    *entry
	info Run // constant from Started on
	// rest are the due times to run after this one, of CatchUp.
	rest []time.Time

	context.Context // what Do gets
	cancel          context.CancelCauseFunc
	limit           time.Time // zero: none
	res             result    // told by Do

	base  context.Context // of the Set, for what follows this run
	owned bool            // of a singleton: the due time is ours
	late  bool            // was queued: gates are asked when it starts
	look  bool            // of a singleton: only to ask for the ledger's last due time
	quick bool            // may share a goroutine
	once  bool            // of RunOnce: no timetable, no Overlap
	over  chan struct{}   // of a singleton: closed when Do has returned
	held  <-chan struct{} // of a singleton: closed when the due time is not ours any more

	// Guarded by the Set's mutex.
	overdue bool
	asked   bool
	askAt   time.Time     // of a singleton: when to ask the ledger again; zero: it is being asked
	backoff time.Duration // of that
}

// Deadline is the earlier of the limit's and the Set's.
func (r *run) Deadline() (time.Time, bool) {
	d, ok := r.Context.Deadline()
	if !r.limit.IsZero() && (!ok || r.limit.Before(d)) {
		return r.limit, true
	}
	return d, ok
}

// Err is that of the ctx, save that what a singleton's function asks looks at the ledger's clock: a process that was frozen past
// its lease finds it ended, whichever of its goroutines wakes first.
func (r *run) Err() error {
	if err := r.Context.Err(); err != nil || r.held == nil {
		return err
	}
	lost := false
	select {
	case <-r.held:
		lost = true
	default:
		_, err := r.e.single.ledger.Held()
		lost = err != nil
	}
	if lost {
		r.cancel(ErrLost)
	}
	return r.Context.Err()
}

// Value gives the run itself to RunOf.
func (r *run) Value(key any) any {
	if key == (runKey{}) {
		return r
	}
	return r.Context.Value(key)
}

// tell notes what a task's function returned besides its error; nothing outside a Set.
func tell(ctx context.Context, f func(*result)) {
	if r, ok := ctx.Value(runKey{}).(*run); ok {
		f(&r.res)
	}
}

// envOf is the Env of the run's Set, else production.
func envOf(ctx context.Context) drover.Env {
	if r, ok := ctx.Value(runKey{}).(*run); ok {
		return r.e.set.env
	}
	return drover.Env{}.Defaults()
}
