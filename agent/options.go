package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Option is for calls; each says which.
type Option interface{ apply(o *options) }

type options struct {
	task       Task
	token      *token
	header     http.Header
	timeout    time.Duration
	idempotent bool

	// What options makes of the rest of a call.
	url      *url.URL
	body     []byte
	deadline time.Time
}

type option func(o *options)

func (f option) apply(o *options) { f(o) }

// Task is the id of a task: 1 to 255 printable ASCII characters, such as "job-7/attach". It is an [Option] of Call and Start too,
// agent.Task(job.ID + "/attach"): whoever sends a task of this id again, after a crash or at the same time, attaches to the one that
// runs, or gets the result of the one that has ended. That may be a failure: to have the agent try again, choose another id.
// Without one each call has an id of its own.
type Task string

func (t Task) apply(o *options) { o.task = t }

// Token fences a Call or Start: the agent refuses it with ErrStale if it has seen a higher token for name ("vm/42"). store and epoch
// are those of a lease.Token.
func Token(name, store string, epoch int64) Option {
	return option(func(o *options) { o.token = &token{name, store, epoch} })
}

// Header adds a header to what is sent.
func Header(name, value string) Option {
	return option(func(o *options) { o.header.Add(name, value) })
}

// Timeout ends a call d after it began, if ctx does not before; 0 is a real zero. Default Config.Timeout.
func Timeout(d time.Duration) Option {
	return option(func(o *options) { o.timeout = d })
}

// Idempotent lets a Post be sent again when it may have run already. Get, Put and Delete always are.
func Idempotent() Option { return option(func(o *options) { o.idempotent = true }) }

// options checks what all calls are given, and that there is time for one.
func (c *Client) options(ctx context.Context, to string, cmd any, opts []Option) (o *options, err error) {
	o = &options{timeout: c.cfg.Timeout, header: http.Header{}}
	for _, opt := range opts {
		opt.apply(o)
	}
	if o.timeout < 0 || o.timeout > maxTimeout {
		return nil, invalid("Timeout %v: want up to %v", o.timeout, maxTimeout)
	}
	if o.token != nil {
		if err := o.token.check(); err != nil {
			return nil, err
		}
	}
	for name, values := range o.header {
		if !isHeader(name, values) {
			return nil, invalid("header %.64q: cannot be sent", name)
		}
	}
	if o.url, err = parseURL(to); err != nil {
		return nil, err
	}
	if _, bare := cmd.(nothing); !bare {
		if o.body, err = json.Marshal(cmd); err != nil {
			return nil, invalid("%T cannot be written as JSON", cmd)
		}
		if len(o.body) > c.cfg.MaxBody {
			return nil, invalid("command of %d bytes: Config.MaxBody is %d", len(o.body), c.cfg.MaxBody)
		}
	}
	if c.refusing() {
		return nil, errDraining
	}
	if ctx.Err() != nil {
		return nil, ended(context.Cause(ctx), false)
	}
	now := c.env.Clock.Now()
	o.deadline = now.Add(o.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(o.deadline) {
		o.deadline = d
	}
	if o.deadline.Sub(now) <= noTime {
		return nil, errNoTime
	}
	return o, nil
}

// nothing is the body of requests that have none.
type nothing struct{}
