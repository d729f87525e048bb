package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/store"
)

// wanted is a filter that an empty value does not apply.
func wanted[T ~string](want T, have string) bool { return want == "" || string(want) == have }

// named is an exact name, in any case.
func namedAs(want, have string) bool { return want == "" || strings.EqualFold(want, have) }

// holds is a keyword: part of a name, in any case.
func holds(keyword string, names ...string) bool {
	for _, n := range names {
		if strings.Contains(strings.ToLower(n), strings.ToLower(keyword)) {
			return true
		}
	}
	return keyword == ""
}

func oneOf(ids []dispatch.UUID, id string) bool {
	return len(ids) == 0 || slices.Contains(ids, dispatch.UUID(id))
}

func idsOf[R interface{ key() string }](rows []R) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.key()
	}
	return out
}

// listed filters the inventory and cuts the page.
func listed[R, O any](p csapi.Paging, rows []R, keep func(R) bool, show func(R) O) (dispatch.Page[O], error) {
	var out []O
	for _, r := range rows {
		if keep(r) {
			out = append(out, show(r))
		}
	}
	return csapi.PageOf(p, out), nil
}

type listZones struct {
	csapi.Paging
	ID          dispatch.UUID   `param:"id,entity=zone"`
	IDs         []dispatch.UUID `param:"ids,entity=zone"`
	Name        string          `param:"name"`
	Available   bool            `param:"available" doc:"all zones are"`
	NetworkType string          `param:"networktype" doc:"Advanced"`
	Keyword     string          `param:"keyword"`
}

func (c *Cloud) listZones(_ context.Context, p listZones) (dispatch.Page[Zone], error) {
	return listed(p.Paging, c.inv.now().zones, func(z zoneRow) bool {
		return wanted(p.ID, z.ID) && oneOf(p.IDs, z.ID) && namedAs(p.Name, z.Name) && namedAs(p.NetworkType, "Advanced") && holds(p.Keyword, z.Name)
	}, func(z zoneRow) Zone {
		return Zone{ID: z.ID, Name: z.Name, NetworkType: "Advanced", AllocationState: "Enabled", LocalStorage: true, Tags: []Tag{}}
	})
}

type listServiceOfferings struct {
	csapi.Paging
	ID      dispatch.UUID `param:"id,entity=offering"`
	Name    string        `param:"name"`
	Zone    dispatch.UUID `param:"zoneid,entity=zone"`
	VM      dispatch.UUID `param:"virtualmachineid,entity=virtualmachine" doc:"that the machine does not have already"`
	Keyword string        `param:"keyword"`
}

func (c *Cloud) listServiceOfferings(ctx context.Context, p listServiceOfferings) (dispatch.Page[Offering], error) {
	has := ""
	if p.VM != "" {
		v, err := vmByID(ctx, c.bun, string(p.VM))
		if err != nil {
			return dispatch.Page[Offering]{}, err
		}
		has = v.Offering
	}
	return listed(p.Paging, c.inv.now().offerings, func(o offeringRow) bool {
		return wanted(p.ID, o.ID) && namedAs(p.Name, o.Name) && o.ID != has && holds(p.Keyword, o.Name)
	}, func(o offeringRow) Offering {
		return Offering{
			ID: o.ID, Name: o.Name, DisplayText: fmt.Sprintf("%s: %d × %d MHz, %d MiB", o.Name, o.CPUs, o.MHz, o.MemoryMiB),
			CPUNumber: int(o.CPUs), CPUSpeed: int(o.MHz), Memory: int(o.MemoryMiB), Created: csapi.Time(at(o.Created)), OfferHA: true,
		}
	})
}

type listTemplates struct {
	csapi.Paging
	Filter     string        `param:"templatefilter,required,oneof=featured|self|selfexecutable|sharedexecutable|executable|community|all"`
	ID         dispatch.UUID `param:"id,entity=template"`
	Name       string        `param:"name"`
	Zone       dispatch.UUID `param:"zoneid,entity=zone"`
	Hypervisor string        `param:"hypervisor"`
	Keyword    string        `param:"keyword"`
}

func (c *Cloud) listTemplates(ctx context.Context, p listTemplates) (out dispatch.Page[Template], err error) {
	s := c.inv.now()
	tags, err := tagsOf(ctx, c.bun, idsOf(s.templates)...)
	if err != nil {
		return out, err
	}
	return listed(p.Paging, s.templates, func(t templateRow) bool {
		return wanted(p.ID, t.ID) && namedAs(p.Name, t.Name) && wanted(p.Zone, t.Zone) && namedAs(p.Hypervisor, kvm) && holds(p.Keyword, t.Name, t.Display)
	}, func(t templateRow) Template {
		return Template{
			ID: t.ID, Name: t.Name, DisplayText: t.Display, Hypervisor: kvm, ZoneID: t.Zone, ZoneName: s.zone(t.Zone).Name,
			Status: "Download Complete", Ready: true, Public: true, Featured: true, Size: t.SizeMiB << 20,
			Created: csapi.Time(at(t.Created)), OSTypeName: t.OS, Type: "USER", Tags: s.showTags(tags[t.ID]),
		}
	})
}

type listNetworks struct {
	csapi.Paging
	ID      dispatch.UUID   `param:"id,entity=network"`
	IDs     []dispatch.UUID `param:"ids,entity=network"`
	Name    string          `param:"name"`
	Type    string          `param:"type" doc:"Isolated"`
	Zone    dispatch.UUID   `param:"zoneid,entity=zone"`
	Keyword string          `param:"keyword"`
}

func (c *Cloud) listNetworks(ctx context.Context, p listNetworks) (out dispatch.Page[Network], err error) {
	s := c.inv.now()
	tags, err := tagsOf(ctx, c.bun, idsOf(s.networks)...)
	if err != nil {
		return out, err
	}
	return listed(p.Paging, s.networks, func(n networkRow) bool {
		return wanted(p.ID, n.ID) && oneOf(p.IDs, n.ID) && namedAs(p.Name, n.Name) && namedAs(p.Type, "Isolated") && wanted(p.Zone, n.Zone) && holds(p.Keyword, n.Name)
	}, func(n networkRow) Network {
		return Network{
			ID: n.ID, Name: n.Name, DisplayText: n.Name, ZoneID: n.Zone, ZoneName: s.zone(n.Zone).Name, Type: "Isolated", TrafficType: "Guest",
			State: "Implemented", CIDR: n.CIDR, Gateway: n.Gateway, Netmask: n.netmask(), Deployable: true, Tags: s.showTags(tags[n.ID]),
		}
	})
}

type listVolumes struct {
	csapi.Paging
	ID      dispatch.UUID `param:"id,entity=volume"`
	Name    string        `param:"name"`
	Type    string        `param:"type" doc:"ROOT"`
	VM      dispatch.UUID `param:"virtualmachineid,entity=virtualmachine"`
	Zone    dispatch.UUID `param:"zoneid,entity=zone"`
	Keyword string        `param:"keyword"`
}

func (c *Cloud) listVolumes(ctx context.Context, p listVolumes) (out dispatch.Page[Volume], err error) {
	var rows []struct {
		volumeRow
		Account string `bun:"account"`
		Zone    string `bun:"zone"`
		VMName  string `bun:"vm_name"`
		VMState State  `bun:"vm_state"`
	}
	me, s := CallerOf(ctx), c.inv.now()
	if p.Type != "" && !namedAs(p.Type, "ROOT") {
		return out, nil
	}
	out.Total, err = pageOf(ctx, p.Paging, func() *bun.SelectQuery {
		q := c.bun.NewSelect().Model(&rows).ModelTableExpr(`(SELECT o.*, v.account, v.zone, v.name AS vm_name, v.state AS vm_state
			FROM rs_volume AS o JOIN rs_vm AS v ON v.id = o.vm) AS all_volumes`)
		if !me.Admin {
			q = q.Where("account = ?", me.AccountID)
		}
		q = equals(q, map[string]string{"id": string(p.ID), "vm": string(p.VM), "zone": string(p.Zone)})
		return like(named(q, "name", p.Name), p.Keyword, "name")
	}, "created, id", &rows)
	if err != nil {
		return out, err
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	tags, err := tagsOf(ctx, c.bun, ids...)
	for _, r := range rows {
		a := s.account(r.Account)
		out.Items = append(out.Items, Volume{
			ID: r.ID, Name: r.Name, Type: "ROOT", State: r.State, ZoneID: r.Zone, ZoneName: s.zone(r.Zone).Name, Account: a.Name, DomainID: a.DomainID,
			StorageType: "local", Size: r.SizeMiB << 20, Created: csapi.Time(at(r.Created)), VMID: r.VM, VMName: r.VMName, VMState: r.VMState,
			Tags: s.showTags(tags[r.ID]),
		})
	}
	return out, err
}

// volumeOwner is the account of the machine that has the volume.
func (c *Cloud) volumeOwner(ctx context.Context, id string) (account string, err error) {
	err = c.bun.NewRaw(`SELECT v.account FROM rs_volume AS o JOIN rs_vm AS v ON v.id = o.vm WHERE o.id = ?`, id).Scan(ctx, &account)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	return account, err
}

type listPods struct {
	csapi.Paging
	ID      dispatch.UUID `param:"id,entity=pod"`
	Name    string        `param:"name"`
	Zone    dispatch.UUID `param:"zoneid,entity=zone"`
	Pod     dispatch.UUID `param:"podid,entity=pod"`
	Keyword string        `param:"keyword"`
}

func (c *Cloud) listPods(_ context.Context, p listPods) (dispatch.Page[Pod], error) {
	s := c.inv.now()
	return listed(p.Paging, s.pods, func(o podRow) bool {
		return wanted(p.ID, o.ID) && wanted(p.Pod, o.ID) && namedAs(p.Name, o.Name) && wanted(p.Zone, o.Zone) && holds(p.Keyword, o.Name)
	}, func(o podRow) Pod {
		return Pod{ID: o.ID, Name: o.Name, ZoneID: o.Zone, ZoneName: s.zone(o.Zone).Name, AllocationState: "Enabled"}
	})
}

type listClusters struct {
	csapi.Paging
	ID      dispatch.UUID `param:"id,entity=cluster"`
	Name    string        `param:"name"`
	Zone    dispatch.UUID `param:"zoneid,entity=zone"`
	Pod     dispatch.UUID `param:"podid,entity=pod"`
	Keyword string        `param:"keyword"`
}

func (c *Cloud) listClusters(_ context.Context, p listClusters) (dispatch.Page[Cluster], error) {
	s := c.inv.now()
	return listed(p.Paging, s.clusters, func(o clusterRow) bool {
		return wanted(p.ID, o.ID) && namedAs(p.Name, o.Name) && wanted(p.Zone, s.pod(o.Pod).Zone) && wanted(p.Pod, o.Pod) && holds(p.Keyword, o.Name)
	}, func(o clusterRow) Cluster {
		pod := s.pod(o.Pod)
		return Cluster{
			ID: o.ID, Name: o.Name, ZoneID: pod.Zone, ZoneName: s.zone(pod.Zone).Name, PodID: pod.ID, PodName: pod.Name,
			HypervisorType: kvm, ClusterType: "CloudManaged", AllocationState: "Enabled", ManagedState: "Managed",
		}
	})
}

type listCapabilities struct{}

// Capability is what listCapabilities tells.
type Capability struct {
	Version        string `json:"cloudstackversion"`
	SecurityGroups bool   `json:"securitygroupsenabled"`
	LimitMax       int    `json:"apilimitmax" doc:"requests per interval of one key"`
	LimitInterval  int    `json:"apilimitinterval" doc:"seconds"`
	DynamicRoles   bool   `json:"dynamicrolesenabled"`
	KVMSnapshot    bool   `json:"kvmsnapshotenabled"`
	PageSize       int64  `json:"defaultuipagesize"`
	ViewDestroyed  bool   `json:"allowuserviewdestroyedvm"`
}

// CapabilityResult is the answer of listCapabilities.
type CapabilityResult struct {
	Capability Capability `json:"capability"`
}

func (c *Cloud) capabilities(context.Context, listCapabilities) (CapabilityResult, error) {
	return CapabilityResult{Capability{Version: csVersion, LimitMax: c.cfg.RateLimit, LimitInterval: 1, PageSize: 20, ViewDestroyed: true}}, nil
}
