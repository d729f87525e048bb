package job

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Config of a [Manager]. Either DB, or Tx and Store, are required; a zero field is its default.
type Config struct {
	Env     drover.Env
	DB      DB               // fills Tx, Store and Notify and, if Session is nil, opens and runs a session of its own
	Tx      store.Runner     // runs the transactions of Store; default DB
	Store   Store            // default DB.Jobs()
	Notify  store.Notifier   // default DB.Notifier(); nil = poll only
	Session *lease.Session   // nil only with empty Queues, and then no rounds: nothing is promoted or swept here; run by the host, added to its Group before the manager
	Turns   *syncqueue.Queue // nil = default policies on the Store's own Turns()
	// Queues are the workers per queue, 0 to 100 000 each. Nil = {"default": 100}; empty = this node only submits.
	Queues map[string]int
	// MaxWaiting bounds, per queue, how many jobs wait for their turn or a worker, counted a second ago at most; 1 or more. A
	// submission that would exceed it is refused with an *OverloadedError, children excepted. Default: none.
	MaxWaiting  map[string]int
	Poll        time.Duration // bound of what a lost hint delays; default 1 s, 100 ms to 1 min, shortened by 0–10 % jitter
	ClaimBatch  int           // default 500, at most 1000
	FinishBatch int           // default 500, at most 1000
	FinishDelay time.Duration // how long a finish may wait for its batch while more handlers run than fit; default 5 ms, at most 100 ms
	StopTimeout time.Duration // for handlers after Run's ctx has ended; default 30 s
	Retain      time.Duration // of final jobs; default 24 h, at least 1 min
	ReportAfter time.Duration // jobs that have not got on for so long are logged, and in Blocked; default 10 min, 1 s to 24 h
	MaxArgs     int           // bytes; default 256 KiB, at most 16 MiB
	MaxResult   int           // bytes; default 1 MiB, at most 16 MiB
	Events      Sink          // nil = none
	Cipher      Cipher        // seals secrets before they are stored; nil: jobs with secrets are refused
}

// Sink gets events inside the transaction that makes them, so that one with an outbox sends exactly those that commit. An
// error fails that transaction like one of the store; a panic is recovered and the event dropped.
type Sink interface {
	Publish(ctx context.Context, tx store.Tx, e Event) error
}

const (
	defaultQueue = "default"
	maxBytes     = 16 << 20
	maxWorkers   = 100_000
	unbounded    = time.Duration(math.MaxInt64)
)

func (c Config) defaults() Config {
	c.Env = c.Env.Defaults()
	if c.DB != nil {
		if c.Tx == nil {
			c.Tx = c.DB
		}
		if c.Store == nil {
			c.Store = c.DB.Jobs()
		}
		if c.Notify == nil {
			c.Notify = c.DB.Notifier()
		}
	}
	if c.Queues == nil {
		c.Queues = map[string]int{defaultQueue: 100}
	}
	c.Queues, c.MaxWaiting = maps.Clone(c.Queues), maps.Clone(c.MaxWaiting)
	fill(&c.Poll, time.Second)
	fill(&c.ClaimBatch, 500)
	fill(&c.FinishBatch, 500)
	fill(&c.FinishDelay, 5*time.Millisecond)
	fill(&c.StopTimeout, 30*time.Second)
	fill(&c.Retain, 24*time.Hour)
	fill(&c.ReportAfter, 10*time.Minute)
	fill(&c.MaxArgs, 256<<10)
	fill(&c.MaxResult, 1<<20)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) check() error {
	switch {
	case c.Tx == nil:
		return refused("Tx", "is required, or DB")
	case c.Store == nil:
		return refused("Store", "is required, or DB")
	}
	for _, q := range slices.Sorted(maps.Keys(c.Queues)) {
		if why := badName(q); why != "" {
			return refused("Queues", fmt.Sprintf("%q: %s", q, why))
		}
		if n := c.Queues[q]; n < 0 || n > maxWorkers {
			return refused("Queues", fmt.Sprintf("%q: %d workers, must be 0 to %d", q, n, maxWorkers))
		}
	}
	for _, q := range slices.Sorted(maps.Keys(c.MaxWaiting)) {
		if why := badName(q); why != "" {
			return refused("MaxWaiting", fmt.Sprintf("%q: %s", q, why))
		}
		if n := c.MaxWaiting[q]; n < 1 {
			return refused("MaxWaiting", fmt.Sprintf("%q: %d, must be at least 1", q, n))
		}
	}
	if len(c.Queues) > 0 && c.Session == nil && c.DB == nil {
		return refused("Session", "is required with Queues, or DB")
	}
	if err := c.Env.Check(); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	return c.checkNumbers()
}

func (c Config) checkNumbers() error {
	for _, r := range []struct {
		field           string
		value, min, max int64
	}{
		{"ClaimBatch", int64(c.ClaimBatch), 1, 1000},
		{"FinishBatch", int64(c.FinishBatch), 1, 1000},
		{"MaxArgs", int64(c.MaxArgs), 1, maxBytes},
		{"MaxResult", int64(c.MaxResult), 1, maxBytes},
	} {
		if r.value < r.min || r.value > r.max {
			return refused(r.field, fmt.Sprintf("%d, must be %d to %d", r.value, r.min, r.max))
		}
	}
	for _, r := range []struct {
		field           string
		value, min, max time.Duration
	}{
		{"Poll", c.Poll, 100 * time.Millisecond, time.Minute},
		{"FinishDelay", c.FinishDelay, 1, 100 * time.Millisecond},
		{"StopTimeout", c.StopTimeout, 1, 24 * time.Hour},
		{"ReportAfter", c.ReportAfter, time.Second, 24 * time.Hour},
		{"Retain", c.Retain, time.Minute, unbounded},
	} {
		switch {
		case r.max == unbounded && r.value < r.min:
			return refused(r.field, fmt.Sprintf("%v, must be at least %v", r.value, r.min))
		case r.value < r.min || r.value > r.max:
			return refused(r.field, fmt.Sprintf("%v, must be %v to %v", r.value, r.min, r.max))
		}
	}
	return nil
}

func refused(field, reason string) error {
	return fmt.Errorf("%w: %w", drover.ErrConfig, &FieldError{field, reason})
}
