package drover

import (
	"errors"
	"time"
)

// GroupOption is an option of Group.Add and Group.Replicate.
type GroupOption func(*groupOptions)

type groupOptions struct {
	restart                bool
	delay                  func() time.Duration // nil = the default policy
	stop, ready            time.Duration        // 0 = default
	afterReady, background bool
	needs                  []string
}

func newOptions(opts []GroupOption) (o groupOptions) {
	for _, f := range opts {
		f(&o)
	}
	return o
}

// Restart runs the component again after an error or a panic, once b's delay has passed; a nil return or a Permanent
// error is final. b is called once per failure, and a negative delay (backoff.Stop of cenkalti/backoff) gives up with
// ErrRestarts, which stops the Group; replicas share it. Nil is a Policy{} of each component's own, on the Group's Clock
// and Rand. The component must be a Func or come from Replicate, so that there is a new value to run.
func Restart(b func() time.Duration) GroupOption {
	return func(o *groupOptions) { o.restart, o.delay = true, b }
}

// StopTimeout is how long the Group waits for the component after cancelling it before it reports ErrStuck and goes on;
// 0 means the component's own (Stopper), else 10 s.
func StopTimeout(d time.Duration) GroupOption { return func(o *groupOptions) { o.stop = d } }

// ReadyTimeout is how long a Readier may take; 0 means 60 s.
func ReadyTimeout(d time.Duration) GroupOption { return func(o *groupOptions) { o.ready = d } }

// AfterReady starts the component only when all the others are ready.
func AfterReady() GroupOption { return func(o *groupOptions) { o.afterReady = true } }

// Background lets the component return nil without stopping the others.
func Background() GroupOption { return func(o *groupOptions) { o.background = true } }

// Needs names components (or a Replicate) that must have been added before this one, else Run gives ErrConfig.
func Needs(names ...string) GroupOption {
	return func(o *groupOptions) { o.needs = append(o.needs, names...) }
}

// componentError is an error of a component of a Group, under its name.
type componentError struct {
	name string
	err  error
}

func (e *componentError) Error() string { return "drover: " + e.name + ": " + e.err.Error() }
func (e *componentError) Unwrap() error { return e.err }

// named puts a component's name to err, if there is one; names of a Group in a Group join with a slash.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && allNamed(joined.Unwrap()) {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, named(name, e))
		}
		return errors.Join(errs...)
	}
	if in, ok := err.(*componentError); ok {
		return &componentError{name + "/" + in.name, in.err}
	}
	return &componentError{name, err}
}

func allNamed(errs []error) bool {
	for _, e := range errs {
		if _, ok := e.(*componentError); !ok {
			return false
		}
	}
	return true
}
