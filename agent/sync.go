package agent

import (
	"context"
	"net/http"
)

// Get asks url for JSON, synchronously, with five tries. No answer is ErrNotSent, or ErrTaskLost if the request may have arrived;
// what is not 2xx is an *HTTPError.
func Get[Rsp any](ctx context.Context, c *Client, url string, opts ...Option) (Rsp, error) {
	return direct[Rsp](ctx, c, http.MethodGet, url, nothing{}, opts)
}

// Post is Get with a body; it has one try, or five with Idempotent.
func Post[Rsp any](ctx context.Context, c *Client, url string, body any, opts ...Option) (Rsp, error) {
	return direct[Rsp](ctx, c, http.MethodPost, url, body, opts)
}

// Put is Get with a body.
func Put[Rsp any](ctx context.Context, c *Client, url string, body any, opts ...Option) (Rsp, error) {
	return direct[Rsp](ctx, c, http.MethodPut, url, body, opts)
}

// Delete is Get by that method.
func Delete[Rsp any](ctx context.Context, c *Client, url string, opts ...Option) (Rsp, error) {
	return direct[Rsp](ctx, c, http.MethodDelete, url, nothing{}, opts)
}

func direct[Rsp any](ctx context.Context, c *Client, method, url string, body any, opts []Option) (Rsp, error) {
	var rsp Rsp
	if err := c.direct(ctx, method, url, body, opts, &rsp); err != nil {
		return *new(Rsp), err
	}
	return rsp, nil
}

func (c *Client) direct(ctx context.Context, method, to string, body any, opts []Option, v any) (err error) {
	o, err := c.options(ctx, to, body, opts)
	if err != nil {
		return err
	}
	ctx, k := c.begun(ctx, o.url)
	defer func() { k.end(ctx, err) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &deadline{cancel: cancel}
	d.Owner = d
	c.alarms.Set(&d.Alarm, o.deadline)
	defer c.alarms.Unset(&d.Alarm)
	if o.token != nil {
		o.header.Set(headerToken, o.token.String())
	}
	repeatable := o.idempotent || method != http.MethodPost
	a, err := c.ask(ctx, &question{method: method, url: o.url, host: origin(o.url), header: o.header, body: o.body, deadline: o.deadline,
		timed: c.cfg.Compat != ZStack, again: func(a *answer) bool { return repeatable && (a == nil || passing(a.status)) }})
	switch {
	case err != nil:
		return err
	case a.status/100 != 2:
		return a.httpError()
	case a.large:
		return errTooLarge
	case len(a.body) == 0:
		return nil
	}
	return decode(a.body, v)
}

// passing are the statuses of those who may answer another time.
func passing(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Ready asks the agent at url (any of its URLs) for an echo, one second apart and at most 5 s each, until it answers or ctx ends,
// whose cause it gives. On ZStack's wire it posts to url itself.
func (c *Client) Ready(ctx context.Context, url string) error {
	u, err := parseURL(url)
	if err != nil {
		return err
	}
	q := &question{method: http.MethodGet, url: beside(u, echoPath), host: origin(u)}
	if c.cfg.Compat == ZStack {
		q.method, q.url = http.MethodPost, u
	}
	for {
		try, cancel := context.WithTimeout(ctx, echoWithin)
		a, err := c.exchange(try, q)
		cancel()
		if err == nil && a.status == http.StatusOK {
			return nil
		}
		if err := c.env.Sleep(ctx, echoEvery); err != nil {
			return err
		}
	}
}
