package rpc

import (
	"errors"
	"fmt"
)

// RemoteError is what the daemon answered instead of a result.
type RemoteError struct {
	Code, Domain int32 // the same Code means different things in different domains
	Message      string
}

// Error shows domain, code and message.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("libvirt error %d of domain %d: %s", e.Code, e.Domain, e.Message)
}

// ErrLost is a connection that is no more; errors.Is finds its cause too.
var ErrLost = errors.New("rpc: connection lost")

// CallError is a call without a reply.
type CallError struct {
	Proc Proc
	Sent bool  // bytes of the request have left: it may have been carried out
	Err  error // ErrLost with its cause, or the context's cause
}

// Error names the procedure.
func (e *CallError) Error() string { return "rpc: " + e.Proc.String() + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *CallError) Unwrap() error { return e.Err }

// remoteError decodes the body of a reply with status 1.
func remoteError(body []byte) error {
	r := NewReply(body)
	e := &RemoteError{Code: r.I32(), Domain: r.I32()}
	if r.U32() == 1 {
		e.Message = r.Str()
	}
	if r.err != nil {
		return r.err
	}
	return e
}
