package job

import (
	"context"
	"encoding/json"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
	inner "github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/lease"
)

// run is one start of a handler.
type run struct {
	m      *Manager
	row    Row
	topic  string // JobTopic, and the name of its goroutine
	kind   *kind
	token  *lease.Token // of the session; shared by those of one claim
	pool   *pool
	values context.Context // Run's
	ctx    context.Context
	cancel context.CancelCauseFunc
	ready  work // nil: kind.run
	span   span
	began  time.Time
	limit  time.Time // local end of this run; zero = none
	alarm  alarm
	out    outcome
	beat   atomic.Int64 // nanoseconds from began to the last sign of life

	mu        sync.Mutex // held for memory only
	lost      bool       // fenced, or the session is over
	cancelled bool       // a cancel request is known
	overdue   bool
	released  bool                    // its turn was given up, or may have been
	sealing   bool                    // FinishTx was called; whether it committed is the store's to say
	ended     bool                    // the handler has returned
	counted   bool                    // children is known
	climbed   bool                    // so are the ancestors
	drop      context.CancelCauseFunc // of claim
	rare      *rare
}

// rare is what few runs need; guarded by run.mu.
type rare struct {
	reason    string // of the cancel request
	progress  progress
	steps     steps
	children  int             // it has, as far as counted
	claim     context.Context // made by whileClaimed
	waitsFor  []string        // jobs that it blocks for in Wait
	ancestors []Row           // ids and keys, the nearest first, once climbed
	lendLock  chan struct{}   // guards lent
	lent      int             // calls of Wait that lend the turn
}

// more is the rare part, made now if it is not there. run.mu is held.
func (r *run) more() *rare {
	if r.rare == nil {
		r.rare = &rare{progress: progress{last: r.row.Progress}}
	}
	return r.rare
}

// handedContext is what a handler gets, run.ctx but for Err, which looks at the clock: in a process that was frozen past its
// lease it has ended, whichever goroutine wakes first.
type handedContext run

func (c *handedContext) Deadline() (time.Time, bool) { return c.ctx.Deadline() }
func (c *handedContext) Done() <-chan struct{}       { return c.ctx.Done() }
func (c *handedContext) Value(k any) any             { return c.ctx.Value(k) }
func (c *handedContext) Err() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if !c.m.believed(*c.token) {
		(*run)(c).lose(errSessionLost)
	}
	return c.ctx.Err()
}

// runContext is the root of a handler's ctx: Run's values, the job and its deadline; it never ends by itself.
type runContext run

type runKey struct{}

func (c *runContext) Deadline() (time.Time, bool) { return c.limit, !c.limit.IsZero() }
func (c *runContext) Done() <-chan struct{}       { return nil }
func (c *runContext) Err() error                  { return nil }

func (c *runContext) Value(k any) any {
	switch k {
	case runKey{}:
		return (*run)(c)
	case inner.Key{}:
		return (*flowRun)(c)
	}
	return c.values.Value(k)
}

// runOf is the run whose handler has ctx, or nil.
func runOf(ctx context.Context) *run {
	r, _ := ctx.Value(runKey{}).(*run)
	return r
}

// outcome is what a handler left.
type outcome struct {
	run    *run
	result json.RawMessage
	err    error
	at     time.Time
	cause  error         // of ctx, when the handler returned
	sealed *Row          // the job as stored, if FinishTx has sealed it
	wait   time.Duration // until a retry

	children  []string // the live ones, if it parks on them
	reentrant error    // it must not park on what it asks for
}

// errGoexit is what a handler is told to have failed with that called runtime.Goexit.
var errGoexit = errors.New("handler called runtime.Goexit")

// start registers what claim c got, in exchange for what it had reserved, and runs the handlers. began is when the claim was
// asked for, by the local clock.
func (m *Manager) start(rows []Row, c Claim, began time.Time) {
	runs := make([]*run, 0, len(rows))
	for i := range rows {
		if r := m.newRun(&rows[i], &c.Session, began); r != nil {
			runs = append(runs, r)
		}
	}
	m.mu.Lock()
	m.giveBack(c.Free)
	runs = slices.DeleteFunc(runs, func(r *run) bool { return !m.enlist(r) })
	alarm := m.clock.earlier()
	m.mu.Unlock()
	if len(runs) == 0 {
		return
	}
	if alarm {
		poke(m.alarms)
	}
	m.meters.claimed(runs)
	m.waits.changed(runs)
	if m.crew != nil {
		m.crew.add(runs)
		return
	}
	for _, r := range runs {
		m.env.Go(r.topic, r.exec)
	}
}

// newRun makes a run; nil if this node does not handle its kind or queue.
func (m *Manager) newRun(row *Row, token *lease.Token, began time.Time) *run {
	k, p := m.kindNamed(row.Kind), m.pools[row.Queue]
	if k == nil || k.run == nil || p == nil {
		return nil
	}
	r := &run{m: m, row: *row, topic: JobTopic(row.ID), kind: k, values: m.values, token: token, pool: p, began: began}
	r.sealing = row.Flags&Sealed != 0
	if !row.RunUntil.IsZero() {
		r.limit = began.Add(row.RunUntil.Sub(row.Started))
	}
	r.ctx, r.cancel = context.WithCancelCause((*runContext)(r))
	if k.ready != nil && len(row.Args) <= readyMost {
		r.ready = k.ready(row.Args)
	}
	switch {
	case row.Flags&Unwinding == 0:
	case row.Flags&Overdue != 0:
		r.cancel(ErrDeadline)
	default:
		r.cancelled, r.more().reason = true, row.CancelReason
		r.cancel(&cancelledError{row.CancelReason})
	}
	return r
}

// enlist registers a run, unless it is here already. Manager.mu is held.
func (m *Manager) enlist(r *run) bool {
	k := key{r.row.ID, r.row.Epoch}
	if m.runs[k] != nil {
		return false
	}
	if m.stopping {
		r.cancel(ErrStopping)
	}
	m.runs[k] = r
	r.pool.executing++
	m.executing++
	m.clock.set(r, r.firstAlarm())
	return true
}

// exec runs the handler, whatever it does, and hands its outcome on.
func (r *run) exec() {
	o := &r.out
	o.run = r
	returned := false
	defer func() {
		if v := recover(); v != nil {
			o.err = &drover.PanicError{Value: v, Stack: debug.Stack()}
		} else if !returned {
			o.err = errGoexit
		}
		r.m.returned(r, o)
	}()
	o.result, o.err = r.call()
	returned = true
}

// call is the handler, or what stands in for it.
func (r *run) call() (json.RawMessage, error) {
	cause := context.Cause(r.ctx)
	switch {
	case errors.Is(cause, ErrStopping) || errors.Is(cause, ErrLost):
		return nil, cause
	case r.row.Flags&Sealed != 0: // left to us although its outcome is stored: nothing of it runs again
		return nil, nil
	case r.abandoned() && r.kind.opt.abandon != nil:
		return r.opened(r.m.meters.running(r), func(ctx context.Context, args json.RawMessage) (json.RawMessage, error) {
			j := r.row.public()
			j.Args = args
			return nil, r.kind.opt.abandon(ctx, j)
		})
	case r.abandoned():
		return nil, ErrLost
	}
	if r.ready != nil {
		return r.ready(r.m.meters.running(r))
	}
	return r.opened(r.m.meters.running(r), r.kind.run)
}

// abandoned says that the job is to be settled, not run: it was lost under OnLost(Fail).
func (r *run) abandoned() bool {
	return r.row.Flags&Abandoned != 0 || r.row.Lost > 0 && r.kind.opt.onLost == Fail
}

// returned takes the outcome of a handler and frees its slot.
func (m *Manager) returned(r *run, o *outcome) {
	o.at = m.env.Clock.Now()
	o.cause = context.Cause(r.ctx)
	r.cancel(context.Canceled)
	r.mu.Lock()
	r.ended = true
	lost, drop := r.lost, r.drop
	r.mu.Unlock()
	lost = lost || !m.believed(*r.token) // by the clock: whoever notices first, nothing of it is written any more
	if drop != nil {
		drop(context.Canceled)
	}
	m.meters.ran(r, o)
	m.mu.Lock()
	m.clock.remove(r)
	r.pool.executing--
	m.executing--
	if lost {
		delete(m.runs, key{r.row.ID, r.row.Epoch})
	} else {
		r.pool.unflushed++
		m.pending = append(m.pending, o)
	}
	flush, claim, idle := m.wantsFlush(), m.more && !m.stopping, m.empty()
	m.mu.Unlock()
	if lost {
		m.meters.stale(r, "returned")
	}
	if flush {
		poke(m.pump)
	}
	if claim {
		poke(m.wake)
	}
	if idle {
		poke(m.idle)
	}
}

// end cancels the handler's ctx with cause, the first one given.
func (r *run) end(cause error) { r.cancel(cause) }

// lose marks the run as fenced: nothing of it is written any more.
func (r *run) lose(cause error) {
	r.mu.Lock()
	r.lost = true
	drop := r.drop
	r.mu.Unlock()
	r.end(cause)
	if drop != nil {
		drop(cause)
	}
}

// whileClaimed is a ctx that ends only when the claim is lost or the handler has returned. Few runs need one.
func (r *run) whileClaimed() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	more := r.more()
	if more.claim == nil {
		more.claim, r.drop = context.WithCancelCause(r.values)
		if r.lost {
			r.drop(r.lostCause())
		}
	}
	return more.claim
}

// requestCancel makes a cancel request known to the handler.
func (r *run) requestCancel(reason string) {
	r.mu.Lock()
	first := !r.cancelled
	r.cancelled, r.more().reason = true, reason
	r.mu.Unlock()
	if first {
		r.end(&cancelledError{reason})
		r.m.graceFor(r)
	}
}

// turn is what the run was claimed with, unless it gave that up.
func (r *run) turn() Turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.released || !r.row.Turn {
		return Turn{}
	}
	return Turn{r.row.Sync, r.row.Place}
}

func (r *run) isLost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// lose ends every run under token, in order of id: the session is over.
func (m *Manager) lose(token lease.Token) {
	for _, r := range m.running(func(r *run) bool { return *r.token == token }) {
		r.lose(errSessionLost)
		m.meters.lostRun(r)
	}
	m.mu.Lock()
	kept := m.pending[:0]
	for _, o := range m.pending { // nothing of these can be written any more
		if *o.run.token == token {
			o.run.pool.unflushed--
			delete(m.runs, key{o.run.row.ID, o.run.row.Epoch})
			o.run.span.end("")
			continue
		}
		kept = append(kept, o)
	}
	clear(m.pending[len(kept):])
	m.pending = kept
	idle := m.empty()
	m.mu.Unlock()
	if idle {
		poke(m.idle)
	}
}

// running are the runs that match, by id and epoch.
func (m *Manager) running(match func(*run) bool) []*run {
	m.mu.Lock()
	rs := make([]*run, 0, len(m.runs))
	for _, r := range m.runs {
		if match(r) {
			rs = append(rs, r)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(rs, byJob)
	return rs
}

func byJob(a, b *run) int {
	switch {
	case a.row.ID != b.row.ID:
		if a.row.ID < b.row.ID {
			return -1
		}
		return 1
	default:
		return int(a.row.Epoch - b.row.Epoch)
	}
}
