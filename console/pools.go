package console

import (
	"fmt"
	"net/http"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

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
		o.Active, o.Pools = st.Active, jobjson.PoolsOf(st)
	}
	return ok(o)
}

func (c *Console) listPools(r *http.Request) (*answer, error) {
	ps, err := c.pools(r.Context())
	if err != nil {
		return nil, err
	}
	return ok(list[poolObject]{Items: ps})
}

type resizeBody struct {
	Workers *int   `json:"workers"`
	Node    string `json:"node"` // "" = this one
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
		if in.Node != "" && in.Node != c.env.Node {
			_, err := c.tellNode(r.Context(), in.Node, question{Do: "resize", Name: name, Workers: *in.Workers, By: who(r.Context()).Name})
			return err
		}
		return c.cfg.Jobs.Resize(name, *in.Workers)
	})
}
