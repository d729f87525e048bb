package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/drover-cloud/drover"
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

// Call has the agent run a task, POST cmd to url, and waits for its result, until the earlier of ctx's end and the timeout. Its
// error is ErrTimeout or the cause of ctx, and the agent is told to stop; ErrTaskLost if the agent was restarted; ErrNotSent,
// ErrStale, *HTTPError if it did not take the task, ErrBadReply if its answer is none; a *RemoteError is the handler's own.
func Call[Rsp any](ctx context.Context, c *Client, url string, cmd any, opts ...Option) (Rsp, error) {
	var rsp Rsp
	if err := c.call(ctx, url, cmd, opts, &rsp); err != nil {
		return *new(Rsp), err
	}
	return rsp, nil
}

// Start is the first half of Call: it returns when the agent has accepted the task, and Wait gives the result. Without
// Config.Pending that is kept for the first Wait on this node, 10 minutes beyond the task's deadline.
func (c *Client) Start(ctx context.Context, url string, cmd any, opts ...Option) (Task, error) {
	e, o, err := c.prepare(ctx, url, cmd, opts, true)
	if err != nil {
		return "", err
	}
	if err := c.send(ctx, e, o); err != nil && e.ctx.Err() == nil {
		e.keepResult(false)
		if e.leave(false) {
			c.fail(e, err)
		}
		return "", err
	}
	e.leave(false)
	return e.task, nil
}

// Wait is the second half of Call, on any node where there is Config.Pending, and any number of times. Its ctx ends the waiting, not
// the task. A task that nobody knows is ErrTaskLost.
func Wait[Rsp any](ctx context.Context, c *Client, task Task) (Rsp, error) {
	var rsp Rsp
	e, err := c.find(ctx, task)
	if err == nil {
		err = c.watch(ctx, e, e.deadline, nil).result(&rsp)
	}
	if err != nil {
		return *new(Rsp), err
	}
	return rsp, nil
}

// Cancel tells the agent to stop a task. Whoever waits for it gets context.Canceled, or the result if there is one already.
func (c *Client) Cancel(ctx context.Context, task Task) error {
	e, err := c.find(ctx, task)
	if err != nil {
		return err
	}
	defer e.leave(false)
	if c.cfg.Compat != ZStack && e.ctx.Err() == nil {
		a, err := c.exchange(ctx, e.cancelling())
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return because(ErrNotSent, plain(err))
		case a.status == http.StatusOK: // done: its result is on its way
			c.errands.add(e.host(), e.poll)
			return nil
		case a.status != http.StatusAccepted && a.status != http.StatusNotFound:
			return a.httpError()
		}
	}
	c.finish(e, result{err: errCancelled})
	return nil
}

// call is Call, with the result in v.
func (c *Client) call(ctx context.Context, url string, cmd any, opts []Option, v any) error {
	w, err := c.launch(ctx, url, cmd, opts)
	if err != nil {
		return err
	}
	return w.result(v)
}

// launch is call up to the waiting, of which there may be thousands: it keeps no more than that needs.
func (c *Client) launch(ctx context.Context, url string, cmd any, opts []Option) (*watch, error) {
	e, o, err := c.prepare(ctx, url, cmd, opts, false)
	if err != nil {
		return nil, err
	}
	ctx, k := c.begun(ctx, e.url)
	if err := c.send(ctx, e, o); err != nil && ctx.Err() == nil {
		c.fail(e, err)
	}
	return c.watch(ctx, e, o.deadline, k), nil
}

// fail ends e with what went wrong with its sending.
func (c *Client) fail(e *entry, err error) {
	var answered *HTTPError
	if c.finish(e, result{err: err}) && !NotRun(err) && !errors.As(err, &answered) {
		c.cancelLater(e)
	}
}

// watch is a caller that waits for a result.
type watch struct {
	e     *entry
	ctx   context.Context
	call  *call // nil: it has not begun the task, and its end is not the task's
	late  <-chan time.Time
	wake  <-chan struct{}
	stop  func()
	cause error // why it waits no longer
}

func (c *Client) watch(ctx context.Context, e *entry, deadline time.Time, k *call) *watch {
	w := &watch{e: e, ctx: ctx, call: k, stop: func() {}}
	if deadline.Before(e.deadline) {
		w.late = c.env.Clock.After(deadline.Sub(c.env.Clock.Now()))
	}
	if c.cfg.Pending != nil && c.cfg.Notify != nil {
		w.wake, w.stop = c.cfg.Notify.Wake(Topic(string(e.task)))
	}
	return w
}

// result waits, and puts the result in v.
func (w *watch) result(v any) error {
	w.wait()
	return w.end(v)
}

func (w *watch) wait() {
	for w.cause == nil && w.e.ctx.Err() == nil {
		select {
		case <-w.e.ctx.Done():
		case <-w.ctx.Done():
			w.cause = context.Cause(w.ctx)
		case <-w.late:
			w.cause = context.DeadlineExceeded
		case <-w.wake:
			_ = w.e.c.look(w.ctx, []string{string(w.e.task)}) // the next look is within a second
		}
	}
}

func (w *watch) end(v any) (err error) {
	w.stop()
	if w.call != nil {
		defer func() { w.call.end(w.ctx, err) }()
	}
	e := w.e
	if e.ctx.Err() != nil {
		defer e.leave(true)
		if r := e.result(); r.err == nil {
			return decode(r.body, v)
		} else {
			return r.err
		}
	}
	sent := e.reached()
	err = ended(w.cause, sent)
	if e.leave(false) && e.c.finish(e, result{err: err}) && w.call != nil && sent {
		e.c.cancelLater(e)
	}
	return err
}

// find joins the entry of a task that this node knows, or the store.
func (c *Client) find(ctx context.Context, task Task) (*entry, error) {
	if err := checkTask(string(task)); err != nil {
		return nil, err
	}
	c.tab.Lock()
	e := c.tasks[task]
	if e != nil {
		e.waiters++
	}
	c.tab.Unlock()
	if e != nil {
		return e, nil
	}
	if c.cfg.Pending == nil {
		return nil, fmt.Errorf("%w: nobody knows %s", ErrTaskLost, task)
	}
	f, err := c.stored(ctx, task)
	switch {
	case ctx.Err() != nil:
		return nil, ended(context.Cause(ctx), true)
	case err != nil:
		return nil, fmt.Errorf("agent: task %s: %w", task, err)
	case f == nil:
		return nil, fmt.Errorf("%w: nobody knows %s", ErrTaskLost, task)
	}
	u, err := parseURL(f.URL)
	if err != nil {
		return nil, fmt.Errorf("agent: task %s: %w", task, err)
	}
	e, joined := c.enter(task, func(e *entry) { e.url, e.deadline, e.key = u, f.deadline, f.Key })
	if f.Done {
		c.finish(e, parseResult(f.Reply))
	} else if !joined {
		e.accept(f.Agent)
	}
	return e, nil
}

// prepare checks everything and enters the task.
func (c *Client) prepare(ctx context.Context, to string, cmd any, opts []Option, start bool) (*entry, *options, error) {
	o, err := c.options(ctx, to, cmd, opts)
	switch {
	case err != nil:
		return nil, nil, err
	case c.callback == nil:
		return nil, nil, invalid("Config.Callback: required for Call and Start")
	}
	if o.task == "" {
		o.task = Task(c.env.NewID())
	}
	if err := checkTask(string(o.task)); err != nil {
		return nil, nil, err
	}
	e, joined := c.enter(o.task, func(e *entry) {
		e.url, e.deadline, e.secret, e.started = o.url, o.deadline, newKey(), start
		e.key = hashKey(e.secret)
	})
	if joined && start {
		e.keepResult(true)
	}
	return e, o, nil
}

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

// send has the agent accept e, unless it has already. Its error is e's result; nil says that that is to be awaited.
func (c *Client) send(ctx context.Context, e *entry, o *options) error {
	secret := e.toSend()
	if secret == "" { // a caller before us did, or another node
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	known := c.agentAt(e.host())
	done, err := c.keep(ctx, e, known)
	switch {
	case e.ctx.Err() != nil:
		return nil
	case ctx.Err() != nil:
		return ended(context.Cause(ctx), e.reached())
	case err != nil:
		return because(ErrNotSent, err)
	case done != nil:
		c.finish(e, *done)
		return nil
	}
	a, err := c.ask(ctx, c.question(e, o, secret))
	if e.ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = c.answered(ctx, e, a)
	}
	if err != nil || c.cfg.Pending == nil || e.ctx.Err() != nil {
		return err
	}
	if agent := agentOf(a.header); agent != known {
		done, err := c.keep(ctx, e, agent)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("it could not be stored which agent has a task", "task", string(e.task), "error", err)
		}
		if done != nil {
			c.finish(e, *done)
		}
	}
	return nil
}

// question is the request of e.
func (c *Client) question(e *entry, o *options, secret string) *question {
	h := o.header.Clone()
	h.Set(c.head().task, string(e.task))
	if c.cfg.Compat == ZStack {
		h.Set(c.head().callback, c.callback.String()+callbackPath+"/"+secret)
	} else {
		h.Set(headerCallback, c.callback.String()+callbackPath)
		h.Set(headerKey, secret)
	}
	if o.token != nil {
		h.Set(headerToken, o.token.String())
	}
	return &question{method: http.MethodPost, url: e.url, host: e.host(), header: h, body: o.body, deadline: e.deadline, timed: c.cfg.Compat != ZStack,
		entry: e, again: func(a *answer) bool {
			return a == nil || a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable
		}}
}

// answered is the agent's answer to a task.
func (c *Client) answered(ctx context.Context, e *entry, a *answer) error {
	agent := agentOf(a.header)
	switch env, ok := a.envelope(); {
	case c.cfg.Compat == ZStack && a.status/100 == 2:
		e.accept("")
	case a.status/100 != 2:
		return a.httpError()
	case a.large:
		return errTooLarge
	case a.status == http.StatusAccepted && ok && (env.Task == "" || env.Task == string(e.task)):
		e.accept(agent)
	case a.status == http.StatusOK && ok:
		e.accept(agent)
		c.reply(ctx, e, a.body)
	default:
		return errNotJSON
	}
	return nil
}

func (c *Client) agentAt(host string) string {
	c.tab.Lock()
	defer c.tab.Unlock()
	return c.agents[host]
}

// drainer is what the compiler holds Client and Server to.
var _, _ drover.Drainer = (*Client)(nil), (*Server)(nil)
