package job

import (
	"encoding/json"
	"time"

	"github.com/drover-cloud/drover/syncqueue"
)

// State of a job.
type State string

// The states of a job; the last three are final and never change.
const (
	Scheduled State = "scheduled" // due at RunAt
	Waiting   State = "waiting"   // its turn on Sync has not come
	Ready     State = "ready"     // to be claimed
	Running   State = "running"   // held by Session at Epoch
	Parked    State = "parked"    // yielded until it is woken
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Final says whether s is an end.
func (s State) Final() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Job is a job as the store has it. Times are the store's.
type Job struct {
	ID, Kind, Queue, Name   string
	Parent, Root, RetryOf   string // Root is the topmost ancestor, a job without parent its own
	Seq, Place, Rev         int64  // order of submission, place in its line, revision
	Args, Result            json.RawMessage
	State                   State
	Error                   *Error
	Attempt, MaxAttempts    int // attempts are spent by failures only; MaxAttempts 0 = the kind's
	Runs, Lost              int // starts; runs whose node died
	Epoch                   int64
	Session                 string // name of the session that runs it, or ran it last
	SessionEpoch            int64  // that session's own lease.Token.Epoch: names it exactly
	Sync                    syncqueue.Key
	Priority                int
	Progress                Progress
	Identity                map[string]string // who asked; travels to the handler and its children
	Resource                string            // what it is about, for listing: "vm/42"
	Trace                   string            // id of the trace it was submitted in; "" = none
	RunAt, Deadline         time.Time
	Created, Started, Ended time.Time
	Updated, CancelAt       time.Time
	CancelBy, CancelReason  string
	Wakes                   []Wake // why a parked job runs again; once
	Joined, Replayed        bool   // transient, of the answer to Submit
}

// Wake tells why a parked job runs again: job, topic, time, expired, operator, cancel.
type Wake struct {
	Why, Name string
	Payload   []byte
}

// Progress is what a handler reports. Percent is 0 to 100, Step at most 128 bytes, Note at most 1 KiB.
type Progress struct {
	Percent int
	Step    string
	Note    string
}
