package job

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// HandleOption of [Handle] and [Declare].
type HandleOption func(*handler)

// handler is a kind's options.
type handler struct {
	timeout    time.Duration
	grace      time.Duration
	policy     func() backoff.BackOff
	attempts   int
	onLost     LostPolicy
	maxLost    int
	queue      string
	priority   int
	locked     bool
	unwinds    bool
	quiet      time.Duration
	keep       time.Duration
	fenceAfter time.Duration
	sink       Sink
	sensitive  bool
	long       bool
	abandon    func(ctx context.Context, j *Job) error
	bad        string // the first bad option
}

func defaultHandler() handler {
	return handler{
		timeout: time.Hour, grace: 30 * time.Second, policy: defaultPolicy, attempts: 5, maxLost: 5,
		queue: defaultQueue, quiet: 10 * time.Minute,
	}
}

func (h *handler) want(ok bool, format string, args ...any) {
	if !ok && h.bad == "" {
		h.bad = fmt.Sprintf(format, args...)
	}
}

// NoTimeout is a [Timeout] without end.
const NoTimeout time.Duration = -1

// Timeout ends the ctx of each run after d, with cause [ErrDeadline]; default 1 h.
func Timeout(d time.Duration) HandleOption {
	return func(h *handler) {
		h.want(d > 0 || d == NoTimeout, "Timeout(%v) must be positive", d)
		h.timeout = d
	}
}

// Grace is how long a handler may go on after its ctx has ended before it is reported overdue; default 30 s. Overdue jobs
// stay running and keep their turn.
func Grace(d time.Duration) HandleOption {
	return func(h *handler) {
		h.want(d >= 0, "Grace(%v) is negative", d)
		h.grace = d
	}
}

// Long says that runs take long and can go on elsewhere: [Manager.Drain] ends their ctx with cause [ErrStopping] at once
// and, as at the end of Run, a job whose handler then returns an error goes back to ready with no attempt spent.
func Long() HandleOption { return func(h *handler) { h.long = true } }

// Retry sets how failures are retried: the delay is what a fresh policy says when asked as often as attempts were spent, max
// the attempts in all. Of an exponential policy the randomisation is drawn from Env.Rand and MaxElapsedTime is ignored.
// Default: 1 s, doubled up to 5 min, ±20 %; 5 attempts.
func Retry(policy func() backoff.BackOff, max int) HandleOption {
	return func(h *handler) {
		h.want(max >= 1, "Retry: max %d must be at least 1", max)
		h.attempts = max
		if policy != nil {
			h.policy = policy
		}
	}
}

// LostPolicy says what becomes of a job whose node died.
type LostPolicy int

const (
	Rerun LostPolicy = iota // another node runs it again
	Fail                    // it fails with code "lost"
)

// OnLost sets what becomes of a job whose node died; default [Rerun].
func OnLost(p LostPolicy) HandleOption {
	return func(h *handler) {
		h.want(p == Rerun || p == Fail, "OnLost(%d) is unknown", p)
		h.onLost = p
	}
}

// MaxLost parks a job as poison when its node has died under it n times; default 5. Manager.Wake tries again.
func MaxLost(n int) HandleOption {
	return func(h *handler) {
		h.want(n >= 1, "MaxLost(%d) must be at least 1", n)
		h.maxLost = n
	}
}

// Queue sets the queue of the kind's jobs; default "default".
func Queue(name string) HandleOption {
	return func(h *handler) {
		why := badName(name)
		h.want(why == "", "Queue(%q) %s", name, why)
		h.queue = name
	}
}

// Priority sets the priority of the kind's jobs, −100 to 100, lower first; default 0. It never overtakes inside a key.
func Priority(p int) HandleOption {
	return func(h *handler) {
		h.want(p >= -maxPriority && p <= maxPriority, "Priority(%d) must be %d to %d", p, -maxPriority, maxPriority)
		h.priority = p
	}
}

// NotCancellable makes Cancel refuse a job once it has started.
func NotCancellable() HandleOption { return func(h *handler) { h.locked = true } }

// Unwinds says that a run cleans up after the ones before it: a job cancelled, or past its Deadline, after it has run gets
// one more run, whose ctx has ended already with cause [ErrCancelled] or [ErrDeadline].
func Unwinds() HandleOption { return func(h *handler) { h.unwinds = true } }

// Quiet warns of a handler that has neither reported nor beaten for d; default 10 min.
func Quiet(d time.Duration) HandleOption {
	return func(h *handler) {
		h.want(d > 0, "Quiet(%v) must be positive", d)
		h.quiet = d
	}
}

// Keep sets how long final jobs of the kind stay; default Config.Retain, at least 1 min. A node that handles the kind
// removes them.
func Keep(d time.Duration) HandleOption {
	return func(h *handler) {
		h.want(d >= time.Minute, "Keep(%v) must be at least 1 min", d)
		h.keep = d
	}
}

// FenceAfter fails a job with code "fenced" when its handler still runs d after it became overdue; default never. The turn
// goes on although the handler may still act: what it writes is refused.
func FenceAfter(d time.Duration) HandleOption {
	return func(h *handler) {
		h.want(d > 0, "FenceAfter(%v) must be positive", d)
		h.fenceAfter = d
	}
}

// Abandon sets what a surviving node runs, under a new epoch, for a job lost under OnLost(Fail), before it fails with code
// "lost": f settles the entity the job was about.
func Abandon(f func(ctx context.Context, j *Job) error) HandleOption {
	return func(h *handler) { h.abandon = f }
}

// Sensitive makes all args of the kind pass [Config.Cipher] before they are stored, as fields tagged `secret:""` (or `drover:"secret"`)
// of any kind's args do. Without a Cipher such jobs are refused. What a job is given out with stays sealed; only the handler gets
// the args as they were submitted. Results, errors, steps and notes are stored as the handler makes them.
func Sensitive() HandleOption { return func(h *handler) { h.sensitive = true } }

// Events hands the events of the kind's jobs to s too, beside [Config.Events]. What another program than the nodes that have
// the kind does to a job is not seen.
func Events(s Sink) HandleOption { return func(h *handler) { h.sink = s } }
