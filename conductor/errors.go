package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Errors of this package; those of the stores and components come through as they are.
var (
	// ErrShape: a transaction does what could not run remotely: anything after an operation that commits, or a read after a
	// write of the same row. It names both methods.
	ErrShape = errors.New("conductor: a transaction of this shape cannot run remotely")
	// ErrUnknown: the time ended before anybody said whether the commit happened. Read again before deciding.
	ErrUnknown = errors.New("conductor: outcome unknown")
	// ErrNoConductor: no server answers. Nothing happened.
	ErrNoConductor = errors.New("conductor: no server answers")
	// ErrVersion: a value cannot be told to a peer of this version.
	ErrVersion = errors.New("conductor: no form for this version")
	// ErrDenied: this host may not do that. Nothing happened.
	ErrDenied = errors.New("conductor: denied")
	// ErrConfig: a field of a Config is out of its bounds. It is [drover.ErrConfig] too.
	ErrConfig = fmt.Errorf("conductor: %w", drover.ErrConfig)
)

var errInvalid = fmt.Errorf("conductor: %w", bus.ErrInvalid)

func badField(field, reason string) error {
	return fmt.Errorf("%w: %w", ErrConfig, &drover.FieldError{Field: field, Reason: reason})
}

// sentinels are the errors that errors.Is finds at both ends, by their code on the wire.
var sentinels = struct {
	sync.RWMutex
	of []sentinel
}{of: []sentinel{
	{"store.not-found", store.ErrNotFound}, {"store.conflict", store.ErrConflict}, {"store.foreign", store.ErrForeign},
	{"lease.lost", lease.ErrLost}, {"lease.held", lease.ErrHeld}, {"lease.config", lease.ErrConfig},
	{"job.not-found", job.ErrNotFound}, {"job.duplicate", job.ErrDuplicate}, {"job.invalid", job.ErrInvalid},
	{"job.too-large", job.ErrTooLarge}, {"job.overloaded", job.ErrOverloaded}, {"job.finished", job.ErrFinished},
	{"job.lost", job.ErrLost}, {"syncqueue.invalid", syncqueue.ErrInvalid}, {"syncqueue.full", syncqueue.ErrFull},
	{"tracker.no-room", tracker.ErrNoRoom}, {"tracker.not-found", tracker.ErrNotFound}, {"tracker.disabled", tracker.ErrDisabled},
	{"tracker.mismatch", tracker.ErrMismatch}, {"tracker.expired", tracker.ErrExpired}, {"tracker.stale", tracker.ErrStaleEpoch},
	{"tracker.invalid", tracker.ErrInvalid}, {"tracker.in-use", tracker.ErrInUse},
	{"member.fenced", servicegroup.ErrFenced}, {"member.taken", servicegroup.ErrTaken}, {"member.gone", servicegroup.ErrGone},
	{"member.unavailable", servicegroup.ErrUnavailable}, {"member.unsupported", servicegroup.ErrUnsupported},
	{"member.id", servicegroup.ErrID}, {"member.meta", servicegroup.ErrMeta},
	{"bus.invalid", bus.ErrInvalid}, {"bus.unsupported", bus.ErrUnsupported}, {"bus.busy", bus.ErrBusy},
	{"shape", ErrShape}, {"denied", ErrDenied}, {"version", ErrVersion},
	{"deadline", context.DeadlineExceeded}, {"cancelled", context.Canceled},
}}

type sentinel struct {
	code string
	err  error
}

// RegisterError makes errors.Is find sentinel at a client when a method of an own store returns it. Both ends register. An
// empty code, a nil error and a code in use by another error panic.
func RegisterError(code string, err error) {
	sentinels.Lock()
	defer sentinels.Unlock()
	if code == "" || err == nil {
		panic("conductor: RegisterError of nothing")
	}
	for _, s := range sentinels.of {
		switch {
		case s.code != code:
		case s.err == err: //nolint:errorlint // the very one
			return
		default:
			panic("conductor: RegisterError: code " + code + " is taken")
		}
	}
	sentinels.of = append(sentinels.of, sentinel{code, err})
}

// typed are errors that carry more than their text.
var typed = map[string]func() error{
	"lease.held":     func() error { return new(lease.HeldError) },
	"tracker.room":   func() error { return new(tracker.NoRoom) },
	"tracker.field":  func() error { return new(tracker.FieldError) },
	"job.field":      func() error { return new(job.FieldError) },
	"job.overloaded": func() error { return new(job.OverloadedError) },
}

// failure is an error on the wire.
type failure struct {
	Op    int // of the commit, from 1; 0 = the call as a whole
	Text  string
	Is    []string        `json:",omitempty"`
	Type  string          `json:",omitempty"`
	Value json.RawMessage `json:",omitempty"`
}

const maxText = 4096

func failureOf(err error, op int) *failure {
	f := &failure{Op: op, Text: err.Error()}
	if len(f.Text) > maxText {
		f.Text = f.Text[:maxText]
	}
	sentinels.RLock()
	for _, s := range sentinels.of {
		if errors.Is(err, s.err) {
			f.Is = append(f.Is, s.code)
		}
	}
	sentinels.RUnlock()
	for _, name := range sorted(typed) {
		p := reflect.New(reflect.TypeOf(typed[name]()))
		if errors.As(err, p.Interface()) {
			if raw, err := encode(p.Elem().Interface()); err == nil {
				f.Type, f.Value = name, raw
			}
			break
		}
	}
	return f
}

// OpError is what an operation of a commit failed with at the server. errors.Is finds the sentinels of the stores and
// components, errors.As their *lease.HeldError, *tracker.NoRoom and field errors.
type OpError struct {
	// Op is the operation's place in the commit, from 1; 0: the call as a whole.
	Op   int
	Text string

	is   []error
	with error
}

func (e *OpError) Error() string { return e.Text }

// Unwrap gives the sentinels, and the error itself where it carries more than its text.
func (e *OpError) Unwrap() []error {
	if e.with != nil {
		return append([]error{e.with}, e.is...)
	}
	return e.is
}

// read is the error at the client.
func (f *failure) read() error {
	e := &OpError{Op: f.Op, Text: f.Text}
	sentinels.RLock()
	for _, s := range sentinels.of {
		for _, code := range f.Is {
			if s.code == code {
				e.is = append(e.is, s.err)
			}
		}
	}
	sentinels.RUnlock()
	if make := typed[f.Type]; make != nil {
		if v := make(); decode(f.Value, v, false) == nil {
			e.with = v
		}
	}
	return e
}
