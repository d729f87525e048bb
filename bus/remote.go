package bus

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover/internal/errtext"
)

const (
	maxErrorText = 4096
	maxLinks     = 8
	// CodeInternal is the code of an error that carries none, and of panics; CodeTooLarge that of a reply beyond MaxBody.
	CodeInternal = "internal"
	CodeTooLarge = "too-large"
)

// RemoteError says that the handler ran and failed. Code is the first one of the error's chain, found as package job finds
// it (a method ErrorCode() string, or RegisterError), else CodeInternal; Text is at most 4096 bytes. Chain are the codes of
// the error and what it wraps, outermost first, at most 8, also those of nodes further on.
type RemoteError struct {
	Code, Text, Node string
	Chain            []string
}

func (e *RemoteError) Error() string { return e.Code + ": " + e.Text }

// ErrorCode is Code, so that an error handed on keeps it.
func (e *RemoteError) ErrorCode() string { return e.Code }

// Is reports whether target was registered under Code or a code of the chain.
func (e *RemoteError) Is(target error) bool {
	registry.RLock()
	defer registry.RUnlock()
	for _, code := range append([]string{e.Code}, e.Chain...) {
		for _, r := range registry.own {
			if r.code == code && r.err == target { //nolint:errorlint // errors.Is walks
				return true
			}
		}
	}
	return false
}

type registered struct {
	code string
	err  error
}

var registry struct {
	sync.RWMutex
	own []registered
}

// RegisterError makes errors.Is true for sentinel across the bus: at the handler's end it gives the error its code, at the
// caller's end the code finds the sentinel. Both ends register. An empty code, a nil error or a code that is taken panics;
// the same pair twice does not.
func RegisterError(code string, sentinel error) {
	registry.Lock()
	defer registry.Unlock()
	if code == "" || sentinel == nil {
		panic("bus: RegisterError of nothing")
	}
	for _, r := range registry.own {
		if r.code == code && r.err != sentinel { //nolint:errorlint // the very one
			panic("bus: RegisterError: code " + code + " is taken")
		}
		if r.code == code {
			return
		}
	}
	registry.own = append(registry.own, registered{code, sentinel})
}

// codeOf is the code that err itself carries, not those of what it wraps.
func codeOf(err error) string {
	registry.RLock()
	defer registry.RUnlock()
	if reflect.TypeOf(err).Comparable() {
		for _, r := range registry.own {
			if r.err == err { //nolint:errorlint // the caller walks the chain
				return r.code
			}
		}
	}
	if c, ok := err.(interface{ ErrorCode() string }); ok {
		return c.ErrorCode()
	}
	return ""
}

// codesOf walks err depth first.
func codesOf(err error, out []string) []string {
	if err == nil || len(out) >= maxLinks {
		return out
	}
	if r, ok := err.(*RemoteError); ok {
		if len(r.Chain) == 0 {
			return append(out, r.Code)
		}
		return append(out, r.Chain[:min(len(r.Chain), maxLinks-len(out))]...)
	}
	if c := codeOf(err); c != "" {
		out = append(out, c)
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		out = codesOf(u.Unwrap(), out)
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			out = codesOf(e, out)
		}
	}
	return out
}

// expected marks an error that is part of the conversation.
type expected struct{ err error }

func (e *expected) Error() string { return e.err.Error() }
func (e *expected) Unwrap() error { return e.err }

// Expected marks an error of a handler as one that callers know: it is answered unchanged and logged at DEBUG only.
// Expected(nil) is nil.
func Expected(err error) error {
	if err == nil {
		return nil
	}
	return &expected{err}
}

func isExpected(err error, list []error) bool {
	var e *expected
	return errors.As(err, &e) || slices.ContainsFunc(list, func(x error) bool { return errors.Is(err, x) })
}

// remoteKind says which error a reply is.
var remoteKinds = []struct {
	kind string
	err  error
}{{"invalid", ErrInvalid}, {"busy", ErrBusy}, {"owner", ErrNotOwner}, {"unsupported", ErrUnsupported}, {"lost", ErrNodeLost}, {"unsent", ErrNotSent}, {"route", ErrNoRoute}}

// wireError is an error of a reply.
type wireError struct {
	Kind    string        `json:"kind,omitempty"` // "" = a RemoteError
	Code    string        `json:"code,omitempty"`
	Text    string        `json:"text,omitempty"`
	Node    string        `json:"node,omitempty"`
	Chain   []string      `json:"chain,omitempty"`
	After   time.Duration `json:"after,omitempty"`
	Owner   string        `json:"owner,omitempty"`
	Epoch   int64         `json:"epoch,omitempty"`
	Unknown bool          `json:"unknown,omitempty"`
	Ask     []string      `json:"ask,omitempty"` // topic, namespace, method, version
}

func cut(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// handlerError writes what a handler failed with.
func handlerError(err error, node string) string {
	e := wireError{Text: cut(errtext.Of(err), maxErrorText), Node: node, Chain: codesOf(err, nil), Code: CodeInternal}
	var direct *RemoteError
	if r, ok := err.(*RemoteError); ok { // handed on as it is
		direct = r
		e.Text, e.Code, e.Node = cut(r.Text, maxErrorText), r.Code, r.Node
	}
	if direct == nil && len(e.Chain) > 0 {
		e.Code = e.Chain[0]
	}
	return e.json()
}

// refusal writes an error of the bus itself: no handler ran, or nobody knows.
func refusal(err error, node string) string {
	e := wireError{Text: cut(errtext.Of(err), maxErrorText), Node: node}
	for _, k := range remoteKinds {
		if errors.Is(err, k.err) {
			e.Kind = k.kind
			break
		}
	}
	var b *BusyError
	var o *NotOwnerError
	var d *DispatchError
	var f *fault
	var c *decodeError
	switch {
	case errors.As(err, &f) && f.text != "":
		e.Text = cut(f.text, maxErrorText)
	case errors.As(err, &c):
		e.Text = cut("body: "+errtext.Of(c.err), maxErrorText)
	case errors.As(err, &b):
		e.Text, e.After = b.What, b.RetryAfter
	case errors.As(err, &o):
		e.Owner, e.Epoch = o.Owner, o.Epoch
	case errors.As(err, &d):
		e.Ask, e.Unknown = []string{d.Topic, d.Namespace, d.Method, d.Version}, d.UnknownMethod
	}
	return e.json()
}

func (e wireError) json() string {
	for {
		b, err := json.Marshal(e)
		if err == nil && len(b) <= maxHeader/2 {
			return string(b)
		}
		e.Text, e.Chain = cut(e.Text, len(e.Text)/2), nil // of what JSON writes in six bytes
	}
}

// readError reads the header of a reply.
func readError(s string) error {
	var e wireError
	if err := json.Unmarshal([]byte(s), &e); err != nil {
		return invalid("a reply whose error cannot be read")
	}
	at := func(kind error) error { return &fault{kind: kind, text: e.Text + " (on " + e.Node + ")"} }
	switch e.Kind {
	case "":
		return &RemoteError{Code: e.Code, Text: e.Text, Node: e.Node, Chain: e.Chain}
	case "busy":
		return &BusyError{e.Text, e.After}
	case "owner":
		return &NotOwnerError{e.Owner, e.Epoch}
	case "unsupported":
		if len(e.Ask) != 4 {
			return at(ErrUnsupported)
		}
		return &DispatchError{e.Ask[0], e.Ask[1], e.Ask[2], e.Ask[3], e.Unknown}
	}
	for _, k := range remoteKinds {
		if k.kind == e.Kind {
			return at(k.err)
		}
	}
	return invalid("a reply with an error of kind %q", e.Kind)
}

// ended is what a verb gives when its own ctx has ended.
func ended(ctx context.Context, handed bool) error {
	cause := context.Cause(ctx)
	switch {
	case !handed:
		return because(ErrNotSent, cause)
	case errors.Is(cause, context.DeadlineExceeded):
		return errTimeout
	}
	return because(errOpen, cause)
}
