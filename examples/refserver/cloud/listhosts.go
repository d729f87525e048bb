package cloud

import (
	"context"
	"slices"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/hypervisor/tracker"
)

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

func (c *Cloud) listHosts(ctx context.Context, p listHosts) (out dispatch.Page[Host], err error) {
	rows, err := all[hostRow](ctx, c.bun, "")
	if err != nil {
		return out, err
	}
	if err := c.tracker.Refresh(ctx); err != nil {
		return out, err
	}
	var vm *vmRow
	if p.VM != "" {
		if vm, err = vmByID(ctx, c.bun, string(p.VM)); err != nil {
			return out, err
		}
	}
	var found []Host
	for _, row := range rows {
		usage, _ := c.tracker.Usage(row.ID)
		h := c.inv.now().showHost(row, usage, c.env.Node)
		if vm != nil {
			fits, _ := c.tracker.Fits(row.ID, c.amount(c.inv.now().offering(vm.Offering)), nil)
			suitable := fits && row.open() && vm.Host != row.ID
			h.Suitable, h.HasCapacity = &suitable, &fits
		}
		if p.match(h) {
			found = append(found, h)
		}
	}
	return csapi.PageOf(p.Paging, found), nil
}

type findHosts struct {
	csapi.Paging
	VM dispatch.UUID `param:"virtualmachineid,required,entity=virtualmachine"`
}

// findHosts lists all hosts but the machine's own.
func (c *Cloud) findHosts(ctx context.Context, p findHosts) (dispatch.Page[Host], error) {
	vm, err := vmByID(ctx, c.bun, string(p.VM))
	if err != nil {
		return dispatch.Page[Host]{}, err
	}
	all := int64(-1)
	page, err := c.listHosts(ctx, listHosts{VM: p.VM, Paging: csapi.Paging{Size: &all}})
	others := slices.DeleteFunc(page.Items, func(h Host) bool { return h.ID == vm.Host })
	for i := range others {
		others[i].StorageMotion = new(bool)
	}
	return csapi.PageOf(p.Paging, others), err
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
