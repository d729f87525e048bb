package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Code is a word of the error taxonomy: the same in a command's answer, in a stored job's error, and on every face.
// Codes are never reused or renamed.
type Code string

// The taxonomy. Codes gives what each becomes on the faces.
const (
	Malformed           Code = "malformed"            // a parameter's name has no known shape
	Invalid             Code = "invalid"              // a parameter's value, or the command as a whole
	IdempotencyMismatch Code = "idempotency-mismatch" // an idempotency key or job id is in use by another request
	NotFound            Code = "not-found"            // nothing the caller may see has this id
	TooLarge            Code = "too-large"            // a size limit
	UnknownCommand      Code = "unknown-command"
	Unauthenticated     Code = "unauthenticated"
	Forbidden           Code = "forbidden"
	Limit               Code = "limit" // quota of an account
	NoCapacity          Code = "insufficient-capacity"
	Unavailable         Code = "resource-unavailable" // a host, agent or driver cannot be reached
	Allocation          Code = "allocation"           // a pool is empty
	InUse               Code = "in-use"
	WrongState          Code = "wrong-state"
	Conflict            Code = "conflict" // a compare-and-set lost after retries
	RateLimited         Code = "rate"
	Draining            Code = "draining"
	TimedOut            Code = "timeout"
	Cancelled           Code = "cancelled"
	Lost                Code = "lost"   // the node died, the outcome is unknown
	FencedOff           Code = "fenced" // an operator gave up on it, the outcome is unknown
	Unsupported         Code = "unsupported"
	Internal            Code = "internal" // everything else, panics
)

// CodeInfo is what a code becomes on the faces: CloudStack's errorcode and cserrorcode, the HTTP status of a native face,
// and whether the same request may succeed later.
type CodeInfo struct {
	Code                   Code
	ErrorCode, CSErrorCode int
	Status                 int
	Retryable              bool
}

var codes = []CodeInfo{
	{Malformed, 430, 9999, 400, false},
	{Invalid, 431, 4350, 400, false},
	{IdempotencyMismatch, 431, 4350, 422, false},
	{NotFound, 431, 4350, 404, false},
	{TooLarge, 413, 9999, 413, false},
	{UnknownCommand, 432, 9999, 404, false},
	{Unauthenticated, 401, 0, 401, false},
	{Forbidden, 531, 4365, 403, false},
	{Limit, 532, 9999, 403, false},
	{NoCapacity, 533, 4335, 409, true},
	{Unavailable, 534, 4380, 503, true},
	{Allocation, 535, 4370, 409, false},
	{InUse, 536, 9999, 409, false},
	{WrongState, 530, 4250, 409, false},
	{Conflict, 530, 4300, 409, true},
	{RateLimited, 429, 4545, 429, true},
	{Draining, 503, 9999, 503, true},
	{TimedOut, 530, 4560, 504, true},
	{Cancelled, 530, 9999, 409, false},
	{Lost, 530, 4250, 500, false},
	{FencedOff, 530, 4250, 500, false},
	{Unsupported, 530, 4250, 501, false},
	{Internal, 530, 4250, 500, false},
}

var taxonomy sync.RWMutex // of codes and known

// Codes gives the whole taxonomy, in the order of the documentation, with the host's own codes behind.
func Codes() []CodeInfo {
	taxonomy.RLock()
	defer taxonomy.RUnlock()
	return slices.Clone(codes)
}

// Info gives the code's row; an unknown code has Internal's, with the code kept.
func (c Code) Info() CodeInfo {
	taxonomy.RLock()
	defer taxonomy.RUnlock()
	for _, of := range [...]Code{c, Internal} {
		if at := slices.IndexFunc(codes, func(i CodeInfo) bool { return i.Code == of }); at >= 0 {
			i := codes[at]
			i.Code = c
			return i
		}
	}
	return CodeInfo{Code: c}
}

// RegisterCode adds a code of the host's own to the taxonomy of the process, and the sentinels that CodeOf finds it by. Call it
// at start. It panics on a code that is there with other columns, for codes are never reused.
func RegisterCode(i CodeInfo, sentinels ...error) {
	if i.Code == "" {
		panic("dispatch: RegisterCode: empty code")
	}
	taxonomy.Lock()
	defer taxonomy.Unlock()
	at := slices.IndexFunc(codes, func(x CodeInfo) bool { return x.Code == i.Code })
	switch {
	case at < 0:
		codes = append(slices.Clip(codes), i)
	case codes[at] != i:
		panic(fmt.Sprintf("dispatch: code %q is registered with other columns", i.Code))
	}
	for _, err := range sentinels {
		known = append(slices.Clip(known), sentinel{err, i.Code})
	}
}

type sentinel struct {
	err  error
	code Code
}

// known maps what other packages return to codes, tried in order.
var known = []sentinel{
	{ErrUnknown, UnknownCommand},
	{ErrMalformed, Malformed},
	{ErrInvalid, Invalid},
	{ErrDenied, Forbidden},
	{job.ErrDraining, Draining},
	{drover.ErrStopping, Draining},
	{job.ErrOverloaded, RateLimited},
	{job.ErrDuplicate, IdempotencyMismatch},
	{job.ErrTooLarge, TooLarge},
	{job.ErrNotFound, NotFound},
	{job.ErrFinished, WrongState},
	{job.ErrNotCancellable, WrongState},
	{job.ErrInvalid, Invalid},
	{job.ErrCancelled, Cancelled},
	{job.ErrLost, Lost},
	{job.ErrDeadline, TimedOut},
	{store.ErrNotFound, NotFound},
	{store.ErrConflict, Conflict},
	{context.DeadlineExceeded, TimedOut},
	{context.Canceled, Cancelled},
}

// CodeOf finds the code of any error: its own (an *Error, or ErrorCode() string anywhere in the chain), else that of a known
// sentinel, else Internal. nil has "".
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) && coded.ErrorCode() != "" {
		return Code(coded.ErrorCode())
	}
	taxonomy.RLock()
	all := known
	taxonomy.RUnlock()
	for _, k := range all {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return Internal
}
