package periodic

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
)

// pacer works out the delay after a run from what the run told.
type pacer interface {
	// begin is called with the Env of the Set.
	begin(drover.Env)
	// after is the delay; false: there is no further run.
	after(res result, err error) (time.Duration, bool)
}

// result is what a run tells besides its error.
type result struct {
	idle     time.Duration
	progress bool
}

const (
	chosenDefault = time.Minute
	chosenFloor   = time.Millisecond
	errorFirst    = time.Second
	errorMax      = time.Minute
)

// chosen is the pace of Adaptive.
type chosen struct{ errors int }

func (*chosen) begin(drover.Env) {}

func (c *chosen) after(res result, err error) (time.Duration, bool) {
	if err == nil {
		c.errors = 0
	} else {
		c.errors++
	}
	switch {
	case res.idle < 0:
		return chosenDefault, true
	case err != nil && res.idle == 0:
		return min(errorFirst<<min(c.errors-1, 10), errorMax), true
	}
	return max(res.idle, chosenFloor), true
}

// retreat is the pace of Backoff.
type retreat struct {
	make func() backoff.BackOff
	b    backoff.BackOff
}

func (r *retreat) begin(e drover.Env) { r.b = fresh(r.make, e) }

func (r *retreat) after(res result, _ error) (time.Duration, bool) {
	if res.progress {
		r.b.Reset()
	}
	d := r.b.NextBackOff()
	return d, d != backoff.Stop
}

// ceiling bounds a pace.
type ceiling struct {
	pacer
	max time.Duration
}

func (c ceiling) after(res result, err error) (time.Duration, bool) {
	d, ok := c.pacer.after(res, err)
	return min(d, c.max), ok
}

// worthwhile says whether a retry may mend err.
func worthwhile(err error, on []error) bool {
	if errors.Is(err, Done) || errors.Is(err, ErrPanic) || drover.IsPermanent(err) {
		return false
	}
	for _, e := range on {
		if errors.Is(err, e) {
			return true
		}
	}
	return len(on) == 0
}
