package jobjson

import (
	"time"

	"github.com/drover-cloud/drover/periodic"
)

// Tasks are the periodic tasks of a node, or why they are not known.
type Tasks struct {
	Node  string `json:"node"`
	Error string `json:"error,omitempty"` // no answer
	Items []Task `json:"tasks"`
}

// Task is a periodic task of one node.
type Task struct {
	Name     string `json:"name"`
	Schedule string `json:"schedule"`
	State    string `json:"state"`
	Enabled  bool   `json:"enabled"`
	Due      Stamp  `json:"due,omitzero"` // the last due time
	Last     Stamp  `json:"last,omitzero"`
	Next     Stamp  `json:"next,omitzero"`
	Success  Stamp  `json:"last_success,omitzero"`
	Took     int64  `json:"took_ms"`
	Error    string `json:"error,omitempty"`
	Runs     int64  `json:"runs"`
	Failures int64  `json:"failures"`
	Missed   int64  `json:"missed"`
	Overruns int64  `json:"overlapped"`
	Gated    int64  `json:"gated"`
	Taken    int64  `json:"taken"` // by other nodes
	Active   int    `json:"active"`
	Stale    bool   `json:"stale,omitempty"`
	Holder   string `json:"holder,omitempty"`
	Epoch    int64  `json:"epoch,omitempty"`
}

// Bad says that a task needs somebody to look at it.
func (t Task) Bad() bool {
	return t.Error != "" || t.Stale || t.State == "overdue" || t.State == "unknown"
}

// TaskOf is a task's status.
func TaskOf(s periodic.Status) Task {
	t := Task{
		Name: s.Name, Schedule: s.Schedule, State: s.State, Enabled: s.Enabled, Due: Stamp(s.LastDue), Last: Stamp(s.Last), Next: Stamp(s.Next),
		Success: Stamp(s.LastSuccess), Took: int64(s.Took / time.Millisecond), Runs: s.Runs, Failures: s.Failures, Missed: s.Missed,
		Overruns: s.Overruns, Gated: s.Gated, Taken: s.Taken, Active: s.Active, Stale: s.Stale, Holder: s.Holder, Epoch: s.Epoch,
	}
	if s.Err != nil {
		t.Error = s.Err.Error()
	}
	return t
}
