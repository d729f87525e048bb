package periodic

import (
	"errors"

	"github.com/drover-cloud/drover"
)

// Errors of this package; what concerns a task wraps one of them and names the task.
var (
	ErrSchedule  = errors.New("periodic: bad schedule")
	ErrName      = errors.New("periodic: bad name")
	ErrDuplicate = errors.New("periodic: duplicate name")
	ErrTask      = errors.New("periodic: bad task")
	ErrUnknown   = errors.New("periodic: no such task")
	ErrTimeout   = errors.New("periodic: timeout")      // cause of a run's ctx at its Timeout or Limit
	ErrBudget    = errors.New("periodic: out of time")  // a backoff loop without progress
	ErrLost      = errors.New("periodic: session lost") // cause of a singleton's ctx when its session is over
	ErrNever     = errors.New("periodic: never due")

	// ErrPanic is a run that panicked or called runtime.Goexit, a *drover.PanicError.
	ErrPanic = drover.ErrPanic

	// Done, returned by a task, also wrapped, ends the task: it is finished, which is no failure.
	Done = errors.New("periodic: done") //nolint:staticcheck // a result, not an error, as io.EOF
)
