package jobjson

import (
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// UnmarshalText reads what MarshalText wrote.
func (s *Stamp) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*s = Stamp{}
		return nil
	}
	t, err := time.Parse(time.RFC3339, string(b))
	*s = Stamp(t)
	return err
}

// Job is the job that o shows: Of(o.Job()) is o again, but for what stands beside the job.
func (o *Job) Job() *job.Job {
	j := &job.Job{
		ID: o.ID, Kind: o.Kind, State: o.State, Queue: o.Pool, Name: o.Name, Place: o.Place, Resource: o.Resource, Parent: o.Parent,
		Root: o.Root, RetryOf: o.RetryOf, Trace: o.Trace, Session: o.Node, Priority: o.Priority, Attempt: o.Attempt, MaxAttempts: o.MaxAttempts,
		Runs: o.Runs, Lost: o.Lost, Rev: o.Rev, Seq: o.Seq, Epoch: o.Epoch, Identity: o.Identity, Error: o.Error,
		Progress: job.Progress{Percent: o.Progress.Percent, Step: o.Progress.Step, Note: o.Progress.Note},
		Created:  time.Time(o.Created), RunAt: time.Time(o.RunAt), Started: time.Time(o.Started), Ended: time.Time(o.Ended),
		Updated: time.Time(o.Updated), Deadline: time.Time(o.Deadline), Args: o.Args, Result: o.Result,
	}
	if o.Key != nil {
		j.Sync = syncqueue.Key{Kind: o.Key.Kind, ID: o.Key.ID}
	}
	if o.Cancel != nil {
		j.CancelAt, j.CancelBy, j.CancelReason = time.Time(o.Cancel.At), o.Cancel.By, o.Cancel.Reason
	}
	return j
}

// Entry is the row of a journal that o shows.
func (o *Entry) Entry() job.Entry {
	return job.Entry{N: o.N, At: time.Time(o.At), Node: o.Node, Text: o.Text, Failure: o.Failure, Data: o.Data}
}
