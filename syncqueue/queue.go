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
