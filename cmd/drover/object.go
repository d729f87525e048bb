package main

import (
	"encoding/json"
	"strconv"

	"github.com/drover-cloud/drover/job"
)

func itoa(n int) string { return strconv.Itoa(n) }

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
	Journal     []entryObject     `json:"journal,omitempty"`
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

// objectOf is a job as lists show it.
func objectOf(j *job.Job) jobObject {
	o := jobObject{
		ID: j.ID, Kind: j.Kind, State: j.State, Pool: j.Queue, Name: j.Name, Place: j.Place, Resource: j.Resource,
		Parent: j.Parent, Root: j.Root, RetryOf: j.RetryOf, Node: j.Session, Priority: j.Priority, Attempt: j.Attempt,
		MaxAttempts: j.MaxAttempts, Runs: j.Runs, Lost: j.Lost, Rev: j.Rev, Seq: j.Seq, Epoch: j.Epoch,
		Progress: progressObject{j.Progress.Percent, j.Progress.Step, j.Progress.Note}, Identity: j.Identity, Error: j.Error,
		Created: stamp(j.Created), RunAt: stamp(j.RunAt), Started: stamp(j.Started), Ended: stamp(j.Ended),
		Updated: stamp(j.Updated), Deadline: stamp(j.Deadline),
	}
	if j.Sync.Kind != "" {
		o.Key = &keyObject{j.Sync.Kind, j.Sync.ID}
	}
	if !j.CancelAt.IsZero() {
		o.Cancel = &cancelObject{stamp(j.CancelAt), j.CancelBy, j.CancelReason}
	}
	return o
}

// wholeOf is a job with everything.
func wholeOf(j *job.Job) jobObject {
	o := objectOf(j)
	o.Args, o.Result = raw(j.Args), raw(j.Result)
	return o
}

// raw is stored JSON, or a JSON string of bytes that are none.
func raw(b json.RawMessage) json.RawMessage {
	if len(b) == 0 || json.Valid(b) {
		return b
	}
	s, err := json.Marshal(string(b))
	if err != nil {
		return nil
	}
	return s
}

func entryOf(e job.Entry) entryObject {
	return entryObject{e.N, stamp(e.At), e.Node, e.Text, e.Failure, raw(e.Data)}
}
