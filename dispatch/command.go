package dispatch

import (
	"context"
	"slices"
)

// Command is a named request with string parameters, as a face made it. Dispatch works on a copy: it may be used again, and by
// several goroutines.
type Command struct {
	Name    string            // compared with letter case
	Version string            // "" = the newest that is not deprecated
	Params  map[string]string // read, never changed; names compare without letter case
	Caller  any               // whatever the host's authentication made
	Idem    string            // async: the same Idem of the same account and command again gives the first answer
	JobID   string            // async: the job's id, a UUID chosen by the caller; again gives the first answer
	Strict  bool              // unknown parameters are Invalid, not only warned of
	Value   any               // the typed command, a pointer to its struct, once bound
}

// Handler does something with a command.
type Handler interface {
	Dispatch(ctx context.Context, c *Command) (any, error)
}

// HandlerFunc is a function as Handler.
type HandlerFunc func(ctx context.Context, c *Command) (any, error)

// Dispatch calls f.
func (f HandlerFunc) Dispatch(ctx context.Context, c *Command) (any, error) { return f(ctx, c) }

// Stage is middleware, exactly as in net/http: it wraps the next Handler. A stage that returns an error without calling
// next ends the chain.
type Stage func(next Handler) Handler

// Chain composes stages around h; the first is outermost.
func Chain(h Handler, stages ...Stage) Handler {
	for _, s := range slices.Backward(stages) {
		h = s(h)
	}
	return h
}
