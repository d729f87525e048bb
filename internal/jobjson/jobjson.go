// Package jobjson is a job in JSON, as the console's API and cmd/drover show it.
package jobjson

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// Stamp is an instant of the API: RFC 3339 with milliseconds, UTC.
type Stamp time.Time

// IsZero lets omitzero leave it out.
func (s Stamp) IsZero() bool { return time.Time(s).IsZero() }

// String is the zero time too; JSON has "" for it.
func (s Stamp) String() string { return time.Time(s).UTC().Format("2006-01-02T15:04:05.000Z") }

// MarshalText writes a zero Stamp as "".
func (s Stamp) MarshalText() ([]byte, error) {
	if s.IsZero() {
		return nil, nil
	}
	return []byte(s.String()), nil
}

// Job is a job. Lists have no args and no result.
type Job struct {
	ID          string            `json:"id"`
	Kind        string            `json:"kind"`
	State       job.State         `json:"state"`
	Pool        string            `json:"pool"`
	Name        string            `json:"name,omitempty"`
	Key         *Key              `json:"key,omitempty"`
	Place       int64             `json:"place,omitempty"`
	Resource    string            `json:"resource,omitempty"`
	Parent      string            `json:"parent,omitempty"`
	Root        string            `json:"root,omitempty"`
	RetryOf     string            `json:"retry_of,omitempty"`
	Trace       string            `json:"trace,omitempty"`
	Node        string            `json:"node,omitempty"`
	Priority    int               `json:"priority"`
	Attempt     int               `json:"attempt"`
	MaxAttempts int               `json:"max_attempts,omitempty"`
	Runs        int               `json:"runs"`
	Lost        int               `json:"lost"`
	Rev         int64             `json:"rev"`
	Seq         int64             `json:"seq"`
	Epoch       int64             `json:"epoch"`
	Progress    Progress          `json:"progress"`
	Identity    map[string]string `json:"identity,omitempty"`
	Error       *job.Error        `json:"error,omitempty"`
	Cancel      *Cancel           `json:"cancel,omitempty"`
	Created     Stamp             `json:"created"`
	RunAt       Stamp             `json:"run_at,omitzero"`
	Started     Stamp             `json:"started,omitzero"`
	Ended       Stamp             `json:"ended,omitzero"`
	Updated     Stamp             `json:"updated"`
	Deadline    Stamp             `json:"deadline,omitzero"`
	Args        json.RawMessage   `json:"args,omitempty"`
	Result      json.RawMessage   `json:"result,omitempty"`
	ArgsSize    int               `json:"args_size,omitempty"` // where args or result are too large to be shown
	ResultSize  int               `json:"result_size,omitempty"`
	Journal     []Entry           `json:"journal,omitempty"`
	Timeline    []Span            `json:"timeline,omitempty"`
	Accepted    string            `json:"accepted,omitempty"` // of a cancel: cancelled, requested
}

// Key is a syncqueue.Key.
type Key struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Progress is how far a job is.
type Progress struct {
	Percent int    `json:"percent"`
	Step    string `json:"step,omitempty"`
	Note    string `json:"note,omitempty"`
}

// Cancel is who asked for it.
type Cancel struct {
	At     Stamp  `json:"at"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Entry is a row of a journal.
type Entry struct {
	N       int64           `json:"n"`
	At      Stamp           `json:"at"`
	Node    string          `json:"node,omitempty"`
	Text    string          `json:"text"`
	Failure bool            `json:"failure,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// KeyOf is k, nil for the zero Key.
func KeyOf(k syncqueue.Key) *Key {
	if k == (syncqueue.Key{}) {
		return nil
	}
	return &Key{k.Kind, k.ID}
}

// Of is a job as lists show it.
func Of(j *job.Job) Job {
	o := Job{
		ID: j.ID, Kind: j.Kind, State: j.State, Pool: j.Queue, Name: j.Name, Place: j.Place, Resource: j.Resource,
		Parent: j.Parent, Root: j.Root, RetryOf: j.RetryOf, Trace: j.Trace, Node: j.Session, Priority: j.Priority, Attempt: j.Attempt,
		MaxAttempts: j.MaxAttempts, Runs: j.Runs, Lost: j.Lost, Rev: j.Rev, Seq: j.Seq, Epoch: j.Epoch, Key: KeyOf(j.Sync),
		Progress: Progress{j.Progress.Percent, j.Progress.Step, j.Progress.Note}, Identity: j.Identity, Error: j.Error,
		Created: Stamp(j.Created), RunAt: Stamp(j.RunAt), Started: Stamp(j.Started), Ended: Stamp(j.Ended),
		Updated: Stamp(j.Updated), Deadline: Stamp(j.Deadline),
	}
	if !j.CancelAt.IsZero() {
		o.Cancel = &Cancel{Stamp(j.CancelAt), j.CancelBy, j.CancelReason}
	}
	return o
}

// Payload is stored bytes as they may be shown: JSON, or a JSON string of what is none.
func Payload(b json.RawMessage) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if json.Valid(b) && utf8.Valid(b) {
		return b
	}
	s, err := json.Marshal(string(b))
	if err != nil {
		return nil
	}
	return s
}
