package cloud

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

type listVMs struct {
	csapi.Paging
	ID       dispatch.UUID   `param:"id,entity=virtualmachine"`
	IDs      []dispatch.UUID `param:"ids,entity=virtualmachine"`
	Name     string          `param:"name"`
	Keyword  string          `param:"keyword"`
	State    string          `param:"state"`
	Zone     dispatch.UUID   `param:"zoneid,entity=zone"`
	Pod      dispatch.UUID   `param:"podid,entity=pod"`
	Cluster  dispatch.UUID   `param:"clusterid,entity=cluster"`
	Host     dispatch.UUID   `param:"hostid,entity=host,roles=admin"`
	Template dispatch.UUID   `param:"templateid,entity=template"`
	Offering dispatch.UUID   `param:"serviceofferingid,entity=offering"`
	Network  dispatch.UUID   `param:"networkid,entity=network"`
	Account  string          `param:"account"`
	Group    dispatch.UUID   `param:"groupid,entity=group"`
	HAEnable *bool           `param:"haenable"`
	Tags     []vmTag         `param:"tags"`
	UserData bool            `param:"userdata" doc:"show it"`
}

type vmTag struct {
	Key   string `param:"key"`
	Value string `param:"value"`
}

func (c *Cloud) listVMs(ctx context.Context, p listVMs) (out dispatch.Page[VM], err error) {
	var rows []vmRow
	me, s := CallerOf(ctx), c.inv.now()
	out.Total, err = pageOf(ctx, p.Paging, func() *bun.SelectQuery { return p.where(me, s, c.bun.NewSelect().Model(&rows)) }, "created, id", &rows)
	if err != nil {
		return out, err
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	parts, err := partsOf(ctx, c.bun, ids...)
	if err != nil {
		return out, err
	}
	for i := range rows {
		out.Items = append(out.Items, c.show(ctx, &rows[i], parts, p.UserData))
	}
	return out, nil
}

func (p listVMs) where(me Caller, s *stock, q *bun.SelectQuery) *bun.SelectQuery {
	if !me.Admin {
		q = q.Where("account = ?", me.AccountID)
	}
	if p.Account != "" {
		a, _ := s.accountNamed(p.Account)
		q = q.Where("account = ?", a.ID)
	}
	q = equals(q, map[string]string{
		"id": string(p.ID), "zone": string(p.Zone), "host": string(p.Host), "template": string(p.Template), "offering": string(p.Offering),
	})
	q = like(named(named(q, "name", p.Name), "state", p.State), p.Keyword, "name", "display")
	if len(p.IDs) > 0 {
		q = q.Where("id IN (?)", bun.List(p.IDs))
	}
	if p.HAEnable != nil {
		q = q.Where("ha_enable = ?", *p.HAEnable)
	}
	for _, t := range p.Tags {
		q = q.Where("id IN (SELECT resource FROM rs_tag WHERE name = ? AND (? = '' OR value = ?))", t.Key, t.Value, t.Value)
	}
	if p.Network != "" {
		q = q.Where("id IN (SELECT vm FROM rs_nic WHERE network = ?)", string(p.Network))
	}
	if p.Pod != "" || p.Cluster != "" {
		hosts := []string{""} // IN wants one at least; no machine without host is meant
		for _, h := range s.hosts {
			if wanted(p.Cluster, h.Cluster) && wanted(p.Pod, s.cluster(h.Cluster).Pod) {
				hosts = append(hosts, h.ID)
			}
		}
		q = q.Where("host <> '' AND host IN (?)", bun.List(hosts))
	}
	return q
}

// nicsOf gives the cards of machines, by machine, in order.
func nicsOf(ctx context.Context, q bun.IDB, vms ...string) (map[string][]nicRow, error) {
	out := map[string][]nicRow{}
	for part := range slices.Chunk(vms, 500) {
		rows, err := all[nicRow](ctx, q, "vm IN (?)", bun.List(part))
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.VM] = append(out[r.VM], r)
		}
	}
	return out, nil
}
