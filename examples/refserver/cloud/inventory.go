package cloud

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/uptrace/bun"
)

// inventory holds what hardly ever changes, read at the start and again when an id is unknown: everything but machines. Of hosts
// it knows what they are, not how they are.
type inventory struct {
	t *tables

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
	accounts  []accountRow
	users     []userRow
	nodes     []nodeRow
}

type nodeRow struct {
	Name     string `bun:"name"`
	ID       string `bun:"id"`
	Label    string `bun:"label"`
	Created  int64  `bun:"created"`
	Draining bool   `bun:"draining"`
}

func (i *inventory) now() *stock {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.at
}

// fresh reads everything again.
func (i *inventory) fresh(ctx context.Context) (*stock, error) {
	s, q := &stock{}, i.t.bun
	for _, err := range []error{
		read(ctx, q, &s.zones), read(ctx, q, &s.pods), read(ctx, q, &s.clusters), read(ctx, q, &s.hosts), read(ctx, q, &s.offerings),
		read(ctx, q, &s.templates), read(ctx, q, &s.networks), read(ctx, q, &s.accounts), read(ctx, q, &s.users),
	} {
		if err != nil {
			return nil, err
		}
	}
	if err := q.NewRaw(`SELECT name, id, label, created, draining FROM rs_node ORDER BY created, name`).Scan(ctx, &s.nodes); err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at = s
	return s, nil
}

// having is now, read again if it does not know what is asked for, which another node may have made.
func (i *inventory) having(ctx context.Context, known func(*stock) bool) (*stock, error) {
	if s := i.now(); known(s) {
		return s, nil
	}
	return i.fresh(ctx)
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
func (s *stock) account(id string) accountRow   { r, _ := find(s.accounts, id); return r }

func (s *stock) accountNamed(name string) (accountRow, bool) {
	for _, a := range s.accounts {
		if strings.EqualFold(a.Name, name) {
			return a, true
		}
	}
	return accountRow{}, false
}

// userOf is the first user of an account.
func (s *stock) userOf(account string) userRow {
	for _, u := range s.users {
		if u.Account == account {
			return u
		}
	}
	return userRow{}
}

// has tells whether there is an object of that type, other than machines, volumes and hosts.
func (s *stock) has(typ, id string) (ok bool) {
	switch typ {
	case "zone":
		_, ok = find(s.zones, id)
	case "pod":
		_, ok = find(s.pods, id)
	case "cluster":
		_, ok = find(s.clusters, id)
	case "offering":
		_, ok = find(s.offerings, id)
	case "template":
		_, ok = find(s.templates, id)
	case "network":
		_, ok = find(s.networks, id)
	case "account":
		_, ok = find(s.accounts, id)
	case "user":
		_, ok = find(s.users, id)
	case "managementserver":
		_, ok = find(s.nodes, id)
	}
	return ok // machines have group names; groups are no objects here
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
			_, err := q.exec(ctx, `UPDATE rs_node SET draining = FALSE WHERE name = ?`, node)
			return err
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
