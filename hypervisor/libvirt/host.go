package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// host is what never changes while a daemon answers for the same machine.
type host struct {
	id, arch string
	kind     string // of domains: kvm, qemu, test
	osType   string
	migrates bool
}

// meet learns what the host is, and refuses another one than Config.HostID or than the one met before.
func (d *Driver) meet(ctx context.Context, c *rpc.Conn) error {
	d.mu.Lock()
	known := d.host
	d.mu.Unlock()
	if known != nil && d.cfg.HostID == "" {
		return nil
	}
	r, err := c.Call(ctx, rpc.ConnectGetCapabilities, nil)
	if err != nil {
		return unreached(err)
	}
	h, err := readHost(r.Str(), d.cfg.URI)
	if r.Err() != nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("%w: capabilities: %w", hypervisor.ErrGone, err)
	}
	if want := d.cfg.HostID; want != "" && h.id != want {
		return fmt.Errorf("%w: %w: it is %s", hypervisor.ErrGone, hypervisor.ErrWrongHost, h.id)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.host = h
	return nil
}

// readHost takes the first kind of domain that the host's own architecture has, KVM before all others.
func readHost(doc, uri string) (*host, error) {
	var caps libvirtxml.Caps
	if err := xml.Unmarshal([]byte(doc), &caps); err != nil {
		return nil, err
	}
	h := &host{id: strings.ToLower(caps.Host.UUID)}
	if h.id == "" { // the test driver's
		sum := sha256.Sum256([]byte(uri))
		h.id = textID([16]byte(sum[:16]))
	}
	if caps.Host.CPU != nil {
		h.arch = caps.Host.CPU.Arch
	}
	h.migrates = caps.Host.MigrationFeatures != nil && caps.Host.MigrationFeatures.Live != nil
	for _, own := range []bool{true, false} {
		for _, g := range caps.Guests {
			if own && g.Arch.Name != h.arch || g.OSType != "hvm" && h.kind != "" {
				continue
			}
			for _, dom := range g.Arch.Domains {
				if h.kind == "" || dom.Type == "kvm" {
					h.kind, h.osType = dom.Type, g.OSType
				}
			}
		}
		if h.kind != "" {
			return h, nil
		}
	}
	return nil, fmt.Errorf("the host runs no kind of guest")
}

// hostID is the host's, "" as long as it was not met.
func (d *Driver) hostID() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.host != nil {
		return d.host.id
	}
	return d.cfg.HostID
}

// met gives the host, which is known once a connection is up.
func (c *call) met() (*host, error) {
	if _, err := c.d.query.first().get(c.ctx); err != nil {
		return nil, err
	}
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	return c.d.host, nil
}

// Info describes the host.
func (d *Driver) Info(ctx context.Context) (info hypervisor.HostInfo, err error) {
	err = d.read(ctx, "info", "", hypervisor.QueryLimit, func(c *call) error {
		h, err := c.met()
		if err != nil {
			return err
		}
		info = hypervisor.HostInfo{ID: h.id, Driver: "libvirt-" + h.kind, Arch: h.arch, Abilities: d.abilities(h)}
		r, err := c.ask(rpc.NodeGetInfo, nil)
		if err != nil {
			return err
		}
		r.Chars(32) // model of the processor
		info.MemoryMiB, info.CPUs = int64(r.U64()>>10), int(r.I32())
		if err := r.Err(); err != nil {
			return err
		}
		if r, err = c.ask(rpc.ConnectGetHostname, nil); err != nil {
			return err
		}
		info.Name = r.Str()
		if r, err = c.ask(rpc.ConnectGetLibVersion, nil); err != nil {
			return err
		}
		v := r.U64()
		info.Version = fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1_000%1_000, v%1_000)
		return r.Err()
	})
	return info, err
}

// abilities are the optional ones that the host has.
func (d *Driver) abilities(h *host) []string {
	list := []string{"save", "snapshot", "stats"}
	if !d.refused.Load() {
		list = append(list, "events")
	}
	if h.migrates {
		list = append(list, "migrate")
	}
	slices.Sort(list)
	return list
}

// Ping makes a round trip.
func (d *Driver) Ping(ctx context.Context) error {
	return d.read(ctx, "ping", "", hypervisor.PingLimit, func(c *call) error {
		_, err := c.ask(rpc.ConnectGetLibVersion, nil)
		return err
	})
}
