package console

import (
	"context"
	"iter"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/syncqueue"
)

// Jobs is what the console needs of *[job.Manager].
type Jobs interface {
	JobReader
	JobSteerer
	PoolSteerer
}

// JobReader looks at jobs.
type JobReader interface {
	Get(ctx context.Context, id string) (*job.Job, error)
	Lookup(ctx context.Context, ids []string) (map[string]*job.Job, error)
	Page(ctx context.Context, q job.Query) ([]*job.Job, string, error)
	Journal(ctx context.Context, id string) iter.Seq2[job.Entry, error]
	Watch(ctx context.Context, id string) iter.Seq2[*job.Job, error]
	Stats(ctx context.Context) (job.Stats, error)
	Blocked(ctx context.Context) ([]job.Blocked, error)
}

// JobSteerer changes what becomes of jobs.
type JobSteerer interface {
	Cancel(ctx context.Context, id string, reason ...string) (accepted bool, err error)
	Retry(ctx context.Context, id string, opts ...job.RetryOption) (*job.Job, error)
	SetPriority(ctx context.Context, id string, p int) error
	Reschedule(ctx context.Context, id string, at time.Time) error
	Hold(ctx context.Context, id string) error
	Wake(ctx context.Context, topic string) error
	Fence(ctx context.Context, id, reason string) error
}

// PoolSteerer changes the pace of the pools of workers: which of them start jobs, and this node's sizes.
type PoolSteerer interface {
	PauseQueue(ctx context.Context, queue string) error
	ResumeQueue(ctx context.Context, queue string) error
	Resize(queue string, n int) error
}

// Queues is what the console needs of *[syncqueue.Queue].
type Queues interface {
	QueueReader
	QueueSteerer
}

// QueueReader looks at lines.
type QueueReader interface {
	Keys(ctx context.Context, f syncqueue.Filter) ([]syncqueue.Stat, error)
	List(ctx context.Context, k syncqueue.Key) ([]syncqueue.Item, error)
	Policies(ctx context.Context) ([]syncqueue.PolicyRow, error)
}

// QueueSteerer changes the order and the pace of lines.
type QueueSteerer interface {
	Move(ctx context.Context, seq, before int64) error
	MoveFirst(ctx context.Context, seq int64) error
	Pause(ctx context.Context, k syncqueue.Key) error
	Resume(ctx context.Context, k syncqueue.Key) error
	PauseKind(ctx context.Context, kind string) error
	ResumeKind(ctx context.Context, kind string) error
	Limiter
}

// Limiter sets how many turns there are at once.
type Limiter interface {
	SetLimit(ctx context.Context, kind string, n int) error
	SetKeyLimit(ctx context.Context, k syncqueue.Key, n int) error
}

// Leases is what the console needs of *[lease.Session].
type Leases interface {
	List(ctx context.Context) ([]lease.Info, error)
}
