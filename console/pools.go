package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/drover-cloud/drover/job"
)

// poolObject is a queue of package job: workers and the jobs for them.
type poolObject struct {
	Name    string            `json:"name"`
	Workers int               `json:"workers"` // of this node
	Running int               `json:"running"` // on this node
	Blocked int               `json:"blocked"`
	Free    int               `json:"free"`
	Depth   map[job.State]int `json:"depth"` // in the cluster
	Oldest  int64             `json:"oldest_ms"`
	Paused  bool              `json:"paused"`
}

func poolsOf(st job.Stats) []poolObject {
	ps := []poolObject{}
	for _, name := range sortedKeys(st.Queues) {
		q := st.Queues[name]
		ps = append(ps, poolObject{name, q.Workers, q.Running, q.Blocked, q.Free, q.Depth, q.Oldest.Milliseconds(), q.Paused})
	}
	return ps
}

// statsObject is job.Stats in JSON.
type statsObject struct {
	Counts map[job.State]int `json:"counts"`
	Active int               `json:"active"`
	Pools  []poolObject      `json:"pools"`
	Now    stamp             `json:"now"`
}

func (c *Console) getStats(r *http.Request) (*answer, error) {
	counts, _, err := c.counts(r.Context())
	if err != nil {
		return nil, err
	}
	o := statsObject{Counts: counts, Active: counts[job.Running], Pools: []poolObject{}, Now: stamp(c.now())}
	if who(r.Context()).Account == "" {
		st, err := c.stats(r.Context())
		if err != nil {
			return nil, err
		}
		o.Active, o.Pools = st.Active, poolsOf(st)
	}
	return ok(o)
}

func (c *Console) listPools(r *http.Request) (*answer, error) {
	if who(r.Context()).Account != "" {
		return ok(list[poolObject]{Items: []poolObject{}})
	}
	st, err := c.stats(r.Context())
	if err != nil {
		return nil, err
	}
	return ok(list[poolObject]{Items: poolsOf(st)})
}

type resizeBody struct {
	Workers *int   `json:"workers"`
	Back    string `json:"back"`
}

// pool answers the pools as they are after a verb on one; only who sees all accounts may do it.
func (c *Console) pool(r *http.Request, in any, notice string, do func(name string) error) (*answer, error) {
	if err := body(r, in); err != nil {
		return nil, err
	}
	if who(r.Context()).Account != "" {
		return nil, notFound("the pool")
	}
	if err := do(r.PathValue("pool")); err != nil {
		return nil, err
	}
	c.forget()
	c.hub.add(frame{topic: "queue", data: fmt.Appendf(nil, `{"pool":%q}`, r.PathValue("pool"))})
	a, err := c.listPools(r)
	if a != nil {
		a.notice = notice
	}
	return a, err
}

func (c *Console) pausePool(r *http.Request) (*answer, error) {
	return c.pool(r, &emptyBody{}, "pause", func(name string) error { return c.cfg.Jobs.PauseQueue(r.Context(), name) })
}

func (c *Console) resumePool(r *http.Request) (*answer, error) {
	return c.pool(r, &emptyBody{}, "resume", func(name string) error { return c.cfg.Jobs.ResumeQueue(r.Context(), name) })
}

func (c *Console) resizePool(r *http.Request) (*answer, error) {
	var in resizeBody
	return c.pool(r, &in, "resize", func(name string) error {
		if in.Workers == nil {
			return bad("workers: is missing")
		}
		return c.cfg.Jobs.Resize(name, *in.Workers)
	})
}

// Wait is the longest present wait in words.
func (p poolObject) Wait() string {
	if p.Oldest == 0 {
		return "–"
	}
	return spanText(time.Duration(p.Oldest) * time.Millisecond)
}

// Ready and Waiting are for the page too.
func (p poolObject) Ready() int { return p.Depth[job.Ready] }

// Waiting counts those whose turn has not come.
func (p poolObject) Waiting() int { return p.Depth[job.Waiting] }
