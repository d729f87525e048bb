package cloud

import (
	"context"
	"fmt"
	"sync"

	"github.com/uptrace/bun"
)

// inventory holds what hardly ever changes, read at the start and again when an id is unknown: everything but machines.
type inventory struct {
	t     *tables
	owner Owner

	mu sync.Mutex
	at *stock
}

// stock is one reading; it is never changed.
type stock struct {
	zones     []zoneRow
	pods      []podRow
	clusters  []clusterRow
	hosts     []hostRow
	offerings []offeringRow
	templates []templateRow
	networks  []networkRow
	nodes     []nodeRow
}

type nodeRow struct {
	Name    string `bun:"name"`
	ID      string `bun:"id"`
	Label   string `bun:"label"`
	Created int64  `bun:"created"`
}

func (i *inventory) now() *stock {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.at
}

func (i *inventory) load(ctx context.Context) (err error) {
	s, q := &stock{}, i.t.bun
	for _, err := range []error{
		read(ctx, q, &s.zones), read(ctx, q, &s.pods), read(ctx, q, &s.clusters), read(ctx, q, &s.hosts), read(ctx, q, &s.offerings),
		read(ctx, q, &s.templates), read(ctx, q, &s.networks),
	} {
		if err != nil {
			return err
		}
	}
	if err = q.NewRaw(`SELECT name, id, label, created FROM rs_node ORDER BY created, name`).Scan(ctx, &s.nodes); err != nil {
		return fmt.Errorf("cloud: %w", err)
	}
	if i.owner == (Owner{}) {
		if err = q.NewRaw(`SELECT account, account_id, domain, domain_id, username, user_id FROM rs_owner LIMIT 1`).Scan(ctx, &i.owner); err != nil {
			return fmt.Errorf("cloud: %w", err)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at = s
	return nil
}

func read[R any](ctx context.Context, q bun.IDB, rows *[]R) (err error) {
	*rows, err = all[R](ctx, q, "")
	return err
}

// find gives the row with that id, or the zero one.
func find[R interface{ key() string }](rows []R, id string) (r R, ok bool) {
	for _, r := range rows {
		if r.key() == id {
			return r, true
		}
	}
	return r, false
}

func (b base) key() string    { return b.ID }
func (n nodeRow) key() string { return n.ID }

func (s *stock) zone(id string) zoneRow         { r, _ := find(s.zones, id); return r }
func (s *stock) pod(id string) podRow           { r, _ := find(s.pods, id); return r }
func (s *stock) cluster(id string) clusterRow   { r, _ := find(s.clusters, id); return r }
func (s *stock) host(id string) hostRow         { r, _ := find(s.hosts, id); return r }
func (s *stock) offering(id string) offeringRow { r, _ := find(s.offerings, id); return r }
func (s *stock) template(id string) templateRow { r, _ := find(s.templates, id); return r }
func (s *stock) network(id string) networkRow   { r, _ := find(s.networks, id); return r }

// has tells whether an object of that type exists; ok is false for types that are not in the inventory.
func (s *stock) has(typ, id string) (exists, ok bool) {
	switch typ {
	case "zone":
		_, exists = find(s.zones, id)
	case "pod":
		_, exists = find(s.pods, id)
	case "cluster":
		_, exists = find(s.clusters, id)
	case "host":
		_, exists = find(s.hosts, id)
	case "offering":
		_, exists = find(s.offerings, id)
	case "template":
		_, exists = find(s.templates, id)
	case "network":
		_, exists = find(s.networks, id)
	case "managementserver":
		_, exists = find(s.nodes, id)
	case "group": // machines have group names; groups are no objects here
	default:
		return false, false
	}
	return exists, true
}

// server names the management server of a node.
func (s *stock) server(node string) (id, label string) {
	for _, n := range s.nodes {
		if n.Name == node {
			return n.ID, n.Label
		}
	}
	return "", ""
}

// join registers this node: the first one is ms1 with the seed's id, and so is every later one where there is only one at a time.
func (t *tables) join(ctx context.Context, node, first string, single bool, newID func() string) error {
	return t.in(ctx, func(ctx context.Context, q *tx) error {
		var known int
		if err := q.NewRaw(`SELECT count(*) FROM rs_node WHERE name = ?`, node).Scan(ctx, &known); err != nil {
			return fmt.Errorf("cloud: %w", err)
		}
		if known > 0 {
			return nil
		}
		n, err := q.count(ctx, "node")
		if err != nil {
			return err
		}
		if single {
			n = 1
		}
		id := newID()
		if n == 1 && first != "" {
			id = first
		}
		_, err = q.exec(ctx, `INSERT INTO rs_node (name, id, label, created) VALUES (?, ?, ?, ?)`, node, id, fmt.Sprintf("ms%d", n), q.now)
		return err
	})
}
