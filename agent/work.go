package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/internal/alarm"
)

// task is a request on the agent's side, the context of its handler, and then its result.
type task struct {
	context.Context
	alarm.Alarm
	s        *Server
	id, path string
	run      func(ctx context.Context) (any, error)
	received time.Time
	deadline time.Time
	wait     time.Duration
	trace    context.Context
	cancel   context.CancelCauseFunc
	done     chan struct{} // closed with the result

	// Guarded by Server.tab.
	fenced    bool
	token     token
	callback  *url.URL // nil: nobody is called
	key       string
	started   bool
	ended     bool
	at        time.Time // of its end
	reply     []byte    // an envelope
	answering int       // requests that wait for the result
	sending   bool      // a callback is under way or to come
	settled   bool
	retry     redelivery
}

// Deadline is that of the caller, on our clock.
func (t *task) Deadline() (time.Time, bool) { return t.deadline, true }

// Err is context.DeadlineExceeded if the deadline ended it.
func (t *task) Err() error {
	err := t.Context.Err()
	if err != nil && errors.Is(context.Cause(t.Context), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// admit takes t up, or joins the task of the same id, and answers the state.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, t *task) {
	serving, wait := s.serving(), t.wait
	s.tab.Lock()
	if old := s.tasks[t.id]; t.id != "" && old != nil {
		old.join(t)
		t = old
	} else if !serving || len(s.queue) >= s.cfg.Queue && s.busy >= s.cfg.Workers {
		s.tab.Unlock()
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, codeUnavail, "the agent takes no more tasks now")
		return
	} else {
		s.enter(t)
	}
	sync := t.id == ""
	t.answering++
	s.tab.Unlock()
	if sync || wait > 0 {
		t.linger(r.Context(), sync, wait)
	}
	if sync {
		t.stop(context.Canceled) // whoever asked has gone, if it is not done
		t.answerSync(w)
		t.answered(true)
		return
	}
	t.answered(t.answer(w, http.StatusAccepted))
}

// enter begins t. The caller holds s.tab.
func (s *Server) enter(t *task) {
	t.Context, t.cancel = context.WithCancelCause(trace.ContextWithSpanContext(s.ctx, trace.SpanContextFromContext(t.trace)))
	if t.id != "" {
		s.tasks[t.id] = t
	}
	s.unsettled++
	s.queue = append(s.queue, t)
	s.alarms.Set(&t.Alarm, t.deadline)
	s.next()
}

// join is a second request for a task: its caller is the one to call back from now on, and its token the one that counts.
func (t *task) join(u *task) {
	if u.callback != nil {
		t.callback, t.key = u.callback, u.key
	}
	if u.fenced {
		t.token, t.fenced = u.token, true
	}
}

// linger waits for the result while the caller does.
func (t *task) linger(ctx context.Context, sync bool, wait time.Duration) {
	var over <-chan time.Time
	if !sync {
		over = t.s.env.Clock.After(wait)
	}
	select {
	case <-t.done:
	case <-ctx.Done():
	case <-over:
	}
}

// answered is the end of a request that waited; told says that it had the result.
func (t *task) answered(told bool) {
	s := t.s
	s.tab.Lock()
	defer s.tab.Unlock()
	t.answering--
	if t.ended && t.answering == 0 && !t.sending {
		if told {
			s.settle(t)
		} else {
			s.deliver(t)
		}
	}
}

// settle counts t out: nothing is left to do for it. The caller holds s.tab.
func (s *Server) settle(t *task) {
	if t.settled {
		return
	}
	t.settled = true
	s.unsettled--
	s.stir()
}

// answer writes the state with status, or the result with 200 and true.
func (t *task) answer(w http.ResponseWriter, status int) (told bool) {
	t.s.tab.Lock()
	ended, reply := t.ended, t.reply
	t.s.tab.Unlock()
	if !ended {
		writeJSON(w, status, envelope{Task: t.id, State: stateRunning})
		return false
	}
	var e envelope
	_ = json.Unmarshal(reply, &e) // written by ourselves
	e.Task, e.State = t.id, stateDone
	writeJSON(w, http.StatusOK, e)
	return true
}

// answerSync writes the bare result, or the error.
func (t *task) answerSync(w http.ResponseWriter) {
	<-t.done
	var e envelope
	_ = json.Unmarshal(t.reply, &e) // written by ourselves
	switch {
	case e.Error == nil:
		write(w, http.StatusOK, e.Result)
	case e.Error.Code == codeStale:
		refuse(w, http.StatusConflict, e.Error.Code, e.Error.Text)
	default:
		refuse(w, http.StatusInternalServerError, e.Error.Code, e.Error.Text)
	}
}

// next starts handlers while there are workers. The caller holds s.tab.
func (s *Server) next() {
	for s.busy < s.cfg.Workers && len(s.queue) > 0 {
		t := s.queue[0]
		s.queue = s.queue[1:]
		t.started = true
		s.busy++
		s.spawn("agent/task/"+t.id, func() { s.work(t) })
	}
}

// work runs t's handler, which may end its goroutine.
func (s *Server) work(t *task) {
	reply := failure(codeInternal, "handler exited")
	defer func() {
		s.tab.Lock()
		s.busy--
		s.next()
		s.tab.Unlock()
		t.end(reply)
	}()
	reply = s.handled(t)
}

func (s *Server) handled(t *task) []byte {
	s.tab.Lock()
	tok, fenced := t.token, t.fenced
	s.tab.Unlock()
	if fenced && !s.fence.stands(tok) {
		return failure(codeStale, "a higher token came while the task waited")
	}
	ctx, span := s.tracer.Start(t, "agent.handle", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("path", t.path)))
	defer span.End()
	v, err := guarded(func() (any, error) { return t.run(ctx) })
	var out []byte
	if err == nil {
		if out, err = json.Marshal(v); err == nil {
			out, err = s.fits(wrapped(out))
		}
	}
	if err == nil {
		return out
	}
	e := wireFailure(s.env, "path", t.path, err)
	span.SetStatus(codes.Error, e.Code)
	return failure(e.Code, e.Text)
}

func (s *Server) fits(reply []byte) ([]byte, error) {
	if len(reply) > s.cfg.MaxBody {
		return nil, &RemoteError{codeTooLarge, fmt.Sprintf("the result has more than %d bytes", s.cfg.MaxBody)}
	}
	return reply, nil
}

// stop ends t's context, and t itself if it has not started; false if it has ended.
func (t *task) stop(cause error) bool {
	s := t.s
	s.tab.Lock()
	ended, started := t.ended, t.started
	if !ended && !started {
		s.queue = slices.DeleteFunc(s.queue, func(u *task) bool { return u == t })
		t.started = true
	}
	s.tab.Unlock()
	if ended {
		return false
	}
	t.cancel(cause)
	if !started {
		code := codeCancelled
		if errors.Is(cause, context.DeadlineExceeded) {
			code = codeTimeout
		}
		t.end(failure(code, "it did not run: "+cause.Error()))
	}
	return true
}

// end gives t its result, once.
func (t *task) end(reply []byte) {
	s := t.s
	s.tab.Lock()
	defer s.tab.Unlock()
	t.ended, t.reply, t.at = true, reply, s.env.Clock.Now()
	close(t.done)
	t.cancel(nil)
	if t.id == "" {
		s.alarms.Unset(&t.Alarm)
		return
	}
	s.keep(t)
	if t.answering == 0 {
		s.deliver(t)
	}
}

// keep keeps t's result for polls, and forgets the oldest. The caller holds s.tab.
func (s *Server) keep(t *task) {
	s.alarms.Set(&t.Alarm, t.at.Add(keepResults))
	s.kept = append(s.kept, t)
	for len(s.kept) > keepMost {
		s.forget(s.kept[0])
	}
}

// forget is for the oldest result. The caller holds s.tab.
func (s *Server) forget(t *task) {
	if i := slices.Index(s.kept, t); i >= 0 {
		s.kept = slices.Delete(s.kept, i, i+1)
	}
	s.alarms.Unset(&t.Alarm)
	if s.tasks[t.id] == t {
		delete(s.tasks, t.id)
	}
}

// Fire is the deadline, or the time to forget the result.
func (t *task) Fire() {
	t.s.tab.Lock()
	ended := t.ended
	if ended {
		t.s.forget(t)
	}
	t.s.tab.Unlock()
	if !ended {
		t.stop(context.DeadlineExceeded)
	}
}

// redelivery is the time to call back again.
type redelivery struct {
	alarm.Alarm
	t      *task
	policy backoff.BackOff
}

// Fire calls back.
func (d *redelivery) Fire() { d.t.call() }
