// Package dispatch takes a named command through a chain of stages to its handler.
package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

type Command struct {
	Name, Version string
	Params        map[string]string
	Caller        any    // whatever the host's authentication made
	Idem, JobID   string // same request again = the first answer
	Value         any    // the typed command once bound
}

type Handler interface {
	Dispatch(ctx context.Context, c *Command) (any, error)
}
type HandlerFunc func(ctx context.Context, c *Command) (any, error)

func (f HandlerFunc) Dispatch(ctx context.Context, c *Command) (any, error) { return f(ctx, c) }

// Stage is middleware, exactly as in net/http.
type Stage func(next Handler) Handler

// Chain composes stages around h; the first listed is outermost.
func Chain(h Handler, stages ...Stage) Handler { return nil }

// Stages is an ordered, named list; edits return a new one.
type Stages struct{ _ int }

func Standard() Stages                                    { return Stages{} }
func (s Stages) Before(name, new string, st Stage) Stages { return s }
func (s Stages) After(name, new string, st Stage) Stages  { return s }
func (s Stages) Replace(name string, st Stage) Stages     { return s }
func (s Stages) Remove(name string) Stages                { return s }
func (s Stages) Names() []string                          { return nil }

// Registry is a Handler that finds the command by name and version. Zero value ready; nil hooks let all pass.
type Registry struct {
	Env       drover.Env
	Tx        store.Runner
	Jobs      *job.Manager // annotates lists
	Stages    Stages       // zero = Standard()
	Events    Sink
	Permit    func(ctx context.Context, caller any, info CommandInfo) error
	Authorize func(ctx context.Context, c *Command) error
	Entities  func(ctx context.Context, typ string, ids []string) (map[string]Entity, error)
	Identify  func(caller any) map[string]string
	Restore   func(ctx context.Context, identity map[string]string) (any, error)
	Known     []string // parameters that are never unknown
}

func (r *Registry) Dispatch(ctx context.Context, c *Command) (any, error) { return nil, nil }
func (r *Registry) Catalog(ctx context.Context, caller any) []CommandInfo { return nil }
func (r *Registry) OpenAPI(i Info) ([]byte, error)                        { return nil, nil }

// Sync registers a command answered at once.
func Sync[C, R any](r *Registry, name string, f func(ctx context.Context, c C) (R, error), opts ...Option) {
}

// List is Sync whose items are annotated with their live jobs.
func List[C, R any](r *Registry, name string, f func(ctx context.Context, c C) (Page[R], error), opts ...Option) {
}

// Async registers a command that answers Accepted. create, if not nil, runs in the submitting transaction and
// may allocate the entity (async-create).
func Async[C, R any](r *Registry, m *job.Manager, name string,
	create func(ctx context.Context, tx store.Tx, c *C) (entity string, err error),
	f func(ctx context.Context, c C) (R, error), opts ...Option) {
}

type Accepted struct {
	JobID, Entity    string
	Replayed, Joined bool
}
type Page[R any] struct {
	Items []R
	Total int
	Next  string
	Jobs  map[string]PendingJob
}
type PendingJob struct{ JobID, State, Command string }

type Option func(*command)
type command struct{}

func Doc(s string) Option                                  { return nil }
func Since(v string) Option                                { return nil }
func Version(v string) Option                              { return nil }
func Deprecated(use string) Option                         { return nil }
func Roles(r ...string) Option                             { return nil }
func Timeout(d time.Duration) Option                       { return nil } // sync and list: 30s
func SyncKey[C any](f func(C) syncqueue.Key) Option        { return nil }
func ResourceOf[C any](f func(C) string) Option            { return nil }
func Job(o ...job.HandleOption) Option                     { return nil }
func Cancellable() Option                                  { return nil }
func Undo[C any](f func(context.Context, *C) error) Option { return nil }
func Outside[C any](create func(context.Context, *C) (string, error), undo func(context.Context, *C) error) Option {
	return nil
}
func Errors(c ...Code) Option { return nil }
func Hidden() Option          { return nil }

// Stages shipped: those of Standard, then optional ones.
func Recover() Stage                                                 { return nil }
func Trace() Stage                                                   { return nil }
func Lookup() Stage                                                  { return nil }
func Permit(f func(context.Context, any, CommandInfo) error) Stage   { return nil }
func Unpack() Stage                                                  { return nil }
func Bind() Stage                                                    { return nil }
func Authorize(f func(ctx context.Context, c *Command) error) Stage  { return nil }
func Generic() Stage                                                 { return nil }
func Validate() Stage                                                { return nil } // calls C's Validate if it has one
func Admit() Stage                                                   { return nil }
func Rate(n int, d time.Duration) Stage                              { return nil }
func Audit(f func(ctx context.Context, c *Command, err error)) Stage { return nil }
func Freeze(names ...string) Stage                                   { return nil }

func Executing(ctx context.Context) bool      { return false } // the pass in the job
func EntitiesOf(ctx context.Context) []Entity { return nil }

type Entity struct{ Type, ID, Access string }
type UUID string
type Host string
type Secret string // prints as [redacted]

type Info struct{ Title, Version string }
type CommandInfo struct {
	Name, Version, Doc, Mode string
	Async                    bool
	Since, Deprecated        string
	Roles                    []string
	Params                   []ParamInfo
	Response                 []FieldInfo
	Errors                   []Code
}
type ParamInfo struct {
	Name     string
	Aliases  []string
	Type     string
	Required bool
	Doc      string
	Max, Min int64
	Default  string
	OneOf    []string
	Entity   string
	Roles    []string
	Since    string
	Secret   bool
}
type FieldInfo struct {
	Name, Type, Doc string
	Fields          []FieldInfo
}

type Event struct{ ID, Command, Phase, JobID, Entity, Code string } // Phase: scheduled, started, completed
type Sink interface {
	Publish(ctx context.Context, tx store.Tx, e Event) error
}

// Code is a word of the error taxonomy, the same in answers, jobs, bus and HTTP.
type Code string
type CodeInfo struct {
	Code                   Code
	ErrorCode, CSErrorCode int
	Status                 int
	Retryable              bool
}
type Error struct {
	Code       Code
	Text       string
	Fields     []*FieldError
	Meta       map[string]string
	Retryable  bool
	RetryAfter time.Duration
	err        error
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.err }

func CodeOf(err error) Code               { return "internal" }
func Public(err error, admin bool) *Error { return nil }
func Codes() []CodeInfo                   { return nil }

var (
	ErrUnknown   = errors.New("dispatch: unknown command")
	ErrMalformed = errors.New("dispatch: malformed parameters")
	ErrInvalid   = errors.New("dispatch: invalid command") // errors.As *FieldError for the first field
	ErrDenied    = errors.New("dispatch: denied")
	ErrDraining  = job.ErrDraining
)

type FieldError struct {
	Field, Reason string
	Value         string // never of a secret
	Limit         string
}

func (e *FieldError) Error() string        { return e.Field + ": " + e.Reason }
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// UncertainError: the commit's outcome is unknown, the job may exist.
type UncertainError struct{ JobID, Entity string }

func (e *UncertainError) Error() string { return "dispatch: outcome unknown of job " + e.JobID }
