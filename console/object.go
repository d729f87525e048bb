package console

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// stamp is an instant of the API: RFC 3339 with milliseconds, UTC.
type stamp time.Time

func (s stamp) IsZero() bool { return time.Time(s).IsZero() }

func (s stamp) String() string { return time.Time(s).UTC().Format("2006-01-02T15:04:05.000Z") }

// MarshalText writes a zero stamp as "".
func (s stamp) MarshalText() ([]byte, error) {
	if s.IsZero() {
		return nil, nil
	}
	return []byte(s.String()), nil
}

// jobObject is a job in JSON. Lists have no args and no result.
type jobObject struct {
	ID          string            `json:"id"`
	Kind        string            `json:"kind"`
	State       job.State         `json:"state"`
	Pool        string            `json:"pool"`
	Name        string            `json:"name,omitempty"`
	Key         *keyObject        `json:"key,omitempty"`
	Place       int64             `json:"place,omitempty"`
	Resource    string            `json:"resource,omitempty"`
	Parent      string            `json:"parent,omitempty"`
	Root        string            `json:"root,omitempty"`
	RetryOf     string            `json:"retry_of,omitempty"`
	Node        string            `json:"node,omitempty"`
	Priority    int               `json:"priority"`
	Attempt     int               `json:"attempt"`
	MaxAttempts int               `json:"max_attempts,omitempty"`
	Runs        int               `json:"runs"`
	Lost        int               `json:"lost"`
	Rev         int64             `json:"rev"`
	Seq         int64             `json:"seq"`
	Epoch       int64             `json:"epoch"`
	Progress    progressObject    `json:"progress"`
	Identity    map[string]string `json:"identity,omitempty"`
	Error       *job.Error        `json:"error,omitempty"`
	Cancel      *cancelObject     `json:"cancel,omitempty"`
	Created     stamp             `json:"created"`
	RunAt       stamp             `json:"run_at,omitzero"`
	Started     stamp             `json:"started,omitzero"`
	Ended       stamp             `json:"ended,omitzero"`
	Updated     stamp             `json:"updated"`
	Deadline    stamp             `json:"deadline,omitzero"`
	Args        json.RawMessage   `json:"args,omitempty"`
	Result      json.RawMessage   `json:"result,omitempty"`
	ArgsSize    int               `json:"args_size,omitempty"` // where args or result are too large to be shown
	ResultSize  int               `json:"result_size,omitempty"`
	Accepted    string            `json:"accepted,omitempty"` // of a cancel: cancelled, requested
}

type keyObject struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

type progressObject struct {
	Percent int    `json:"percent"`
	Step    string `json:"step,omitempty"`
	Note    string `json:"note,omitempty"`
}

type cancelObject struct {
	At     stamp  `json:"at"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

type entryObject struct {
	N       int64           `json:"n"`
	At      stamp           `json:"at"`
	Node    string          `json:"node,omitempty"`
	Text    string          `json:"text"`
	Failure bool            `json:"failure,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// maxShown is how much of a payload is shown; the rest is for download.
const maxShown = 64 << 10

func keyOf(k syncqueue.Key) *keyObject {
	if k == (syncqueue.Key{}) {
		return nil
	}
	return &keyObject{k.Kind, k.ID}
}

// objectOf is a job as lists show it.
func objectOf(j *job.Job) jobObject {
	o := jobObject{
		ID: j.ID, Kind: j.Kind, State: j.State, Pool: j.Queue, Name: j.Name, Place: j.Place, Resource: j.Resource,
		Parent: j.Parent, Root: j.Root, RetryOf: j.RetryOf, Node: j.Session, Priority: j.Priority, Attempt: j.Attempt,
		MaxAttempts: j.MaxAttempts, Runs: j.Runs, Lost: j.Lost, Rev: j.Rev, Seq: j.Seq, Epoch: j.Epoch, Key: keyOf(j.Sync),
		Progress: progressObject{j.Progress.Percent, j.Progress.Step, j.Progress.Note}, Identity: j.Identity, Error: j.Error,
		Created: stamp(j.Created), RunAt: stamp(j.RunAt), Started: stamp(j.Started), Ended: stamp(j.Ended),
		Updated: stamp(j.Updated), Deadline: stamp(j.Deadline),
	}
	if !j.CancelAt.IsZero() {
		o.Cancel = &cancelObject{stamp(j.CancelAt), j.CancelBy, j.CancelReason}
	}
	return o
}

// wholeOf is a job with its payloads, masked and at most maxShown each.
func (c *Console) wholeOf(j *job.Job) jobObject {
	o := objectOf(j)
	o.Args, o.ArgsSize = c.shown(j.Kind, j.Args)
	o.Result, o.ResultSize = c.shown(j.Kind, j.Result)
	return o
}

func (c *Console) shown(kind string, b json.RawMessage) (json.RawMessage, int) {
	if b = c.masked(kind, b); len(b) > maxShown {
		return nil, len(b)
	}
	return b, 0
}

// masked is a payload as it may leave: JSON, or a JSON string of bytes that are none.
func (c *Console) masked(kind string, b json.RawMessage) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if c.cfg.Mask != nil {
		b = c.cfg.Mask(kind, b)
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

func (c *Console) entryOf(kind string, e job.Entry) entryObject {
	data, _ := c.shown(kind, e.Data)
	return entryObject{e.N, stamp(e.At), e.Node, e.Text, e.Failure, data}
}
