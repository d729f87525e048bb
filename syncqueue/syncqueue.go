// Package syncqueue makes work on the same thing take turns.
package syncqueue

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Key names the thing: {"vm", "42"}. The zero Key means no turn-taking.
type Key struct{ Kind, ID string }

// Local takes turns within a process: level of them at a time per key, in order of arrival.
// A function's return ends its turn; its context carries the keys held, so re-entry is ErrReentrant.
type Local struct {
	Env        drover.Env
	Level      func(Key) int // nil = 1; <=0 = unlimited; a property of the key, never of the caller
	MaxTotal   int           // 0 = none
	Backlog    int           // first warning; default 50
	StuckAfter time.Duration // default 10m
}

func (l *Local) Do(ctx context.Context, k Key, f func(context.Context) error, opts ...Option) error {
	return nil
}
func (l *Local) Go(ctx context.Context, k Key, f func(context.Context) error, opts ...Option) *Handle {
	return nil
}
func (l *Local) SetLevel(k Key, n int)           {}
func (l *Local) Stats() []Stat                   { return nil }
func (l *Local) Tasks(k Key) []Task              { return nil }
func (l *Local) Running(k Key) bool              { return false }
func (l *Local) Drain(ctx context.Context) error { return nil }

// Single coalesces: callers that arrive while k runs share its result.
func Single[R any](ctx context.Context, l *Local, k Key, f func(context.Context) (R, error)) (r R, err error) {
	return
}

type Option func(*options)
type options struct{}

func Name(s string) Option                           { return nil }
func MaxPending(n int, dedupe string) Option         { return nil } // beyond n pending with the same dedupe: ErrFull
func Coalesce(dedupe string) Option                  { return nil } // joins the pending one
func Deadline(pending, running time.Duration) Option { return nil } // 0 = none
func AllowReentrant() Option                         { return nil }

type Handle struct{ _ int }

func (h *Handle) Wait(ctx context.Context) error { return nil }
func (h *Handle) Cancel()                        {}

type Stat struct {
	Key              Key
	Level            int
	Running, Pending int
	Oldest           time.Duration
}
type Task struct {
	Name     string
	Since    time.Time
	Running  bool
	Position int
}

// Queue is the durable kind: turns across the cluster that survive crashes. job uses its Store inside
// its own transactions; a host may use it for work that is no job.
type Queue struct{ _ int }

// Policy belongs to the kind of key, not to callers.
type Policy struct {
	Limit  int // at once; 1 = strictly in order; 0 = unlimited
	Paused bool
}

type Item struct {
	Seq      int64 // order within a key
	Key      Key
	Content  string // a job id, or the host's own
	Holder   string // session, "" while waiting
	LentTo   string // a borrower's Content
	Epoch    int64
	Enqueued time.Time
	Since    time.Time // turn began
}

func New(cfg Config) (*Queue, error) { return nil, nil }

type Config struct {
	Env      drover.Env
	Tx       store.Runner
	Store    Store
	Policies map[string]Policy // by Key.Kind; only fills kinds that have no row; default Limit 1
}

func (q *Queue) SetLimit(ctx context.Context, kind string, n int) error           { return nil }
func (q *Queue) SetKeyLimit(ctx context.Context, k Key, n int) error              { return nil }
func (q *Queue) Policies(ctx context.Context) ([]PolicyRow, error)                { return nil, nil }
func (q *Queue) List(ctx context.Context, k Key) ([]Item, error)                  { return nil, nil } // holders first, then waiting in order
func (q *Queue) Keys(ctx context.Context, f Filter) ([]Stat, error)               { return nil, nil } // keys with a line
func (q *Queue) Blocked(ctx context.Context, older time.Duration) ([]Item, error) { return nil, nil }
func (q *Queue) Audit(ctx context.Context) (repaired int, err error)              { return 0, nil }

type PolicyRow struct {
	Kind, ID string // ID "" = the kind
	Policy
}
type Filter struct {
	Kind, After string
	Key         Key
	Older       time.Duration
	Keys        bool // one item per key with a line
	Limit       int  // default and most 1000
}

// Store is what a store package offers to steer and look at the lines its jobs stand in; the turns themselves are
// taken inside job.Store.
type Store interface {
	// List finds items: those of Filter.Key (holders first, by Place, then waiters by Place), or across keys of a kind.
	List(ctx context.Context, tx store.Tx, f Filter) ([]Item, error)
	// Policy stores the given rows and answers all rows, sorted by kind, then id. In the same transaction:
	// a raised limit grants as many waiters as fit, per key in order of Place; a lowered one grants nothing until holders
	// are fewer; unlimited to n: live jobs of those keys that are ready, running or parked become holders; n to
	// unlimited: all waiters become ready. Hints for the queues of whatever became claimable.
	Policy(ctx context.Context, tx store.Tx, set []PolicyRow) ([]PolicyRow, error)
	// Audit looks on one snapshot for lines with a free turn that nobody will grant, holders that are final, and
	// keys with more holders than turns were granted; repairs at most max keys and says how many. Expected for ever: 0.
	Audit(ctx context.Context, tx store.Tx, max int) (repaired int, err error)
}

var (
	ErrReentrant = errors.New("syncqueue: key already held by this call chain")
	ErrFull      = errors.New("syncqueue: too many pending")
	ErrExpired   = errors.New("syncqueue: deadline passed while pending") // is context.DeadlineExceeded too
	ErrClosed    = errors.New("syncqueue: draining")
	ErrInvalid   = errors.New("syncqueue: invalid")
)
