package job

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/errtext"
)

// permanentError fails a job at once.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return errtext.Of(e.err) }
func (e *permanentError) Unwrap() error { return e.err }

// againError runs a job again.
type againError struct{ d time.Duration }

func (e *againError) Error() string { return "job: again in " + e.d.String() }

// Permanent marks err, which may be wrapped, as not worth a retry: the job fails now. An error of backoff.Permanent counts
// as well. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// Again is returned by a handler, wrapped or not, to run again in d, at least 10 ms. It spends no attempt, and the job keeps
// its turn.
func Again(d time.Duration) error { return &againError{d} }

func isPermanent(err error) bool {
	var p *permanentError
	var b *backoff.PermanentError
	return errors.As(err, &p) || errors.As(err, &b) || drover.IsPermanent(err)
}
