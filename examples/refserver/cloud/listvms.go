package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

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
	if p.HAEnable != nil && *p.HAEnable || len(p.Tags) > 0 || p.Account != "" && p.Account != c.inv.owner.Account {
		return out, nil // no machine here has any of these
	}
	var rows []vmRow
	q := p.where(c.inv.now(), c.bun.NewSelect().Model(&rows)).OrderExpr("created, id")
	offset, limit := p.Window()
	if limit > 0 {
		q = q.Limit(int64(limit)).Offset(int64(offset))
	}
	if err := q.Scan(ctx); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return out, fmt.Errorf("cloud: %w", err)
	}
	if out.Total = offset + len(rows); len(rows) == limit && limit > 0 || len(rows) == 0 && offset > 0 {
		n, err := p.where(c.inv.now(), c.bun.NewSelect().Model((*vmRow)(nil))).Count(ctx)
		if out.Total = int(n); err != nil {
			return out, fmt.Errorf("cloud: %w", err)
		}
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	nics, err := nicsOf(ctx, c.bun, ids...)
	if err != nil {
		return out, err
	}
	for i := range rows {
		out.Items = append(out.Items, c.show(&rows[i], nics[rows[i].ID], p.UserData))
	}
	return out, nil
}

func (p listVMs) where(s *stock, q *bun.SelectQuery) *bun.SelectQuery {
	for _, f := range []struct {
		column string
		value  dispatch.UUID
	}{{"id", p.ID}, {"zone", p.Zone}, {"host", p.Host}, {"template", p.Template}, {"offering", p.Offering}} {
		if f.value != "" {
			q = q.Where("? = ?", bun.Ident(f.column), string(f.value))
		}
	}
	if len(p.IDs) > 0 {
		q = q.Where("id IN (?)", bun.List(p.IDs))
	}
	if p.Name != "" {
		q = q.Where("lower(name) = ?", strings.ToLower(p.Name))
	}
	if p.State != "" {
		q = q.Where("lower(state) = ?", strings.ToLower(p.State))
	}
	if p.Keyword != "" {
		like := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(p.Keyword)) + "%"
		q = q.Where(`(lower(name) LIKE ? ESCAPE '\' OR lower(display) LIKE ? ESCAPE '\')`, like, like)
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
	for len(vms) > 0 {
		n := min(len(vms), 500)
		rows, err := all[nicRow](ctx, q, "vm IN (?)", bun.List(vms[:n]))
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.VM] = append(out[r.VM], r)
		}
		vms = vms[n:]
	}
	return out, nil
}
