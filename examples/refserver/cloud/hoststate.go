package cloud

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// ResourceState of a host: what the operator, or a command, makes of it.
type ResourceState string

// The states; Disabled is shown for an Enabled one on which the operator lets nothing be placed.
const (
	HostEnabled     ResourceState = "Enabled"
	HostPreparing   ResourceState = "PrepareForMaintenance"
	HostMaintenance ResourceState = "Maintenance"
	HostFailed      ResourceState = "ErrorInMaintenance"
	HostDegraded    ResourceState = "Degraded"
)

// open tells whether machines are placed on the host.
func (h hostRow) open() bool { return h.State == HostEnabled && !h.Disabled }

func (h hostRow) shown() string {
	if h.State == HostEnabled && h.Disabled {
		return "Disabled"
	}
	return string(h.State)
}

var hostLabel = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// lockOpen keeps the host open for placement until the transaction ends, so that whoever closes it later finds what was placed.
func (q *tx) lockOpen(ctx context.Context, host string) error {
	n, err := q.exec(ctx, `UPDATE rs_host SET version = version WHERE id = ? AND resource_state = ? AND NOT disabled`, host, HostEnabled)
	if err == nil && n == 0 {
		err = fmt.Errorf("cloud: host %s: %w", host, tracker.ErrDisabled)
	}
	return err
}

// turnHost moves the host to another state, in its job, if it is in one of from. Once more by the same job is nothing.
func (c *Cloud) turnHost(ctx context.Context, id string, to ResourceState, from ...ResourceState) error {
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		h, err := hostByID(ctx, q, id)
		switch {
		case err != nil:
			return err
		case h.State == to && h.Job == jobID(ctx):
			return nil
		case !slices.Contains(from, h.State):
			return dispatch.Errorf(dispatch.WrongState, "host %s is in resource state %s", h.Name, h.State)
		}
		note := eventRow{Type: "HOST.STATE", State: "Completed", Description: fmt.Sprintf("host %s: %s to %s", h.Name, h.State, to), Kind: "Host", Resource: id}
		h.State, h.Job = to, jobID(ctx)
		if err := q.saveHost(ctx, h); err != nil {
			return err
		}
		return c.note(ctx, q, System, note)
	})
}

func (c *Cloud) hostResult(ctx context.Context, id string) (HostResult, error) {
	h, err := hostByID(ctx, c.bun, id)
	if err != nil {
		return HostResult{}, err
	}
	s, err := c.inv.having(ctx, func(s *stock) bool { return s.host(id).ID != "" })
	if err != nil {
		return HostResult{}, err
	}
	u, _ := c.tracker.Usage(id)
	return HostResult{s.showHost(*h, u, c.env.Node)}, nil
}

type addHost struct {
	URL        string        `param:"url,required" doc:"sim://NAME, a simulated host"`
	Hypervisor string        `param:"hypervisor,required,oneof=KVM|Simulator"`
	Zone       dispatch.UUID `param:"zoneid,required,entity=zone"`
	Pod        dispatch.UUID `param:"podid,required,entity=pod"`
	Cluster    dispatch.UUID `param:"clusterid,entity=cluster" doc:"default: the pod's first"`
	Username   string        `param:"username" doc:"not used by simulated hosts"`
	Password   string        `param:"password,secret" doc:"not used by simulated hosts"`
	Tags       string        `param:"hosttags"`
}

func (p addHost) name() string {
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "sim" || u.Path != "" || !hostLabel.MatchString(u.Host) {
		return ""
	}
	return u.Host
}

// Validate checks the URL.
func (p addHost) Validate() error {
	if p.name() == "" {
		return csapi.BadParam("url", dispatch.NoMatch, p.URL, "sim://NAME")
	}
	return nil
}

func (c *Cloud) addHost(ctx context.Context, p addHost) (HostResult, error) {
	s := c.inv.now()
	cluster := string(p.Cluster)
	for _, o := range s.clusters {
		if cluster == "" && o.Pod == string(p.Pod) {
			cluster = o.ID
		}
	}
	switch {
	case s.pod(string(p.Pod)).Zone != string(p.Zone):
		return HostResult{}, csapi.BadParam("podid", dispatch.NoMatch, string(p.Pod), "a pod of the zone")
	case cluster == "" || s.cluster(cluster).Pod != string(p.Pod):
		return HostResult{}, csapi.BadParam("clusterid", dispatch.NoMatch, cluster, "a cluster of the pod")
	}
	t := c.cfg.Seed.HostType
	h := hostRow{
		Name: p.name(), Cluster: cluster, Address: "127.0.0.1", CPUs: t.CPUs, MHz: t.MHz, MemoryMiB: t.Memory, State: HostEnabled, Tags: p.Tags,
	}
	err := c.in(ctx, func(ctx context.Context, q *tx) error {
		h.base = base{ID: c.env.NewID(), Created: q.now, Version: 1}
		if n, err := q.NewSelect().Model((*hostRow)(nil)).Where("name = ?", h.Name).Count(ctx); err != nil || n > 0 {
			return or2(err, csapi.BadParam("url", dispatch.Duplicate, p.URL, "a name that no host has"))
		}
		if err := q.insert(ctx, &h); err != nil {
			return err
		}
		return c.done(ctx, q, "addHost", "Host", h.ID)
	})
	if err != nil {
		return HostResult{}, err
	}
	if _, err := c.tracker.Audit(ctx, h.ID); err != nil { // its capacity
		return HostResult{}, failed(ctx, err)
	}
	return c.hostResult(ctx, h.ID)
}

type updateHost struct {
	hostTarget
	Allocation string  `param:"allocationstate,oneof=Enable|Disable"`
	Tags       *string `param:"hosttags"`
	Annotation *string `param:"annotation"`
}

func (c *Cloud) updateHost(ctx context.Context, p updateHost) (HostResult, error) {
	err := c.in(ctx, func(ctx context.Context, q *tx) error {
		h, err := hostByID(ctx, q, string(p.ID))
		if err != nil {
			return err
		}
		if p.Allocation != "" {
			h.Disabled = p.Allocation == "Disable"
		}
		if p.Tags != nil {
			h.Tags = *p.Tags
		}
		if p.Annotation != nil {
			h.Annotation = *p.Annotation
		}
		if err := q.saveHost(ctx, h); err != nil {
			return err
		}
		return c.done(ctx, q, "updateHost", "Host", h.ID)
	})
	if err != nil {
		return HostResult{}, err
	}
	return c.hostResult(ctx, string(p.ID))
}

type deleteHost struct {
	hostTarget
	Forced bool `param:"forced" doc:"also one that machines are placed on"`
}

func (c *Cloud) deleteHost(ctx context.Context, p deleteHost) (Success, error) {
	id := string(p.ID)
	err := c.in(ctx, func(ctx context.Context, q *tx) error {
		h, err := hostByID(ctx, q, id)
		if err != nil {
			return err
		}
		if h.open() && !p.Forced {
			return dispatch.Errorf(dispatch.WrongState, "host %s is open for machines: disable it or put it into maintenance first, or force it", h.Name)
		}
		if _, err := q.exec(ctx, `DELETE FROM rs_host WHERE id = ?`, id); err != nil { // claims wait here, and find no host
			return err
		}
		n, err := q.NewSelect().Model((*vmRow)(nil)).Where("host = ? OR target = ?", id, id).Count(ctx)
		if err != nil || n > 0 {
			return or2(err, dispatch.Errorf(dispatch.InUse, "host %s has %d machines", h.Name, n))
		}
		return c.done(ctx, q, "deleteHost", "Host", id)
	})
	if err != nil {
		return Success{}, err
	}
	c.hosts.drop(id)
	return Success{Success: true}, nil
}

func (c *Cloud) reconnectHost(ctx context.Context, p hostTarget) (HostResult, error) {
	c.hosts.drop(string(p.ID))
	d, err := c.hosts.driver(ctx, string(p.ID))
	if err != nil {
		return HostResult{}, err
	}
	if able, ok := d.(hypervisor.Pinger); ok {
		if err := able.Ping(ctx); err != nil {
			return HostResult{}, failed(ctx, err)
		}
	}
	if _, err := c.tracker.Audit(ctx, string(p.ID)); err != nil {
		return HostResult{}, failed(ctx, err)
	}
	return c.hostResult(ctx, string(p.ID))
}

func (c *Cloud) degradeHost(ctx context.Context, p hostTarget) (HostResult, error) {
	if err := c.turnHost(ctx, string(p.ID), HostDegraded, HostEnabled, HostFailed); err != nil {
		return HostResult{}, err
	}
	return c.hostResult(ctx, string(p.ID))
}

func (c *Cloud) undegradeHost(ctx context.Context, p hostTarget) (HostResult, error) {
	if err := c.turnHost(ctx, string(p.ID), HostEnabled, HostDegraded); err != nil {
		return HostResult{}, err
	}
	return c.hostResult(ctx, string(p.ID))
}

// or2 is err, if there is one, else other.
func or2(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
