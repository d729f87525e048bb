package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// deliverAfter is how long beyond a task's deadline its result is delivered.
const deliverAfter = 10 * time.Minute

// deliver begins to call back with t's result. The caller holds s.tab.
func (s *Server) deliver(t *task) {
	if t.callback == nil {
		s.settle(t)
		return
	}
	t.sending = true
	p := &backoff.ExponentialBackOff{InitialInterval: time.Second, Multiplier: 2, MaxInterval: 30 * time.Second, Clock: s.env.Clock, Stop: backoff.Stop}
	p.Reset()
	t.retry.policy = p
	s.client.errands.add(origin(t.callback), t.attempt)
}

// call has the next attempt made.
func (t *task) call() {
	t.s.tab.Lock()
	to := origin(t.callback)
	t.s.tab.Unlock()
	t.s.client.errands.add(to, t.attempt)
}

// attempt is one callback: 200, 400, 403 and 404 are the last.
func (t *task) attempt() {
	s := t.s
	s.tab.Lock()
	to, key := t.callback, t.key
	s.tab.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, headersWithin+connectWithin)
	h := http.Header{}
	h.Set(headerTask, t.id)
	h.Set(headerKey, key)
	a, err := s.client.exchange(ctx, &question{method: http.MethodPost, url: to, host: origin(to), header: h, body: t.reply})
	cancel()
	s.tab.Lock()
	defer s.tab.Unlock()
	now := s.env.Clock.Now()
	last := err == nil && (a.status/100 == 2 || a.status == http.StatusBadRequest || a.status == http.StatusNotFound || a.status == http.StatusForbidden)
	switch {
	case last && t.key != key: // the task was asked for again meanwhile, by somebody else
		s.client.errands.add(origin(t.callback), t.attempt)
		return
	case last && a.status/100 != 2:
		s.log.Warn("a result was not wanted", "task", t.id, "path", t.path, "host", to.Host, "status", a.status)
	case !last && s.ctx.Err() == nil && now.Before(t.deadline.Add(deliverAfter)):
		s.alarms.Set(&t.retry.Alarm, now.Add(t.retry.policy.NextBackOff()))
		return
	case !last && s.ctx.Err() == nil:
		s.log.Warn("a result could not be delivered", "task", t.id, "path", t.path, "host", to.Host)
	}
	t.sending = false
	s.settle(t)
}

// Send sends a command to a node, which answers with what its handler gives ([Client.HandleCommand]). nodeURL must be one of
// ServerConfig.Nodes. It has one try: ErrNotSent, ErrTaskLost if it may have arrived, *HTTPError.
func (s *Server) Send(ctx context.Context, nodeURL, path string, v any) (json.RawMessage, error) {
	u, err := baseURL(nodeURL)
	if err != nil {
		return nil, err
	}
	known := false
	for _, n := range s.nodes {
		known = known || origin(n) == origin(u) && n.Path == u.Path
	}
	if !known {
		return nil, invalid("node URL: none of ServerConfig.Nodes")
	}
	return s.client.command(ctx, u.String()+commandPath, path, v)
}

// command is a Post to a node.
func (c *Client) command(ctx context.Context, to, path string, v any) (out json.RawMessage, err error) {
	if !isText(path, maxName) {
		return nil, invalid("command path %.64q: want 1 to %d bytes of printable UTF-8", path, maxName)
	}
	err = c.direct(ctx, http.MethodPost, to, v, []Option{Header(headerCommand, path)}, &out)
	return out, err
}
