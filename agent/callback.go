package agent

import (
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// serveCallback takes a result. key is that of the path, on ZStack's wire.
func (c *Client) serveCallback(w http.ResponseWriter, r *http.Request, key string) {
	status, text := c.called(r, key)
	c.meters.callback(r.Context(), status)
	if status == http.StatusOK {
		writeJSON(w, status, envelope{})
		return
	}
	code := map[int]string{http.StatusForbidden: codeForbidden, http.StatusNotFound: codeNotFound, http.StatusServiceUnavailable: codeUnavail}[status]
	if code == "" {
		code = codeMalformed
	}
	refuse(w, status, code, text)
}

func (c *Client) called(r *http.Request, key string) (status int, text string) {
	task := Task(r.Header.Get(c.head().task))
	if c.cfg.Compat != ZStack {
		key = r.Header.Get(headerKey)
	}
	if task == "" {
		return http.StatusBadRequest, "no task id"
	}
	if !proven(r, c.cfg.TLS, "") {
		return http.StatusForbidden, "no client certificate"
	}
	e, match, known := c.known(task, key)
	switch {
	case e != nil && match:
		if c.cfg.HostOf != nil && !proven(r, c.cfg.TLS, c.cfg.HostOf(e.url.String())) {
			return http.StatusForbidden, "the certificate is another host's"
		}
	case c.cfg.Pending != nil: // the store knows: it was sent by another node, or with another key, or nobody waits here any more
	case known && match:
		return http.StatusOK, "" // it has ended: repeated, or too late
	case known:
		c.log.Warn("a callback with a wrong key", "task", string(task), "from", r.RemoteAddr)
		return http.StatusForbidden, "wrong key"
	default:
		c.strays.add(Stray{At: c.env.Clock.Now(), Task: cut(string(task), maxTask), From: r.RemoteAddr}, r.Body)
		return http.StatusNotFound, "no such task"
	}
	if !match {
		e = nil
	}
	body, err := c.callbackBody(r)
	var read *http.MaxBytesError
	if err != nil && !errors.As(err, &read) {
		return http.StatusBadRequest, "the body ends early" // which nobody reads: the connection has broken
	}
	if c.cfg.Pending != nil {
		return c.calledStored(r, task, key, e, body)
	}
	res := parseResult(body)
	if err != nil {
		res = result{err: errTooLarge}
	}
	c.finish(e, res)
	return http.StatusOK, ""
}

// known tells what this node knows of a task: its entry while it is outstanding, and whether key is its key.
func (c *Client) known(task Task, key string) (e *entry, match, known bool) {
	hash := hashKey(key)
	c.tab.Lock()
	defer c.tab.Unlock()
	if e = c.tasks[task]; e != nil && !e.ended {
		return e, subtle.ConstantTimeCompare(hash[:], e.key[:]) == 1, true
	}
	p, known := c.past.get(task)
	return nil, known && subtle.ConstantTimeCompare(hash[:], p.key[:]) == 1, known
}

// calledStored is a callback whose result goes into the store: at any node.
func (c *Client) calledStored(r *http.Request, task Task, key string, e *entry, body []byte) (status int, text string) {
	reply := storable(body)
	if c.cfg.HostOf != nil && e == nil {
		f, err := c.stored(r.Context(), task)
		if err != nil {
			return http.StatusServiceUnavailable, "the store does not answer"
		}
		if f != nil && !proven(r, c.cfg.TLS, c.cfg.HostOf(f.URL)) {
			return http.StatusForbidden, "the certificate is another host's"
		}
	}
	v, res, err := c.settle(r.Context(), task, key, reply)
	switch {
	case err != nil:
		c.log.Warn("a result could not be stored", "task", string(task), "error", err)
		return http.StatusServiceUnavailable, "the store does not answer"
	case v == forbidden:
		c.log.Warn("a callback with a wrong key", "task", string(task), "from", r.RemoteAddr)
		return http.StatusForbidden, "wrong key"
	case v == unknown:
		c.strays.add(Stray{At: c.env.Clock.Now(), Task: cut(string(task), maxTask), From: r.RemoteAddr, Body: body[:min(len(body), maxText)]}, nil)
		return http.StatusNotFound, "no such task"
	}
	if e != nil {
		c.finish(e, res)
	}
	return http.StatusOK, ""
}

// callbackBody reads the body as an envelope; ZStack's agents send the bare result, or a header that tells of an error.
func (c *Client) callbackBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, int64(c.cfg.MaxBody)))
	if err != nil {
		return nil, err
	}
	if c.cfg.Compat != ZStack {
		return body, nil
	}
	if text := r.Header.Get("error"); text != "" {
		return failure(codeInternal, text), nil
	}
	if len(body) == 0 {
		body = []byte("null")
	}
	return wrapped(body), nil
}

// Stray is a callback for a task that nobody knows, kept to find out why.
type Stray struct {
	At         time.Time
	Task, From string
	Body       []byte // its first 4 KiB
}

const straysMost = 128

// strays are the last ones.
type strays struct {
	mu   sync.Mutex
	ring []Stray
}

func (s *strays) add(x Stray, body io.Reader) {
	if body != nil {
		x.Body, _ = io.ReadAll(io.LimitReader(body, maxText)) // as much as there is
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) == straysMost {
		s.ring = append(s.ring[:0], s.ring[1:]...)
	}
	s.ring = append(s.ring, x)
}

// Strays are the last 128 callbacks for tasks that nobody knows, oldest first.
func (c *Client) Strays() []Stray {
	c.strays.mu.Lock()
	defer c.strays.mu.Unlock()
	return slices.Clone(c.strays.ring)
}
