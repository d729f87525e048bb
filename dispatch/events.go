package dispatch

import (
	"cmp"
	"context"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Phases of a command's events.
const (
	Scheduled = "scheduled"
	Started   = "started"
	Completed = "completed"
)

// Event tells what becomes of an async command. There are at most three per job, all with one ID: scheduled with its
// submission, started with its first run, completed with its end; retries repeat none of them.
type Event struct {
	ID, Command, Version string
	Phase                string // Scheduled, Started, Completed
	JobID, Entity        string
	Code                 Code     // of Completed: "" when it succeeded
	Job                  *job.Job // as the event leaves it; secrets in its Args are sealed
}

// Sink gets events in the transaction that makes them so: what it writes with tx is committed with the event or not at all. Its
// error fails that transaction.
type Sink interface {
	Publish(ctx context.Context, tx store.Tx, e Event) error
}

// eventID is the ID that the events of a job have.
func eventID(jobID string) string { return derivedID([]byte("event of " + jobID)) }

// eventSink makes a command's events of its job's.
type eventSink struct{ to Sink }

// Publish is job.Sink's.
func (s eventSink) Publish(ctx context.Context, tx store.Tx, je job.Event) error {
	e := Event{ID: eventID(je.JobID), JobID: je.JobID, Code: Code(je.Code)}
	switch {
	case je.Type == "submit":
		e.Phase = Scheduled
	case je.Type == "complete":
		e.Phase = Completed
	case je.Began:
		e.Phase = Started
	default:
		return nil
	}
	e.Job = je.Job()
	if e.Phase == Started && e.Job.Runs > 1 {
		return nil
	}
	args := argsOf(e.Job)
	e.Command, e.Version, e.Entity = args.Command, args.Version, cmp.Or(args.Entity, je.Resource)
	return s.to.Publish(ctx, tx, e)
}
