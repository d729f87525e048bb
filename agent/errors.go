package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Errors of every verb. NotRun tells what they mean for the agent's handler.
var (
	ErrInvalid  = errors.New("agent: invalid")
	ErrNotSent  = errors.New("agent: not sent")
	ErrTimeout  = errors.New("agent: deadline passed, outcome unknown")
	ErrTaskLost = errors.New("agent: task lost, outcome unknown") // the agent or its connection was lost, or nobody knows the task
	ErrBadReply = errors.New("agent: bad reply")                  // no JSON, refused by Validate, or too large; the handler has run
	ErrStale    = errors.New("agent: the fencing token is stale")
)

// NotRun reports that no handler has run and none will: what was sent may be sent again.
func NotRun(err error) bool {
	if errors.Is(err, ErrTimeout) || errors.Is(err, ErrTaskLost) {
		return false
	}
	var h *HTTPError
	if errors.As(err, &h) {
		return h.Status == http.StatusNotFound || h.Status == http.StatusTooManyRequests || h.Status == http.StatusServiceUnavailable
	}
	return errors.Is(err, ErrNotSent) || errors.Is(err, ErrStale) || errors.Is(err, ErrInvalid)
}

// HTTPError is an answer that is neither a result nor an acceptance. Body is its first 4 KiB, which Error leaves out.
type HTTPError struct {
	Status int
	Body   []byte
}

func (e *HTTPError) Error() string {
	return fmt.Sprintf("agent: HTTP %d %s", e.Status, http.StatusText(e.Status))
}

// RemoteError is the agent's own failure: its handler ran and did not succeed. Code is one of dispatch's taxonomy where the
// failure has one, else "internal".
type RemoteError struct{ Code, Text string }

func (e *RemoteError) Error() string { return "agent: " + e.Code + ": " + e.Text }

// ErrorCode is Code.
func (e *RemoteError) ErrorCode() string { return e.Code }

// Is reports whether target is what the code stands for: the agent may be the first to see that a token is stale, that the deadline
// has passed or that the caller has gone.
func (e *RemoteError) Is(target error) bool {
	switch target {
	case ErrStale:
		return e.Code == codeStale
	case ErrTimeout, context.DeadlineExceeded:
		return e.Code == codeTimeout
	case context.Canceled:
		return e.Code == codeCancelled
	}
	return false
}

const (
	codeInternal  = "internal"
	codeStale     = "stale-epoch"
	codeTimeout   = "timeout"
	codeCancelled = "cancelled"
	codeTooLarge  = "too-large"
	codeMalformed = "malformed"
	codeForbidden = "forbidden"
	codeNotFound  = "not-found"
	codeUnavail   = "resource-unavailable"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func because(kind, cause error) error { return fmt.Errorf("%w: %w", kind, cause) }

var (
	errTimeout   = because(ErrTimeout, context.DeadlineExceeded)
	errNoTime    = because(ErrNotSent, context.DeadlineExceeded)
	errDraining  = fmt.Errorf("%w: the client is draining", ErrNotSent)
	errCancelled = fmt.Errorf("agent: task cancelled, outcome unknown: %w", context.Canceled)
)

// ended is what a caller gets whose ctx has ended with cause, by whether the agent may have been reached.
func ended(cause error, sent bool) error {
	switch late := errors.Is(cause, context.DeadlineExceeded); {
	case !sent:
		return because(ErrNotSent, cause)
	case late:
		return because(ErrTimeout, cause)
	}
	return fmt.Errorf("agent: caller left, outcome unknown: %w", cause)
}

// outcome is a word for err.
func outcome(err error) string {
	var remote *RemoteError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	case errors.Is(err, ErrTaskLost):
		return "lost"
	case NotRun(err):
		return "not-run"
	case errors.Is(err, ErrBadReply):
		return "bad-reply"
	case errors.As(err, &remote):
		return "failed"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "error"
}
