package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/errtext"
)

const (
	maxErrorText   = 4 << 10
	maxErrorCauses = 16
	typedMeta      = "json" // Meta's key for the value of a registered error type
)

// Error is what a failed or cancelled job keeps of the error: a code from the shared taxonomy, a text of at most 4 KiB, no
// stack. Causes are the errors it wraps, at most 16. errors.Is and errors.As find registered errors in it on any node; see
// [RegisterError] and [RegisterErrorType].
type Error struct {
	Code   string            `json:"code"`
	Text   string            `json:"text"`
	Meta   map[string]string `json:"meta,omitempty"`
	Causes []Error           `json:"causes,omitempty"`
}

func (e *Error) Error() string {
	if e.Text == "" {
		return "failed without an error"
	}
	return e.Text
}

// ErrorCode is Code, so that a failure handed on keeps its code.
func (e *Error) ErrorCode() string { return e.Code }

// Is says whether target is registered for the code of e or of one of its causes.
func (e *Error) Is(target error) bool {
	if t := reflect.TypeOf(target); t == nil || !t.Comparable() {
		return false
	}
	if slices.Contains(known.of(e.Code), target) {
		return true
	}
	return slices.ContainsFunc(e.Causes, func(c Error) bool { return c.Is(target) })
}

// As fills target with the stored value if its type is registered for the code of e or of one of its causes.
func (e *Error) As(target any) bool {
	decode := known.typed(e.Code)
	data, own := e.Meta[typedMeta]
	if own && decode != nil && decode([]byte(data), target) {
		return true
	}
	if slices.ContainsFunc(e.Causes, func(c Error) bool { return c.As(target) }) {
		return true
	}
	return !own && decode != nil && decode(nil, target) // the code alone: made elsewhere, or its value was too large
}

// known is what RegisterError and RegisterErrorType told; like gob's registry it belongs to the process.
var known = &registry{
	errs: map[string][]error{
		CodeCancelled: {ErrCancelled}, CodeTimeout: {ErrDeadline, context.DeadlineExceeded}, CodeLost: {ErrLost},
		CodeInvalid: {ErrInvalid}, CodeTooLarge: {ErrTooLarge},
	},
	types: map[string]errorType{},
}

type errorType struct {
	find   func(err error) (value any, found bool)
	decode func(data []byte, target any) bool
}

type registry struct {
	mu    sync.RWMutex
	errs  map[string][]error
	own   []registered // in order of registration
	types map[string]errorType
}

type registered struct {
	code string
	err  error
}

func (r *registry) of(code string) []error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.errs[code]
}

func (r *registry) typed(code string) func([]byte, any) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.types[code].decode
}

// RegisterError gives sentinel a code: a handler's error that is sentinel is stored with it, and errors.Is finds sentinel
// in the stored error on any node that has registered the same. Call it at start; it panics on an empty code or nil.
func RegisterError(code string, sentinel error) {
	if code == "" || sentinel == nil {
		panic("job: RegisterError: empty code or nil error")
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	known.errs[code] = append(slices.Clip(known.errs[code]), sentinel)
	known.own = append(known.own, registered{code, sentinel})
}

// RegisterErrorType makes errors.As find a T in the stored error on any node: its exported fields travel as JSON under code.
// Call it at start; it panics on an empty code.
func RegisterErrorType[T error](code string) {
	if code == "" {
		panic("job: RegisterErrorType: empty code")
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	known.types[code] = errorType{
		find: func(err error) (any, bool) { t, ok := err.(T); return t, ok },
		decode: func(data []byte, target any) bool {
			p, ok := target.(*T)
			if !ok {
				return false
			}
			var t T
			if len(data) > 0 {
				_ = json.Unmarshal(data, &t) // what cannot be read back is still an error of this type
			} else if rt := reflect.TypeFor[T](); rt.Kind() == reflect.Pointer {
				t = reflect.New(rt.Elem()).Interface().(T)
			}
			*p = t
			return true
		},
	}
}

// encode makes the stored form of err. It is never nil.
func encode(err error) *Error {
	if err == nil {
		return &Error{Code: CodeInternal}
	}
	left := maxErrorCauses
	e := encodeOne(err, &left)
	if e.Code == "" {
		e.Code = codeOf(e.Causes)
	}
	if e.Code == "" {
		e.Code = CodeInternal
	}
	return &e
}

func codeOf(causes []Error) string {
	for _, c := range causes {
		if c.Code != "" {
			return c.Code
		}
		if code := codeOf(c.Causes); code != "" {
			return code
		}
	}
	return ""
}

func encodeOne(err error, left *int) Error {
	if e, ok := err.(*Error); ok && e != nil {
		return *e
	}
	e := Error{Text: cut(errtext.Of(err), maxErrorText)}
	e.Code, e.Meta = describe(err)
	var wrapped []error
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		wrapped = []error{u.Unwrap()}
	case interface{ Unwrap() []error }:
		wrapped = u.Unwrap()
	}
	for _, w := range wrapped {
		if w == nil || *left == 0 {
			continue
		}
		*left--
		e.Causes = append(e.Causes, encodeOne(w, left))
	}
	return e
}

// describe finds the code and the details that err itself carries, not those of what it wraps.
func describe(err error) (code string, meta map[string]string) {
	if c, ok := err.(interface{ ErrorCode() string }); ok {
		code = c.ErrorCode()
	}
	switch m := err.(type) {
	case interface{ ErrorMeta() map[string]string }:
		meta = map[string]string{}
		for k, v := range m.ErrorMeta() {
			meta[k] = cut(v, maxErrorText)
		}
	case interface{ ErrorMeta() map[string]any }:
		meta = map[string]string{}
		for k, v := range m.ErrorMeta() {
			meta[k] = cut(plain(v), maxErrorText)
		}
	}
	known.mu.RLock()
	defer known.mu.RUnlock()
	if own, value := known.find(err); own != "" {
		if meta == nil {
			meta = map[string]string{}
		}
		meta[typedMeta] = value
		code = own
	}
	if code == "" && reflect.TypeOf(err).Comparable() {
		for _, r := range known.own {
			if r.err == err { //nolint:errorlint // the caller walks the chain
				return r.code, meta
			}
		}
	}
	return code, meta
}

// find looks for the type of err. A type is registered under few codes, so sorting them is cheap.
func (r *registry) find(err error) (code, value string) {
	codes := make([]string, 0, len(r.types))
	for c := range r.types {
		codes = append(codes, c)
	}
	slices.Sort(codes)
	for _, c := range codes {
		if v, ok := r.types[c].find(err); ok {
			data, bad := json.Marshal(v)
			if bad != nil || len(data) > maxErrorText {
				data = nil
			}
			return c, string(data)
		}
	}
	return "", ""
}

// plain is v as text: itself, its JSON, or what can be printed of it.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	if b, err := json.Marshal(v); err == nil {
		return string(b)
	}
	return fmt.Sprint(v)
}

// cut shortens s to at most n bytes, on a boundary of a character, with an ellipsis where something is missing.
func cut(s string, n int) string {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	s = strings.ReplaceAll(s, "\x00", "") // no database keeps it
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// Result gives the typed result of a job that succeeded, or the error of one that failed or was cancelled: a *[Error],
// which errors.Is and errors.As see through. A job that is not final gives [ErrInvalid].
func Result[R any](j *Job) (r R, err error) {
	switch {
	case j == nil:
		return r, invalid("Job", "is nil")
	case j.State == Succeeded:
		if len(j.Result) == 0 {
			return r, nil
		}
		if v, ok := any(&r).(*int); ok {
			if n, err := strconv.ParseInt(string(j.Result), 10, 0); err == nil {
				*v = int(n)
				return r, nil
			}
		}
		if err := json.Unmarshal(j.Result, &r); err != nil {
			return r, fmt.Errorf("job: result of %s: %w", j.ID, err)
		}
		return r, nil
	case !j.State.Final():
		return r, invalid("State", "job %s is %s, it has no result yet", j.ID, j.State)
	case j.Error == nil:
		return r, &Error{Code: CodeInternal}
	}
	return r, j.Error
}

// panicked is the stored form of a recovered panic: its stack is for the journal.
func panicked(err error) (*drover.PanicError, bool) {
	var p *drover.PanicError
	return p, errors.As(err, &p)
}
