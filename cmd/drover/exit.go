package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

// Exit codes; see the package doc.
const (
	badEnd      = 1
	badUsage    = 2
	notFound    = 3
	refused     = 4
	unreachable = 5
	timedOut    = 6
	interrupted = 130
)

// errTimeout is the cause of a ctx that -timeout ended.
var errTimeout = errors.New("-timeout passed")

// coded is an error with its exit code. A nil err has been told already.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}
func (e *coded) Unwrap() error { return e.err }

func failure(code int, format string, args ...any) error {
	return &coded{code, fmt.Errorf(format, args...)}
}

func usage(format string, args ...any) error { return failure(badUsage, format, args...) }

// codeOf is the exit code that err asks for.
func codeOf(err error) int {
	var c *coded
	var field *job.FieldError
	var exit cli.ExitCoder
	switch {
	case err == nil:
		return 0
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, job.ErrNotFound), errors.Is(err, store.ErrNotFound):
		return notFound
	case errors.As(err, &field) && field.Field != "State", errors.Is(err, syncqueue.ErrInvalid), errors.Is(err, drover.ErrConfig):
		return badUsage
	case errors.Is(err, job.ErrInvalid), errors.Is(err, job.ErrFinished), errors.Is(err, job.ErrNotCancellable), errors.Is(err, job.ErrDraining),
		errors.Is(err, store.ErrConflict), errors.Is(err, sqlite.ErrSchema), errors.Is(err, postgres.ErrSchema):
		return refused
	case errors.As(err, &exit): // of the flag parser
		return badUsage
	}
	return unreachable
}

// exit tells err on stderr and answers the code.
func (a *app) exit(ctx context.Context, err error) int {
	if closedPipe(err) {
		return 0 // the reader has what it wanted
	}
	var c *coded
	if err != nil && !errors.As(err, &c) {
		if a.ctx != nil {
			ctx = a.ctx
		}
		if ctx.Err() != nil {
			err = ended(ctx)
		}
	}
	if !errors.As(err, &c) || c.err != nil {
		a.complain(err)
	}
	return codeOf(err)
}

// ended is the error of a command whose ctx has ended.
func ended(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return failure(timedOut, "%w", errTimeout)
	}
	return &coded{interrupted, nil}
}

// complain writes an error to stderr.
func (a *app) complain(err error) {
	if err != nil {
		fmt.Fprintf(a.stderr, "drover: %s\n", clean(err.Error()))
	}
}

// note writes a remark to stderr, unless -q.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, "drover: %s\n", clean(fmt.Sprintf(format, args...)))
	}
}

// outputError is an error of writing to stdout.
type outputError struct{ error }

func (e outputError) Unwrap() error { return e.error }

func closedPipe(err error) bool {
	var out outputError
	return errors.As(err, &out) && (errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe))
}

// withTimeout bounds ctx by -timeout, if it is set.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, d, errTimeout)
}
