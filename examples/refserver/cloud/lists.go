package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/hypervisor/tracker"
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
		return Zone{ID: z.ID, Name: z.Name, NetworkType: "Advanced", AllocationState: "Enabled", LocalStorage: true, Tags: []string{}}
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

func (c *Cloud) listTemplates(_ context.Context, p listTemplates) (dispatch.Page[Template], error) {
	s := c.inv.now()
	return listed(p.Paging, s.templates, func(t templateRow) bool {
		return wanted(p.ID, t.ID) && namedAs(p.Name, t.Name) && wanted(p.Zone, t.Zone) && namedAs(p.Hypervisor, kvm) && holds(p.Keyword, t.Name, t.Display)
	}, func(t templateRow) Template {
		return Template{
			ID: t.ID, Name: t.Name, DisplayText: t.Display, Hypervisor: kvm, ZoneID: t.Zone, ZoneName: s.zone(t.Zone).Name,
			Status: "Download Complete", Ready: true, Public: true, Featured: true, Size: t.SizeMiB << 20,
			Created: csapi.Time(at(t.Created)), OSTypeName: t.OS, Type: "USER", Tags: []string{},
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

func (c *Cloud) listNetworks(_ context.Context, p listNetworks) (dispatch.Page[Network], error) {
	s := c.inv.now()
	return listed(p.Paging, s.networks, func(n networkRow) bool {
		return wanted(p.ID, n.ID) && oneOf(p.IDs, n.ID) && namedAs(p.Name, n.Name) && namedAs(p.Type, "Isolated") && wanted(p.Zone, n.Zone) && holds(p.Keyword, n.Name)
	}, func(n networkRow) Network {
		return Network{
			ID: n.ID, Name: n.Name, DisplayText: n.Name, ZoneID: n.Zone, ZoneName: s.zone(n.Zone).Name, Type: "Isolated", TrafficType: "Guest",
			State: "Implemented", CIDR: n.CIDR, Gateway: n.Gateway, Netmask: n.netmask(), Deployable: true, Tags: []string{},
		}
	})
}

type listHosts struct {
	csapi.Paging
	ID         dispatch.UUID `param:"id,entity=host"`
	Name       string        `param:"name"`
	Type       string        `param:"type" doc:"Routing"`
	State      string        `param:"state"`
	Resource   string        `param:"resourcestate"`
	Zone       dispatch.UUID `param:"zoneid,entity=zone"`
	Pod        dispatch.UUID `param:"podid,entity=pod"`
	Cluster    dispatch.UUID `param:"clusterid,entity=cluster"`
	Hypervisor string        `param:"hypervisor"`
	HAHost     *bool         `param:"hahost"`
	Server     dispatch.UUID `param:"managementserverid,entity=managementserver"`
	VM         dispatch.UUID `param:"virtualmachineid,entity=virtualmachine" doc:"adds suitableformigration"`
	Keyword    string        `param:"keyword"`
}

func (c *Cloud) listHosts(ctx context.Context, p listHosts) (dispatch.Page[Host], error) {
	if err := c.tracker.Refresh(ctx); err != nil {
		return dispatch.Page[Host]{}, err
	}
	var vm *vmRow
	if p.VM != "" {
		var err error
		if vm, err = vmByID(ctx, c.bun, string(p.VM)); err != nil {
			return dispatch.Page[Host]{}, err
		}
	}
	s := c.inv.now()
	var all []Host
	for _, row := range s.hosts {
		usage, _ := c.tracker.Usage(row.ID)
		h := s.showHost(row, usage, c.env.Node)
		if !p.match(h) {
			continue
		}
		if vm != nil {
			fits, _ := c.tracker.Fits(row.ID, c.amount(s.offering(vm.Offering)), nil)
			suitable := fits && vm.Host != row.ID
			h.Suitable, h.HasCapacity = &suitable, &fits
		}
		all = append(all, h)
	}
	return csapi.PageOf(p.Paging, all), nil
}

func (p listHosts) match(h Host) bool {
	return wanted(p.ID, h.ID) && namedAs(p.Name, h.Name) && namedAs(p.Type, h.Type) && namedAs(p.State, h.State) &&
		namedAs(p.Resource, h.ResourceState) && wanted(p.Zone, h.ZoneID) && wanted(p.Pod, h.PodID) && wanted(p.Cluster, h.ClusterID) &&
		namedAs(p.Hypervisor, h.Hypervisor) && (p.HAHost == nil || *p.HAHost == h.HAHost) && wanted(p.Server, h.ServerID) && holds(p.Keyword, h.Name)
}

// amount is what a machine of that offering takes.
func (c *Cloud) amount(o offeringRow) tracker.Amount {
	return tracker.Amount{VCPUs: o.CPUs, MemoryMiB: o.MemoryMiB}
}
