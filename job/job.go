// Package job runs asynchronous jobs: submitted in a transaction, run by whichever node claims them,
// at least once, the result stored exactly once.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

type State string

const (
	Scheduled State = "scheduled" // due at RunAt
	Waiting   State = "waiting"   // its turn on Sync has not come
	Ready     State = "ready"
	Running   State = "running" // held by Session at Epoch
	Parked    State = "parked"  // yielded until a child, a topic, a time
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

type Job struct {
	ID, Kind, Queue, Name   string
	Parent, Root, RetryOf   string
	Seq, Place, Rev         int64
	Args, Result            json.RawMessage
	State                   State
	Error                   *Error
	Attempt, MaxAttempts    int // attempts are spent by failures only
	Runs, Lost              int
	Epoch                   int64
	Session                 string // name of the session that runs it, or ran it last
	SessionEpoch            int64  // that session's own lease.Token.Epoch: names it exactly
	Sync                    syncqueue.Key
	Priority                int
	Progress                Progress
	Identity                map[string]string // who asked; travels to the handler
	Resource                string            // what it is about, for listing: "vm/42"
	RunAt, Deadline         time.Time
	Created, Started, Ended time.Time
	Updated, CancelAt       time.Time
	CancelBy, CancelReason  string
	Wakes                   []Wake // why a parked job runs again; once
	Joined, Replayed        bool   // transient, of the answer to Submit
}

// Wake tells why: job, topic, time, expired, operator, cancel.
type Wake struct {
	Why, Name string
	Payload   []byte
}

type Progress struct {
	Percent int
	Step    string
	Note    string
}

// Error is what a failed job keeps: a code from the shared taxonomy, a text, no stack.
type Error struct {
	Code, Text string
	Meta       map[string]string
	Causes     []Error
}

func (e *Error) Error() string { return e.Code + ": " + e.Text }

// Request is what a caller asks for. Only Args is required when its type is registered by Handle.
type Request struct {
	ID           string // caller's own UUID: same id and same request = the existing job; other request = ErrDuplicate
	Idem         string // the same for any text, per account and kind
	Fingerprint  string // what "same request" means; "" = hash of account, kind, key, parent, args
	Kind         string
	Args         any
	Queue        string
	Parent, Name string // Name is unique among a parent's children
	Detached     bool   // no child of the running job
	Sync         syncqueue.Key
	Unique       string // joins the live job of that name instead of making a second
	OnDuplicate  DuplicatePolicy
	Priority     int // 0 is normal; lower runs first
	RunAt        time.Time
	Timeout      time.Duration // per run
	Deadline     time.Time     // overall
	MaxAttempts  int
	Identity     map[string]string
	Resource     string
}
type DuplicatePolicy int

const (
	Join DuplicatePolicy = iota
	Refuse
)

type Config struct {
	Env         drover.Env
	DB          DB // fills Tx, Store, Notify and, if Session is nil, opens and runs a session of its own
	Tx          store.Runner
	Store       Store
	Notify      store.Notifier   // nil = poll only
	Session     *lease.Session   // nil only with empty Queues
	Turns       *syncqueue.Queue // nil = default policies on the Store's own Turns()
	Queues      map[string]int   // workers per queue; nil = {"default": 100}; empty = submit only
	MaxWaiting  map[string]int   // per queue; none
	Poll        time.Duration    // default 1s
	ClaimBatch  int              // default 100
	FinishBatch int              // default 100
	FinishDelay time.Duration    // default 5ms
	StopTimeout time.Duration    // default 30s
	Retain      time.Duration    // finished jobs; default 24h
	ReportAfter time.Duration    // blocked report; default 10m
	MaxArgs     int              // bytes, default 256 KiB
	MaxResult   int              // bytes, default 1 MiB
	Events      Sink             // nil = none
	Cipher      Cipher           // nil = secrets are refused
}

// Cipher seals what is tagged secret before it is stored.
type Cipher interface {
	Seal(ctx context.Context, plain []byte) ([]byte, error)
	Open(ctx context.Context, sealed []byte) ([]byte, error)
}

type Manager struct{ _ int }

func New(cfg Config) (*Manager, error) { return nil, nil }

func (m *Manager) Submit(ctx context.Context, r Request) (*Job, error) { return nil, nil }
func (m *Manager) SubmitTx(ctx context.Context, tx store.Tx, r Request) (*Job, error) {
	return nil, nil
}
func (m *Manager) SubmitMany(ctx context.Context, rs []Request) ([]*Job, error) { return nil, nil }
func (m *Manager) SubmitManyTx(ctx context.Context, tx store.Tx, rs []Request) ([]*Job, error) {
	return nil, nil
}
func (m *Manager) Get(ctx context.Context, id string) (*Job, error)               { return nil, nil }
func (m *Manager) List(ctx context.Context, q Query) iter.Seq2[*Job, error]       { return nil }
func (m *Manager) Wait(ctx context.Context, id string) (*Job, error)              { return nil, nil } // never misses, on any node
func (m *Manager) Watch(ctx context.Context, id string) iter.Seq2[*Job, error]    { return nil }      // every change
func (m *Manager) Journal(ctx context.Context, id string) iter.Seq2[Entry, error] { return nil }
func (m *Manager) Stats(ctx context.Context) (Stats, error)                       { return Stats{}, nil }
func (m *Manager) Blocked(ctx context.Context) ([]Blocked, error)                 { return nil, nil }

// ByResource gives the oldest live job of each resource that has one.
func (m *Manager) ByResource(ctx context.Context, resources []string) (map[string]*Job, error) {
	return nil, nil
}
func (m *Manager) Cancel(ctx context.Context, id string, reason ...string) (accepted bool, err error) {
	return false, nil
}
func (m *Manager) Wake(ctx context.Context, topic string) error { return nil } // parked jobs waiting for topic; "job/<id>" = one job
func (m *Manager) WakeWith(ctx context.Context, topic string, payload []byte) (n int, err error) {
	return 0, nil
}
func (m *Manager) WakeTx(ctx context.Context, tx store.Tx, topic string, payload []byte) (n int, err error) {
	return 0, nil
}

// Operator verbs. Retry makes a new job of a failed or cancelled one.
func (m *Manager) Retry(ctx context.Context, id string, opts ...RetryOption) (*Job, error) {
	return nil, nil
}
func (m *Manager) Hold(ctx context.Context, id string) error                     { return nil }
func (m *Manager) Reschedule(ctx context.Context, id string, at time.Time) error { return nil }
func (m *Manager) SetPriority(ctx context.Context, id string, p int) error       { return nil }
func (m *Manager) Fence(ctx context.Context, id, reason string) error            { return nil }
func (m *Manager) PauseQueue(ctx context.Context, queue string) error            { return nil }
func (m *Manager) ResumeQueue(ctx context.Context, queue string) error           { return nil }
func (m *Manager) Resize(queue string, n int) error                              { return nil }
func (m *Manager) SetMaintenance(ctx context.Context, on bool) error             { return nil }
func (m *Manager) Accepting() error                                              { return nil } // ErrDraining
func (m *Manager) Drain(ctx context.Context) error                               { return nil }
func (m *Manager) Run(ctx context.Context) error                                 { return nil }
func (m *Manager) Step(ctx context.Context) (time.Time, error)                   { return time.Time{}, nil }
func (m *Manager) StopTimeout() time.Duration                                    { return 0 }

type RetryOption func(*retry)
type retry struct{}

func KeepSteps() RetryOption { return nil }

// Handle registers f for jobs whose Args are an A. It panics if kind is taken, like http.ServeMux.
func Handle[A, R any](m *Manager, kind string, f func(ctx context.Context, args A) (R, error), opts ...HandleOption) {
}

// Declare makes a kind known that this node only submits.
func Declare[A, R any](m *Manager, kind string, opts ...HandleOption) {}

// Result gives the job's own result or its typed error.
func Result[R any](j *Job) (r R, err error) { return }

// RegisterError and RegisterErrorType make errors.Is and errors.As work on any node.
func RegisterError(code string, sentinel error) {}
func RegisterErrorType[T error](code string)    {}

type HandleOption func(*handler)
type handler struct{}

const NoTimeout time.Duration = -1

func Timeout(d time.Duration) HandleOption                           { return nil } // per run; default 1h
func Grace(d time.Duration) HandleOption                             { return nil } // after a cancelled ctx; default 30s
func Retry(b func() backoff.BackOff, max int) HandleOption           { return nil } // default 1s x2 up to 5m, 5 attempts
func OnLost(p LostPolicy) HandleOption                               { return nil } // default Rerun
func MaxLost(n int) HandleOption                                     { return nil } // default 5, then parked as poison
func Queue(name string) HandleOption                                 { return nil }
func Priority(p int) HandleOption                                    { return nil }
func NotCancellable() HandleOption                                   { return nil }
func Unwinds() HandleOption                                          { return nil } // a cancelled job runs once more, to compensate
func Sensitive() HandleOption                                        { return nil }
func Quiet(d time.Duration) HandleOption                             { return nil } // default 10m
func Keep(d time.Duration) HandleOption                              { return nil } // default Config.Retain
func FenceAfter(d time.Duration) HandleOption                        { return nil } // past Grace; default never
func Abandon(f func(ctx context.Context, j *Job) error) HandleOption { return nil } // the job died with its node: settle the entity

type LostPolicy int

const (
	Rerun LostPolicy = iota
	Fail
)

// Inside a handler; ctx is the handler's.
func FromContext(ctx context.Context) (*Job, bool)            { return nil, false }
func Report(ctx context.Context, p Progress) error            { return nil }
func Stage(ctx context.Context, from, to int) context.Context { return ctx } // maps 0…100 inside into from…to
func Beat(ctx context.Context)                                {}
func Note(ctx context.Context, text string, data any) error   { return nil } // journal
func Attach(ctx context.Context, resource string) error       { return nil }
func Subscribe(ctx context.Context, topic string) error       { return nil } // later signals count although the job parks afterwards
func ReleaseTurn(ctx context.Context) error                   { return nil }
func NoCancel(ctx context.Context) error                      { return nil } // point of no return
func FinishTx(ctx context.Context, tx store.Tx, v any) error  { return nil } // seals result or error with the host's rows
func Joined(ctx context.Context) ([]*Job, error)              { return nil, nil }
func Token(ctx context.Context) lease.Token                   { return lease.Token{} } // fencing token for side effects

// Step is durable: f runs until it succeeds once, its result is kept.
func Step[R any](ctx context.Context, name string, f func(context.Context) (R, error)) (r R, err error) {
	return
}

// Await gives a final job's result, else an error that is Park(OnJobs(id)).
func Await[R any](ctx context.Context, id string) (r R, err error) { return }

// Errors a handler returns, wrapped or not.
func Permanent(err error) error   { return nil } // fail now
func Again(d time.Duration) error { return nil } // run again later, no attempt spent
func Park(c ...Condition) error   { return nil } // free the worker until a condition holds

type Condition func(*conditions)
type conditions struct{}

func OnJobs(ids ...string) Condition   { return nil }
func OnChildren() Condition            { return nil }
func AnyOf(c ...Condition) Condition   { return nil }
func AllOf(c ...Condition) Condition   { return nil }
func OnTopic(topic string) Condition   { return nil }
func At(t time.Time) Condition         { return nil }
func After(d time.Duration) Condition  { return nil }
func Expire(d time.Duration) Condition { return nil }
func FreeTurn() Condition              { return nil }

// Query: live jobs by default; Limit 100, at most 500 per page.
type Query struct {
	States                     []State
	Kinds, Queues              []string
	Key                        syncqueue.Key
	Resource, Session, Account string
	Parent, Root               string
	Created, Updated, Ended    Range
	Older                      time.Duration // running longer than
	Text                       string        // found, in any case, in kind, resource, an identity value or the error's text; at most 128 bytes
	Suffix                     string        // the id ends so; at most 36 bytes
	Newest                     bool          // order; default oldest first
	After                      string        // cursor
	Limit                      int
}
type Range struct{ From, To time.Time }

type Stats struct {
	Queues map[string]QueueStats
	Active int // cluster-wide, running
}
type QueueStats struct {
	Workers, Running, Blocked, Free int
	Depth                           map[State]int
	Oldest                          time.Duration
}
type Blocked struct {
	Job    *Job
	Why    string // turn, overdue, quiet, unhandled, parked, cycle
	Holder syncqueue.Item
	Since  time.Time
	Line   int
	Cycle  []string
}

type Sink interface {
	Publish(ctx context.Context, tx store.Tx, e Event) error
}
type Event struct {
	Type          string // submit, update, complete
	JobID, Kind   string
	State         State
	Rev           int64
	Parent        string
	Resource      string
	Key           syncqueue.Key
	Progress      Progress
	Code          string
	Node, Account string
	At            time.Time
}

type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string        { return "job: " + e.Field + ": " + e.Reason }
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

type DuplicateError struct{ ID, Field string }

func (e *DuplicateError) Error() string        { return "job: duplicate of " + e.ID }
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

type BatchError struct {
	Index int
	Err   error
}

func (e *BatchError) Error() string { return e.Err.Error() }
func (e *BatchError) Unwrap() error { return e.Err }

type OverloadedError struct{ RetryAfter time.Duration }

func (e *OverloadedError) Error() string        { return ErrOverloaded.Error() }
func (e *OverloadedError) Is(target error) bool { return target == ErrOverloaded }

var (
	ErrNotFound       = errors.New("job: not found")
	ErrDuplicate      = errors.New("job: in use by another request")
	ErrInvalid        = errors.New("job: invalid")
	ErrTooLarge       = errors.New("job: too large")
	ErrOverloaded     = errors.New("job: queue full")
	ErrDraining       = errors.New("job: node is draining") // is drover.ErrStopping too
	ErrFinished       = errors.New("job: already final")
	ErrNotCancellable = errors.New("job: not cancellable")

	// Causes of the handler's ctx.
	ErrLost      = errors.New("job: claim lost") // is lease.ErrLost too when the session ended
	ErrCancelled = errors.New("job: cancelled")
	ErrDeadline  = errors.New("job: deadline passed")
	ErrStopping  = drover.ErrStopping
)
