package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/drover-cloud/drover"
)

// Seed is what a new cloud begins with. An object without id gets one.
type Seed struct {
	Owner            Owner      `json:"owner"`
	ManagementServer string     `json:"managementserver"` // id of the first node
	Zone             SeedObject `json:"zone"`
	Pod              SeedObject `json:"pod"`
	Cluster          SeedObject `json:"cluster"`
	Hosts            []SeedObject
	HostType         struct {
		CPUs, MHz, Memory int64
	}
	Offerings []struct {
		ID, Name          string
		CPUs, MHz, Memory int64 // MiB
	}
	Templates []struct {
		ID, Name, Display, OS string
		Size, Root            int64 // MiB, GiB
	}
	Networks []struct {
		ID, Name, CIDR, Gateway, First, Last string
	}
}

// Owner is the first account, an admin, with its user and domain.
type Owner struct {
	Account   string `json:"account"`
	AccountID string `json:"accountid"`
	Domain    string `json:"domain"`
	DomainID  string `json:"domainid"`
	Username  string `json:"username"`
	UserID    string `json:"userid"`
}

// SeedObject is an object with nothing but a name.
type SeedObject struct{ ID, Name string }

// ParseSeed reads a seed file; a bad one is drover.ErrConfig.
func ParseSeed(b []byte) (*Seed, error) {
	var s Seed
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("cloud: seed: %w: %w", drover.ErrConfig, err)
	}
	switch {
	case s.Owner.Account == "" || s.Zone.Name == "" || s.Pod.Name == "" || s.Cluster.Name == "":
		return nil, fmt.Errorf("cloud: seed: %w: owner, zone, pod and cluster need names", drover.ErrConfig)
	case s.HostType.CPUs < 1 || s.HostType.Memory < 1:
		return nil, fmt.Errorf("cloud: seed: %w: hosttype needs cpus and memory", drover.ErrConfig)
	case len(s.Networks) == 0 || len(s.Offerings) == 0 || len(s.Templates) == 0:
		return nil, fmt.Errorf("cloud: seed: %w: a network, an offering and a template are needed", drover.ErrConfig)
	}
	for _, n := range s.Networks {
		if _, err := (&networkRow{CIDR: n.CIDR, First: n.First, Last: n.Last}).pool(); err != nil {
			return nil, fmt.Errorf("cloud: seed: %w: network %s: %w", drover.ErrConfig, n.Name, err)
		}
	}
	return &s, nil
}

// plant writes the seed if there is no zone yet, and adds hosts up to the number asked for.
func (t *tables) plant(ctx context.Context, s *Seed, hosts int, newID func() string) error {
	return t.in(ctx, func(ctx context.Context, q *tx) error {
		if _, err := q.count(ctx, "host"); err != nil { // one node at a time
			return err
		}
		zones, err := all[zoneRow](ctx, q, "")
		if err != nil {
			return err
		}
		p := planter{q: q, s: s, newID: newID, zone: or(s.Zone.ID, newID)}
		if len(zones) == 0 {
			if err := p.all(ctx); err != nil {
				return err
			}
		}
		return p.hosts(ctx, hosts)
	})
}

type planter struct {
	q     *tx
	s     *Seed
	newID func() string
	zone  string
}

func or(id string, newID func() string) string {
	if id == "" {
		return newID()
	}
	return id
}

func (p *planter) base(id string, i int) base {
	return base{ID: or(id, p.newID), Created: p.q.now + int64(i), Version: 1} // in the order of the file
}

func (p *planter) all(ctx context.Context) error {
	s := p.s
	pod := podRow{base: p.base(s.Pod.ID, 0), Name: s.Pod.Name, Zone: p.zone}
	rows := []any{
		&zoneRow{base: p.base(p.zone, 0), Name: s.Zone.Name}, &pod,
		&clusterRow{base: p.base(s.Cluster.ID, 0), Name: s.Cluster.Name, Pod: pod.ID},
	}
	for i, o := range s.Offerings {
		rows = append(rows, &offeringRow{base: p.base(o.ID, i), Name: o.Name, CPUs: o.CPUs, MHz: o.MHz, MemoryMiB: o.Memory})
	}
	for i, t := range s.Templates {
		rows = append(rows, &templateRow{
			base: p.base(t.ID, i), Name: t.Name, Display: t.Display, OS: t.OS, Zone: p.zone, SizeMiB: t.Size, RootGiB: t.Root,
		})
	}
	for i, n := range s.Networks {
		rows = append(rows, &networkRow{
			base: p.base(n.ID, i), Name: n.Name, Zone: p.zone, CIDR: n.CIDR, Gateway: n.Gateway, First: n.First, Last: n.Last,
		})
	}
	for _, row := range rows {
		if err := p.q.insert(ctx, row); err != nil {
			return err
		}
	}
	o := s.Owner
	a := accountRow{base: p.base(o.AccountID, 0), Name: o.Account, Kind: adminAccount, Domain: o.Domain, DomainID: or(o.DomainID, p.newID)}
	if err := p.q.insert(ctx, &a); err != nil {
		return err
	}
	return p.q.insert(ctx, &userRow{base: p.base(o.UserID, 0), Name: o.Username, Account: a.ID})
}

// hosts adds host-a, host-b, … that are missing.
func (p *planter) hosts(ctx context.Context, n int) error {
	have, err := all[hostRow](ctx, p.q, "")
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, h := range have {
		names[h.Name] = true
	}
	clusters, err := all[clusterRow](ctx, p.q, "")
	if err != nil {
		return err
	}
	for i := range n {
		o := SeedObject{Name: hostName(i)}
		if i < len(p.s.Hosts) {
			o = p.s.Hosts[i]
		}
		if names[o.Name] {
			continue
		}
		t := p.s.HostType
		row := &hostRow{
			base: p.base(o.ID, i), Name: o.Name, Cluster: clusters[0].ID, Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 1)}).String(),
			CPUs: t.CPUs, MHz: t.MHz, MemoryMiB: t.Memory, State: HostEnabled,
		}
		if err := p.q.insert(ctx, row); err != nil {
			return err
		}
	}
	return nil
}

// hostName is host-a to host-z, then host-27 and on.
func hostName(i int) string {
	if i < 26 {
		return "host-" + string(rune('a'+i))
	}
	return fmt.Sprintf("host-%d", i+1)
}
