package periodic

import (
	"context"
	"fmt"
	"hash/fnv"
	"reflect"
	"time"

	"github.com/drover-cloud/drover"
)

// Ledger remembers the due times that were given out in the cluster. *lease.Ledger satisfies it unseen. Safe for concurrent use.
type Ledger interface {
	// Take asks for the run of name at due. epoch > 0: it is ours. wait > 0: ask again after it, since due lies in the
	// store's future, or the node that has it may yet die. epoch < 0: it was given up after too many attempts. All 0:
	// another node has or had it, or a later one.
	Take(ctx context.Context, name string, due time.Time) (epoch int64, wait time.Duration, err error)
	// Held is closed when what was taken is not ours any more.
	Held() (<-chan struct{}, error)
	// Done notes the end of the run taken under epoch. An error that drover.IsPermanent is not retried.
	Done(ctx context.Context, name string, epoch int64, outcome string) error
	// Last is the last due time of name that was given out; zero: none.
	Last(ctx context.Context, name string) (time.Time, error)
}

// SingletonOption is an option of Singleton.
type SingletonOption func(*singleton)

type singleton struct {
	ledger Ledger
	prefer func() bool
	atMost bool
}

// Prefer makes this node wait a quarter of the spacing, at most 5 s, before it asks for a due time unless f is true: a hint that
// spares the store, such as who leads.
func Prefer(f func() bool) SingletonOption { return func(s *singleton) { s.prefer = f } }

// AtMostOnce notes a run as done before it starts: a crash in between loses it. The default runs it again on another node, up
// to 3 times.
func AtMostOnce() SingletonOption { return func(s *singleton) { s.atMost = true } }

// Singleton runs the task once in the whole cluster per due time, on whichever node l gives it to; if that node dies during
// it, again on another. It is for Every and Cron; the grid of an Every is aligned to 1970-01-01 UTC, so that all nodes share
// it. The ctx ends with [ErrLost] when the node's lease session does; [RunOf] has the Epoch, a fencing token.
func Singleton(l Ledger, opts ...SingletonOption) Decorator {
	sg := &singleton{ledger: l}
	for _, o := range opts {
		o(sg)
	}
	return set(func(t *Task) { t.single = sg })
}

func (sg *singleton) check(t *Task) error {
	if v := reflect.ValueOf(sg.ledger); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("%w: Singleton without a Ledger", ErrTask)
	}
	switch t.When.(type) {
	case grid, calendar:
	case broken, nil:
	default:
		return fmt.Errorf("%w: Singleton is for Every and Cron, without Initial", ErrSchedule)
	}
	if t.now {
		return fmt.Errorf("%w: Singleton has no Immediately: each node would run it", ErrSchedule)
	}
	return nil
}

// anchor is the newest point of the shared grid not after now.
func (sg *singleton) anchor(e *entry, now time.Time) time.Time {
	d := spacing(e.When)
	if d == 0 {
		return now
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(e.Name))
	phase := int64(h.Sum64() % uint64(min(d, time.Minute)))
	k := (now.UnixNano() - phase) / int64(d)
	return time.Unix(0, k*int64(d)+phase).UTC()
}

const (
	askFirst   = time.Second
	askMax     = 30 * time.Second
	preferMax  = 5 * time.Second
	settleTime = 5 * time.Second
)

// claimed makes r the due time that e asks the ledger for. An older one that is still asked for is given up.
func (e *entry) claimed(r *run) {
	if was := e.claim; was != nil {
		if !was.look {
			r.info.Missed += was.info.Missed + 1
		}
		was.cancel(nil)
	}
	e.claim = r
}

// ask asks the ledger for r's due time; false: not now, or not this node.
func (s *Set) ask(r *run) bool {
	sg, e := r.e.single, r.e
	if r.look {
		s.look(r)
		return false
	}
	if !r.asked && !s.preferred(sg) {
		d := preferMax // the spacing of a calendar is not known
		if quarter := spacing(e.When) / 4; quarter > 0 {
			d = min(d, quarter)
		}
		s.askLater(r, d)
		return false
	}
	held, err := sg.ledger.Held()
	var epoch int64
	var wait time.Duration
	if err == nil {
		// Not r itself: a driver may look at the ctx of a statement once more when r has become another by its answer.
		epoch, wait, err = sg.ledger.Take(r.Context, e.Name, r.info.Due)
	}
	if err == nil && epoch > 0 {
		s.own(r, epoch, held)
		return true
	}
	switch {
	case err != nil && r.Err() != nil: // a newer due time has taken its place
	case err != nil:
		s.mu.Lock()
		e.gated++
		e.err = err
		s.mu.Unlock()
		s.storeAway(r)
	case wait > 0:
		s.askLater(r, wait)
	default:
		s.notOurs(r, epoch < 0)
	}
	return false
}

// look takes up the due times that passed, or were not finished, before this node was there.
func (s *Set) look(r *run) {
	e := r.e
	last, err := e.single.ledger.Last(r.Context, e.Name)
	if err != nil {
		s.storeAway(r)
		return
	}
	now := s.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.claim != r {
		return
	}
	defer s.rouse()
	defer func() { e.schedule(now) }()
	e.claim, e.unknown = nil, false
	if last.IsZero() || e.last.Number > 0 {
		return
	}
	next, ok := e.When.Next(Run{Due: last, Number: 1})
	if !ok || next.After(now) { // the newest one may be unfinished
		e.claim = s.newRun(r.base, e, last)
		e.claim.askAt = now
		delete(s.active, e.claim)
		return
	}
	e.last.Due = last
	e.aim(next)
}

// storeAway asks again later, and shows the task as unknown meanwhile.
func (s *Set) storeAway(r *run) {
	s.mu.Lock()
	r.e.unknown = true
	r.backoff = min(max(2*r.backoff, askFirst), askMax)
	d := r.backoff
	s.mu.Unlock()
	s.askLater(r, d)
}

func (s *Set) preferred(sg *singleton) (yes bool) {
	if sg.prefer == nil {
		return true
	}
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return sg.prefer()
}

// askLater has r asked for again after d, unless a newer due time has taken its place.
func (s *Set) askLater(r *run, d time.Duration) {
	now := s.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	r.asked = true
	if r.e.claim == r {
		r.askAt = now.Add(d)
		r.e.schedule(now)
		s.rouse()
	}
}

// own books that the due time is ours, and ends the ctx when the session does.
func (s *Set) own(r *run, epoch int64, held <-chan struct{}) {
	e := r.e
	s.mu.Lock()
	if e.claim == r {
		e.claim = nil
	}
	e.unknown = false
	e.runs = append(e.runs, r)
	r.owned, r.info.Epoch, r.over = true, epoch, make(chan struct{})
	if r.Context.Err() != nil { // a newer claim ended it
		r.Context, r.cancel = context.WithCancelCause(r.base)
	}
	r.held = held
	if e.gone {
		r.cancel(context.Canceled)
	}
	s.mu.Unlock()
	s.env.Go("periodic/"+e.Name+"/held", func() {
		select {
		case <-held:
			r.cancel(ErrLost)
		case <-r.over:
		}
	})
	if e.single.atMost {
		s.done(r, "started")
	}
}

func (s *Set) notOurs(r *run, abandoned bool) {
	e := r.e
	s.mu.Lock()
	e.unknown = false
	e.taken++
	if e.claim == r {
		e.claim = nil
	}
	s.m.skip(e, "taken", 1)
	s.mu.Unlock()
	if abandoned {
		s.log.Error("periodic.abandoned", "task", e.Name, "due", r.info.Due)
	}
}

// settleUp records how a run of a singleton ended.
func (s *Set) settleUp(r *run, err error) {
	closeOnce(r.over)
	outcome := "ok"
	if err != nil {
		outcome = err.Error()
	}
	if !r.e.single.atMost {
		s.done(r, outcome)
	}
}

// done tells the ledger, again and again while the session is held: else another node would run it once more.
func (s *Set) done(r *run, outcome string) {
	for wait := askFirst; ; wait = min(2*wait, askMax) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r), settleTime)
		err := r.e.single.ledger.Done(ctx, r.e.Name, r.info.Epoch, outcome)
		cancel()
		if err == nil {
			return
		}
		s.log.Warn("periodic: the end of a run was not recorded", "task", r.e.Name, "due", r.info.Due, "error", err)
		if drover.IsPermanent(err) || r.Err() != nil || s.env.Sleep(r, wait) != nil {
			return
		}
	}
}
