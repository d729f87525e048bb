package bus

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// CallOption is for Call, Cast, Scatter, Publish and Subscribe; each says which.
type CallOption func(*callOptions)

type callOptions struct {
	timeout   time.Duration
	timed     bool
	monitor   time.Duration
	monitored bool
	retry     func() backoff.BackOff
	onReply   func(i int, r Reply)
	local     bool
	once      bool
	as        string
}

var noOptions callOptions // never written

func optionsFrom(opts []CallOption) *callOptions {
	if len(opts) == 0 {
		return &noOptions
	}
	o := new(callOptions)
	for _, f := range opts {
		f(o)
	}
	return o
}

// Timeout ends a Call or Cast d after it began, if ctx does not before; 0 is a real zero. Default Config.Timeout.
func Timeout(d time.Duration) CallOption {
	return func(o *callOptions) { o.timeout, o.timed = d, true }
}

// Monitor makes a Call fail with ErrNodeLost when its receiver, once it has said that the call runs, is silent for d, at least
// 2 s. It has no effect if d is not below the timeout. Calls of more than 60 s have Monitor(30s) unasked.
func Monitor(d time.Duration) CallOption {
	return func(o *callOptions) { o.monitor, o.monitored = d, true }
}

// Retry sends a Call or Cast again while it surely has not run (NotRun, but for ErrInvalid and ErrUnsupported), after the
// delays of a fresh policy and within the deadline.
func Retry(policy func() backoff.BackOff) CallOption {
	return func(o *callOptions) { o.retry = policy }
}

// OnReply is called by Scatter with each reply as it arrives, one call at a time.
func OnReply(f func(i int, r Reply)) CallOption { return func(o *callOptions) { o.onReply = f } }

// LocalOnly keeps a Publish within the process.
func LocalOnly() CallOption { return func(o *callOptions) { o.local = true } }

// Once ends a subscription with its first event.
func Once() CallOption { return func(o *callOptions) { o.once = true } }

// As names a subscription: of those with one id, each event reaches the most specific only.
func As(id string) CallOption { return func(o *callOptions) { o.as = id } }

type optionsKey struct{}

// optionsOf is for the innermost Sender of Config.Send.
func optionsOf(ctx context.Context) *callOptions {
	if o, ok := ctx.Value(optionsKey{}).(*callOptions); ok {
		return o
	}
	return &noOptions
}

type detachKey struct{}

// detached is ctx without its end: identity, trace and chain stay.
type detached struct {
	context.Context
	until context.Context
}

func (d detached) Deadline() (time.Time, bool) { return d.until.Deadline() }
func (d detached) Done() <-chan struct{}       { return d.until.Done() }
func (d detached) Err() error                  { return d.until.Err() }
func (d detached) Value(key any) any {
	if key == (detachKey{}) {
		return true
	}
	return d.Context.Value(key)
}

const defaultGrace = 30 * time.Minute

// Detach is ctx with another end: grace from now, 0 = 30 minutes. It keeps identity, trace and what it was called for. It is
// for compensation only: what else is sent ends with who asked for it.
func Detach(ctx context.Context, grace time.Duration) context.Context {
	if grace <= 0 {
		grace = defaultGrace
	}
	until, cancel := context.WithTimeout(context.Background(), grace)
	context.AfterFunc(until, cancel)
	return detached{context.WithoutCancel(ctx), until}
}
