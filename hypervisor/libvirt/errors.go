package libvirt

import (
	"context"
	"errors"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// Domains of errors: the same code is a broken connection from one, and a guest's trouble from another.
const (
	domainRPC    = 7
	domainTest   = 12
	domainRemote = 13
)

// Codes that calls look at.
const (
	codeInternal         = 1
	codeOperationFailed  = 9
	codeOperationInvalid = 55
	codeNoMetadata       = 80
	codeCPUIncompatible  = 91
)

// classes are the codes whose class does not depend on the domain; see virerror.h.
var classes = map[error][]int32{
	hypervisor.ErrNotFound:    {42, 43, 49, 50, 53, 62, 66, 72, 80, 99, 101, 103, 104, 107, 108},
	hypervisor.ErrExists:      {28, 37, 76, 90, 106},
	hypervisor.ErrState:       {55, 77, 109},
	hypervisor.ErrBusy:        {83, 87},
	hypervisor.ErrTimeout:     {86},
	hypervisor.ErrAborted:     {78},
	hypervisor.ErrGone:        {4, 5, 6, 40, 85, 95, 98},
	hypervisor.ErrUnsupported: {3, 26, 67, 74, 84, 91},
	hypervisor.ErrInvalid:     {7, 8, 16, 17, 18, 19, 20, 21, 22, 23, 27, 35, 44, 82, 92},
	hypervisor.ErrDenied:      {29, 45, 79, 88, 94},
	hypervisor.ErrMigration:   {69, 81, 93},
	hypervisor.ErrNoResources: {2},
}

var byCode = func() map[int32]error {
	m := map[int32]error{}
	for class, codes := range classes {
		for _, c := range codes {
			m[c] = class
		}
	}
	return m
}()

// classOf is the class of what a daemon answered to a change, or to a read.
func classOf(e *rpc.RemoteError, change bool) error {
	fromTransport := e.Domain == domainRPC || e.Domain == domainRemote
	switch {
	case (e.Code == 1 || e.Code == 38 || e.Code == 39) && fromTransport:
		return hypervisor.ErrGone
	case e.Code == 68 && change:
		return hypervisor.ErrBusy
	case e.Code == 68:
		return hypervisor.ErrTimeout
	}
	if class, ok := byCode[e.Code]; ok {
		return class
	}
	return hypervisor.ErrInternal
}

// classify makes a *hypervisor.Error of what a call gave.
func classify(err error, change bool) *hypervisor.Error {
	var done *hypervisor.Error
	var remote *rpc.RemoteError
	var call *rpc.CallError
	switch {
	case errors.As(err, &done):
		return done
	case errors.As(err, &remote):
		e := &hypervisor.Error{Class: classOf(remote, change), Code: int(remote.Code), Domain: int(remote.Domain), Message: remote.Message}
		if remote.Code == codeCPUIncompatible {
			e.Err = hypervisor.ErrIncompatible
		}
		return e
	}
	e := &hypervisor.Error{Class: cause(err), Err: err}
	if errors.As(err, &call) && call.Sent && change {
		e.Err = errors.Join(hypervisor.ErrOutcomeUnknown, err)
	}
	return e
}

// cause is the class of an error that is none of a daemon's.
func cause(err error) error {
	for _, class := range []error{hypervisor.ErrClosed, hypervisor.ErrDenied, hypervisor.ErrGone, hypervisor.ErrInvalid} {
		if errors.Is(err, class) {
			return class
		}
	}
	switch {
	case errors.Is(err, rpc.ErrLost):
		return hypervisor.ErrGone
	case errors.Is(err, context.DeadlineExceeded):
		return hypervisor.ErrTimeout
	case errors.Is(err, context.Canceled):
		return hypervisor.ErrAborted
	}
	return hypervisor.ErrInternal
}
