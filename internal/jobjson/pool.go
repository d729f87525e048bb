package jobjson

import (
	"maps"
	"slices"

	"github.com/drover-cloud/drover/job"
)

// Pool is a queue of package job: workers and the jobs for them.
type Pool struct {
	Name    string            `json:"name"`
	Workers int               `json:"workers"` // of the node asked
	Running int               `json:"running"` // on the node asked
	Blocked int               `json:"blocked"`
	Free    int               `json:"free"`
	Depth   map[job.State]int `json:"depth"` // in the cluster
	Oldest  int64             `json:"oldest_ms"`
	Paused  bool              `json:"paused"`
}

// Ready and Waiting are for the page.
func (p Pool) Ready() int { return p.Depth[job.Ready] }

// Waiting counts those whose turn has not come.
func (p Pool) Waiting() int { return p.Depth[job.Waiting] }

// PoolsOf are the pools by name.
func PoolsOf(st job.Stats) []Pool {
	ps := []Pool{}
	for _, name := range slices.Sorted(maps.Keys(st.Queues)) {
		q := st.Queues[name]
		ps = append(ps, Pool{name, q.Workers, q.Running, q.Blocked, q.Free, q.Depth, q.Oldest.Milliseconds(), q.Paused})
	}
	return ps
}

// Blocked is work that does not go on.
type Blocked struct {
	Job    *Job     `json:"job,omitempty"`
	Key    *Key     `json:"key,omitempty"`
	Why    string   `json:"why"`
	Holder string   `json:"holder,omitempty"` // what holds the key: a job's id
	Node   string   `json:"node,omitempty"`
	Line   int      `json:"line,omitempty"`
	Cycle  []string `json:"cycle,omitempty"`
	Since  Stamp    `json:"since"`
}

// BlockedOf is one.
func BlockedOf(b job.Blocked) Blocked {
	o := Of(b.Job)
	return Blocked{&o, o.Key, b.Why, b.Holder.Content, b.Holder.Holder, b.Line, b.Cycle, Stamp(b.Since)}
}
