package syncqueue

import (
	"context"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

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
