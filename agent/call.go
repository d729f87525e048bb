package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/drover-cloud/drover"
)

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
