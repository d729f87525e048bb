package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/drover-cloud/drover"
)

// CommandFunc answers a command that an agent sends; its result is written as JSON.
type CommandFunc func(ctx context.Context, body json.RawMessage) (any, error)

// commands are the handlers of HandleCommand.
type commands struct {
	mu sync.RWMutex
	m  map[string]CommandFunc
}

// HandleCommand serves path to agents ([Server.Send]). A path is served once: a second time panics, as does an empty one.
func (c *Client) HandleCommand(path string, f CommandFunc) {
	c.commands.mu.Lock()
	defer c.commands.mu.Unlock()
	switch {
	case path == "" || f == nil:
		panic("agent: HandleCommand: no path or no function")
	case c.commands.m[path] != nil:
		panic("agent: HandleCommand: " + path + " is served already")
	case c.commands.m == nil:
		c.commands.m = map[string]CommandFunc{}
	}
	c.commands.m[path] = f
}

func (c *Client) serveCommand(w http.ResponseWriter, r *http.Request) {
	path := r.Header.Get(c.head().command)
	if path == "" {
		refuse(w, http.StatusBadRequest, codeMalformed, "no command path")
		return
	}
	if !proven(r, c.cfg.TLS, "") {
		refuse(w, http.StatusForbidden, codeForbidden, "no client certificate")
		return
	}
	c.commands.mu.RLock()
	f := c.commands.m[path]
	c.commands.mu.RUnlock()
	if f == nil {
		refuse(w, http.StatusNotFound, codeNotFound, "no such command")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(c.cfg.MaxBody)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, codeTooLarge, "the body is too large")
		return
	case err != nil, len(body) > 0 && !json.Valid(body):
		refuse(w, http.StatusBadRequest, codeMalformed, "the body is not JSON")
		return
	}
	v, err := guarded(func() (any, error) { return f(r.Context(), body) })
	var out []byte
	if err == nil {
		out, err = json.Marshal(v)
	}
	if err != nil {
		e := c.failed("command", path, err)
		refuse(w, http.StatusInternalServerError, e.Code, e.Text)
		return
	}
	write(w, http.StatusOK, out)
}

// guarded is f, with a panic as its error.
func guarded(f func() (any, error)) (v any, err error) {
	done := false
	defer func() {
		if p := recover(); p != nil || !done {
			v, err = nil, &drover.PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	v, err = f()
	done = true
	return v, err
}

// failed is a handler's error as it goes over the wire; a panic stays in the log.
func (c *Client) failed(what, path string, err error) *wireError {
	return wireFailure(c.env, what, path, err)
}

func wireFailure(env drover.Env, what, path string, err error) *wireError {
	var p *drover.PanicError
	if errors.As(err, &p) {
		env.Logger.Error("panic in a handler", "component", "agent", what, path, "panic", fmt.Sprintf("%T", p.Value), "stack", string(p.Stack))
		return &wireError{codeInternal, "handler panicked"}
	}
	code := codeInternal
	var coded interface{ ErrorCode() string }
	switch {
	case errors.As(err, &coded) && coded.ErrorCode() != "":
		code = coded.ErrorCode()
	case errors.Is(err, context.DeadlineExceeded):
		code = codeTimeout
	case errors.Is(err, context.Canceled):
		code = codeCancelled
	}
	return &wireError{cut(code, 64), cut(err.Error(), maxText)}
}

// failure is an envelope with an error.
func failure(code, text string) []byte {
	b, err := json.Marshal(envelope{Error: &wireError{cut(code, 64), cut(text, maxText)}})
	if err != nil {
		return nil
	}
	return b
}
