package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"

	"github.com/drover-cloud/drover/internal/alarm"
)

const acceptAfter = time.Second

// request is a call or cast on the receiver's side, and the context of its handler. What of a context costs is made when somebody
// looks.
type request struct {
	alarm.Alarm
	b        *Bus
	m        *Message
	own      Message // that m is, of a sender in this process
	ep       *Endpoint
	f        handlerFunc
	arrived  time.Time
	deadline time.Time // zero: none
	sender   *sender

	mu      sync.Mutex
	inner   context.Context // nil until somebody looks
	stop    context.CancelCauseFunc
	cause   error // of the end; the first one counts
	ended   bool
	told    time.Time // when the caller was last told that it runs
	mute    bool      // telling failed once: never again
	waiting int       // calls of the handler under way
	holds   string    // the limited endpoint whose place it has
	body    []byte
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// Deadline is that of the caller, on our clock.
func (r *request) Deadline() (time.Time, bool) { return r.deadline, !r.deadline.IsZero() }

// Done is closed at the deadline, when the caller has gone, and when the bus ends.
func (r *request) Done() <-chan struct{} { return r.context().Done() }

// Err is context.DeadlineExceeded if the deadline ended it.
func (r *request) Err() error {
	r.mu.Lock()
	inner, cause := r.inner, r.cause
	r.mu.Unlock()
	if inner != nil {
		cause = context.Cause(inner)
	} else if cause == nil {
		return r.b.ctx.Err()
	}
	switch {
	case cause == nil:
		return nil
	case errors.Is(cause, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// Value knows the request itself, and the cause of the end.
func (r *request) Value(key any) any {
	if key == (requestKey{}) {
		return r
	}
	return r.context().Value(key)
}

func (r *request) context() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inner == nil {
		r.inner, r.stop = context.WithCancelCause(r.b.ctx)
		if r.cause != nil {
			r.stop(r.cause)
		}
	}
	return r.inner
}

func (r *request) cancel(cause error) {
	r.mu.Lock()
	if r.cause == nil {
		r.cause = cause
	}
	stop := r.stop
	r.mu.Unlock()
	if stop != nil {
		stop(cause)
	}
}

// begin sets the alarm.
func (r *request) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = r.arrived
	r.next()
}

// next sets the alarm for what comes first: telling the caller, or the deadline. The caller holds r.mu.
func (r *request) next() {
	at := r.deadline
	if r.m.Wire.Kind == KindCall && !r.mute {
		tell := r.told.Add(acceptAfter)
		if every := time.Duration(r.m.Wire.Monitor) / 2; every > 0 && !r.told.Equal(r.arrived) {
			tell = r.told.Add(every)
		} else if !r.told.Equal(r.arrived) {
			tell = time.Time{}
		}
		if !tell.IsZero() && (at.IsZero() || tell.Before(at)) {
			at = tell
		}
	}
	if !r.ended && !at.IsZero() {
		r.b.alarms.Set(&r.Alarm, at)
	}
}

func (r *request) name() string { return "run/" + r.m.ID }

// fire is the deadline, or the time to tell the caller that its call runs.
func (r *request) Fire() {
	r.mu.Lock()
	now := r.b.env.Clock.Now()
	over := !r.deadline.IsZero() && !now.Before(r.deadline)
	if r.ended || over {
		r.mu.Unlock()
		if over {
			r.cancel(context.DeadlineExceeded)
		}
		return
	}
	kind := KindBeat
	if r.told.Equal(r.arrived) {
		kind = KindAccepted
	}
	r.told = now
	r.next()
	r.mu.Unlock()
	a := &Message{ID: r.m.ID, Topic: r.m.Topic, Node: r.m.Wire.From, Method: r.m.Method,
		Wire: Wire{Kind: kind, To: r.m.Wire.Inc, From: r.b.node, Inc: r.b.inc}}
	r.b.back(a, r.deadline, func(err error) {
		if err != nil {
			r.silence()
		}
	})
}

// silence stops the telling.
func (r *request) silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = true
	r.b.alarms.Unset(&r.Alarm)
	r.next()
}

// end ends context and alarm.
func (r *request) end() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.b.alarms.Unset(&r.Alarm)
	r.cancel(context.Canceled)
}

// run is a worker's goroutine: everything from taking the message up to its reply.
func (r *request) run() {
	defer r.b.left()
	defer r.b.pool.finished(r)
	body, failure, answer := r.work()
	r.end()
	if answer && r.m.Wire.Kind == KindCall {
		r.b.reply(r.m, body, failure, r.deadline)
	}
}

func (r *request) work() (body []byte, failure string, answer bool) {
	if err := r.Err(); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			r.b.count.expired.Add(1)
		}
		return nil, "", false
	}
	if err := r.place(); err != nil {
		r.b.window.forget(r.m.ID)
		return nil, refusal(err, r.b.node), true
	}
	defer r.leave()
	body, failure = r.handle()
	return body, failure, true
}

// place takes a place at a limited endpoint.
func (r *request) place() error {
	if r.ep.Limit <= 0 {
		return nil
	}
	name := r.b.node + "/" + r.m.Topic + "/" + r.ep.Namespace
	if slices.Contains(r.m.Wire.Chain, name) {
		return &BusyError{"reentrant", time.Second}
	}
	if !r.ep.enter() {
		return busy("the endpoint's limit is reached")
	}
	r.holds = name
	return nil
}

func (r *request) leave() {
	if r.holds != "" {
		r.ep.leave()
	}
}

// chain are the limited endpoints that wait for what the handler calls.
func (r *request) chain() []string {
	if r.holds == "" {
		return r.m.Wire.Chain
	}
	return append(slices.Clip(r.m.Wire.Chain), r.holds)
}

// handle runs the handler: recover, span, identity, middleware, dispatcher.
func (r *request) handle() (body []byte, failure string) {
	b, m := r.b, r.m
	var ctx context.Context = r
	ctx = b.carried(ctx, m)
	ctx, span := b.meters.span(ctx, spanHandle, m, asServer)
	if m.Wire.Identity != "" && b.cfg.Identity.Extract != nil {
		ctx = b.cfg.Identity.Extract(ctx, m.Wire.Identity)
	}
	err := r.guarded(ctx)
	if span != nil {
		if err != nil {
			span.SetStatus(codes.Error, outcome(err))
		}
		span.End()
	}
	if err == nil {
		if len(r.body) > b.cfg.MaxBody {
			return nil, wireError{Code: CodeTooLarge, Node: b.node, Text: fmt.Sprintf("a reply of %d bytes, at most %d", len(r.body), b.cfg.MaxBody)}.json()
		}
		return r.body, ""
	}
	return nil, r.failed(ctx, err)
}

// failed logs err once, on the node that ran into it, and writes it down.
func (r *request) failed(ctx context.Context, err error) string {
	b, m := r.b, r.m
	var bad *decodeError
	if errors.As(err, &bad) {
		b.log.DebugContext(ctx, "a body that cannot be read", "topic", m.Topic, "method", m.Method, "from", m.Wire.From, "error", err)
		return refusal(err, b.node)
	}
	if full := new(BusyError); r.ep.Unbound && errors.As(err, &full) {
		b.window.forget(m.ID)
		return refusal(full, b.node)
	}
	log := b.log.With("topic", m.Topic, "method", m.Method, "from", m.Wire.From, "id", m.ID)
	var remote *RemoteError
	var panicked *panicError
	switch {
	case errors.As(err, &panicked):
		b.count.panics.Add(1)
		log.ErrorContext(ctx, "handler panicked", "panic", fmt.Sprint(panicked.value), "stack", string(panicked.stack))
		return wireError{Code: CodeInternal, Node: b.node, Text: "handler panicked"}.json()
	case isExpected(err, r.ep.Expect), errors.As(err, &remote):
		log.DebugContext(ctx, "handler failed", "error", err)
	default:
		log.ErrorContext(ctx, "handler failed", "error", err)
	}
	return handlerError(err, b.node)
}

// panicError is a recovered panic of a handler.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return "handler panicked" }

// guarded is the handler with its middleware; a panic or Goexit is an error.
func (r *request) guarded(ctx context.Context) (err error) {
	done := false
	defer func() {
		if v := recover(); v != nil || !done {
			err = &panicError{v, debug.Stack()}
		}
	}()
	var h Handler = (*innermost)(r)
	for i := len(r.b.cfg.Serve) - 1; i >= 0; i-- {
		h = r.b.cfg.Serve[i](h)
	}
	err = h.Handle(ctx, r.m)
	done = true
	return err
}

// innermost is a request as the handler that middleware goes around.
type innermost request

// Handle calls the method.
func (r *innermost) Handle(ctx context.Context, m *Message) error {
	body, err := r.f(ctx, m)
	if err == nil {
		r.body = body
	}
	return err
}

// SetReply sets what the call that ctx belongs to is answered, for middleware of Config.Serve that answers itself.
func SetReply(ctx context.Context, body []byte) {
	if r := requestOf(ctx); r != nil {
		r.body = body
	}
}

// waits gives the worker's slot back while the handler waits for a call of its own.
func (r *request) waits() {
	r.mu.Lock()
	r.waiting++
	first := r.waiting == 1
	r.mu.Unlock()
	if first {
		r.b.pool.pause(r)
	}
}

func (r *request) resumes() {
	r.mu.Lock()
	r.waiting--
	last := r.waiting == 0
	r.mu.Unlock()
	if last {
		r.b.pool.resume(r)
	}
}
