package cloud

import (
	"context"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
)

// ManagementServer is a node as answers show it.
type ManagementServer struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	State     string     `json:"state"`
	Version   string     `json:"version"`
	ServiceIP string     `json:"serviceip"`
	IPAddress string     `json:"ipaddress"`
	LastStart csapi.Time `json:"lastserverstart,omitzero"`
	Agents    int64      `json:"agentscount"`
	Pending   int64      `json:"pendingjobscount"`
}

// ObjectName is the key of a list of them.
func (ManagementServer) ObjectName() string { return "managementserver" }

// Shutdown is how far the draining of a node is.
type Shutdown struct {
	ID          string `json:"managementserverid"`
	Ready       bool   `json:"readyforshutdown"`
	Triggered   bool   `json:"shutdowntriggered"`
	Maintenance bool   `json:"maintenanceinitiated"`
	Pending     int64  `json:"pendingjobscount"`
	Agents      int64  `json:"agentscount"`
	State       string `json:"state"`
}

// ReadyResult is the answer of readyForShutdown.
type ReadyResult struct {
	Shutdown Shutdown `json:"readyforshutdown"`
}

type listServers struct {
	csapi.Paging
	ID   dispatch.UUID `param:"id,entity=managementserver"`
	Name string        `param:"name"`
}

func (c *Cloud) listServers(ctx context.Context, p listServers) (out dispatch.Page[ManagementServer], err error) {
	s, err := c.inv.fresh(ctx)
	if err != nil {
		return out, err
	}
	up, err := c.nodesUp(ctx)
	if err != nil {
		return out, err
	}
	var found []ManagementServer
	for _, n := range s.nodes {
		if !wanted(p.ID, n.ID) || !namedAs(p.Name, n.Label) {
			continue
		}
		m := ManagementServer{ID: n.ID, Name: n.Label, Version: csVersion, LastStart: csapi.Time(at(n.Created))}
		if n.Name == c.env.Node {
			m.Agents = int64(len(s.hosts)) // who asks here reaches all hosts from here
		}
		if m.Pending, err = c.pending(ctx, n.Name); err != nil {
			return out, err
		}
		m.State = n.state(up[n.Name], m.Pending)
		found = append(found, m)
	}
	return csapi.PageOf(p.Paging, found), nil
}

func (n nodeRow) state(up bool, pending int64) string {
	switch {
	case !up:
		return "Down"
	case n.Draining && pending > 0:
		return "PreparingForShutDown"
	case n.Draining:
		return "ReadyToShutDown"
	}
	return "Up"
}

// nodesUp are the nodes with a session that has not run out.
func (c *Cloud) nodesUp(ctx context.Context) (map[string]bool, error) {
	sessions, err := c.session.List(ctx)
	up := map[string]bool{}
	for _, s := range sessions {
		if !s.Named && s.State != lease.Dead {
			up[s.Name] = true
		}
	}
	return up, err
}

// pending are the jobs that run on a node.
func (c *Cloud) pending(ctx context.Context, node string) (n int64, err error) {
	for _, err := range c.jobs.List(ctx, job.Query{Session: node, States: []job.State{job.Running}, Limit: 500}) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

type serverTarget struct {
	ID dispatch.UUID `param:"managementserverid,required,entity=managementserver"`
}

type prepareShutdown struct{ serverTarget }

type cancelShutdown struct{ serverTarget }

type readyForShutdown struct{ serverTarget }

func (c *Cloud) prepareShutdown(ctx context.Context, p prepareShutdown) (Shutdown, error) {
	return c.drain(ctx, "prepareForShutdown", p.ID, true)
}

func (c *Cloud) cancelShutdown(ctx context.Context, p cancelShutdown) (Shutdown, error) {
	return c.drain(ctx, "cancelShutdown", p.ID, false)
}

func (c *Cloud) readyForShutdown(ctx context.Context, p readyForShutdown) (ReadyResult, error) {
	s, err := c.shutdown(ctx, p.ID)
	return ReadyResult{s}, err
}

// drain notes what is wanted of a node, which looks once a second.
func (c *Cloud) drain(ctx context.Context, command string, id dispatch.UUID, on bool) (Shutdown, error) {
	err := c.in(ctx, func(ctx context.Context, q *tx) error {
		if _, err := q.exec(ctx, `UPDATE rs_node SET draining = ? WHERE id = ?`, on, string(id)); err != nil {
			return err
		}
		return c.done(ctx, q, command, "ManagementServer", string(id))
	})
	if err != nil {
		return Shutdown{}, err
	}
	return c.shutdown(ctx, id)
}

func (c *Cloud) shutdown(ctx context.Context, id dispatch.UUID) (out Shutdown, err error) {
	page, err := c.listServers(ctx, listServers{ID: id})
	if err != nil || len(page.Items) == 0 {
		return out, err
	}
	m := page.Items[0]
	on := m.State == "PreparingForShutDown" || m.State == "ReadyToShutDown"
	return Shutdown{
		ID: m.ID, Ready: on && m.Pending == 0, Triggered: on, Pending: m.Pending, Agents: m.Agents, State: m.State,
	}, nil
}

// Drain notes whether an operator wants this node empty.
func (c *Cloud) Drain(ctx context.Context, on bool) error {
	return c.write(ctx, `UPDATE rs_node SET draining = ? WHERE name = ?`, on, c.env.Node)
}

// Draining tells whether an operator wants this node empty.
func (c *Cloud) Draining(ctx context.Context) (on bool, err error) {
	err = c.bun.NewRaw(`SELECT draining FROM rs_node WHERE name = ?`, c.env.Node).Scan(ctx, &on)
	return on, err
}
