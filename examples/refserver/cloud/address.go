package cloud

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

// pool is the range of addresses that machines get.
type pool struct{ first, last netip.Addr }

func (n *networkRow) pool() (p pool, err error) {
	prefix, err := netip.ParsePrefix(n.CIDR)
	if err != nil {
		return p, fmt.Errorf("cloud: cidr: %w", err)
	}
	if p.first, err = netip.ParseAddr(n.First); err != nil {
		return p, fmt.Errorf("cloud: first: %w", err)
	}
	if p.last, err = netip.ParseAddr(n.Last); err != nil {
		return p, fmt.Errorf("cloud: last: %w", err)
	}
	if !prefix.Addr().Is4() || !prefix.Contains(p.first) || !prefix.Contains(p.last) || p.last.Less(p.first) {
		return p, fmt.Errorf("cloud: pool %s to %s is not in %s", n.First, n.Last, n.CIDR)
	}
	return p, nil
}

func (p pool) has(a netip.Addr) bool { return !a.Less(p.first) && !p.last.Less(a) }

// allocate takes an address, the lowest free one unless one is wanted, and makes its MAC: 02:00 and the four bytes of the address.
func (q *tx) allocate(ctx context.Context, n networkRow, nic, want string) (address, mac string, err error) {
	p, err := n.pool()
	if err != nil {
		return "", "", err
	}
	if _, err := q.exec(ctx, `UPDATE rs_network SET version = version + 1 WHERE id = ?`, n.ID); err != nil { // one at a time
		return "", "", err
	}
	var taken []string
	if err := q.NewRaw(`SELECT address FROM rs_ip WHERE network = ?`, n.ID).Scan(ctx, &taken); err != nil {
		return "", "", fmt.Errorf("cloud: addresses: %w", err)
	}
	used := make(map[string]bool, len(taken))
	for _, a := range taken {
		used[a] = true
	}
	a := p.first
	if want != "" {
		if a, err = netip.ParseAddr(want); err != nil || !p.has(a) {
			return "", "", csapi.BadParam("ipaddress", dispatch.OutOfRange, want, n.First+" to "+n.Last)
		}
		if used[a.String()] {
			return "", "", dispatch.Errorf(dispatch.Allocation, "address %s of network %s is taken", want, n.Name)
		}
	}
	for used[a.String()] {
		a = a.Next()
	}
	if !p.has(a) {
		return "", "", dispatch.Errorf(dispatch.Allocation, "network %s has no free address", n.Name)
	}
	b := a.As4()
	_, err = q.exec(ctx, `INSERT INTO rs_ip (network, address, nic) VALUES (?, ?, ?)`, n.ID, a.String(), nic)
	return a.String(), fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]), err
}

// strip takes everything from a machine that did not come up.
func (q *tx) strip(ctx context.Context, vm string) error {
	if err := q.unwire(ctx, vm); err != nil {
		return err
	}
	_, err := q.exec(ctx, `DELETE FROM rs_volume WHERE vm = ?`, vm)
	return err
}

// unwire frees the machine's addresses and removes its cards.
func (q *tx) unwire(ctx context.Context, vm string) error {
	if _, err := q.exec(ctx, `DELETE FROM rs_ip WHERE nic IN (SELECT id FROM rs_nic WHERE vm = ?)`, vm); err != nil {
		return err
	}
	_, err := q.exec(ctx, `DELETE FROM rs_nic WHERE vm = ?`, vm)
	return err
}
