package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
)

// RealHost is a host that machines really run on.
type RealHost struct{ Name, URI string }

// ParseHosts reads NAME=URI,…: what libvirt calls a driver, and how its daemon is reached: test:///default, qemu:///system,
// qemu+unix:///session?socket=/run/x, qemu+tcp://h:16509/system. With bridge=NAME in its query, ports of machines are on that bridge
// instead of one for their network; with bridge=none machines have none.
func ParseHosts(s string) (hosts []RealHost, err error) {
	for part := range strings.SplitSeq(s, ",") {
		name, uri, _ := strings.Cut(part, "=")
		if !hostLabel.MatchString(name) {
			return nil, fmt.Errorf("%q: want NAME=URI, the name of lower-case letters, digits and hyphens", part)
		}
		if _, _, err := driverOf(uri); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		hosts = append(hosts, RealHost{name, uri})
	}
	return hosts, nil
}

// NameHost names a host by its URI: h for qemu+tcp://h/system, else qemu-system for qemu:///system.
func NameHost(uri string) (RealHost, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return RealHost{}, errors.New("want a URI of libvirt, as qemu:///system")
	}
	kind, _, _ := strings.Cut(u.Scheme, "+")
	label, _, _ := strings.Cut(strings.ToLower(u.Hostname()), ".")
	hosts, err := ParseHosts(cmp.Or(label, kind+strings.ReplaceAll(u.Path, "/", "-")) + "=" + uri)
	if err != nil {
		return RealHost{}, err
	}
	return hosts[0], nil
}

// driverOf is the configuration of the driver of a host, and the bridge of its machines' ports.
func driverOf(uri string) (cfg libvirt.Config, bridge string, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return cfg, "", errors.New("want a URI of libvirt, as qemu:///system")
	}
	q := u.Query()
	bridge = q.Get("bridge")
	q.Del("bridge")
	u.RawQuery = q.Encode()
	cfg, err = libvirt.ParseURI(u.String())
	return cfg, bridge, err
}

// HostError says that a real host cannot be had.
type HostError struct {
	Name string
	Err  error
}

func (e *HostError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap gives the reason.
func (e *HostError) Unwrap() error { return e.Err }

const hostAnswers = 10 * time.Second // that a host which nobody knew has to tell what it is

// real opens the driver of a host that is not simulated.
func (c *Cloud) real(h hostRow) (hypervisor.Driver, error) {
	cfg, _, err := driverOf(h.URL)
	if err != nil {
		return nil, &HostError{h.Name, err}
	}
	cfg.Env = c.env
	return libvirt.New(cfg)
}

// opens the driver of any host.
func (c *Cloud) opens(h hostRow) (hypervisor.Driver, error) {
	if h.URL == "" {
		return c.simulate(h)
	}
	return c.real(h)
}

// register writes down the real hosts. One that is new must answer, for what it has.
func (c *Cloud) register(ctx context.Context, hosts []RealHost) error {
	for _, want := range hosts {
		row := hostRow{Name: want.Name, URL: want.URI, Address: "127.0.0.1", MHz: c.cfg.Seed.HostType.MHz, State: HostEnabled}
		if u, err := url.Parse(want.URI); err == nil && u.Hostname() != "" {
			row.Address = u.Hostname()
		}
		n, err := c.bun.NewSelect().Model((*hostRow)(nil)).Where("name = ?", want.Name).Count(ctx)
		if err == nil && n == 0 {
			err = c.measure(ctx, &row)
		}
		if err == nil {
			err = c.write(ctx, `UPDATE rs_host SET url = ?, address = ? WHERE name = ? AND url <> ''`, row.URL, row.Address, row.Name)
		}
		if err == nil && n == 0 {
			err = c.enrol(ctx, row)
		}
		if err != nil {
			return &HostError{want.Name, err}
		}
	}
	return nil
}

// measure asks a host what it has.
func (c *Cloud) measure(ctx context.Context, h *hostRow) error {
	d, err := c.real(*h)
	if err != nil {
		return err
	}
	if d, ok := d.(*libvirt.Driver); ok {
		defer d.Close() //nolint:errcheck // nothing is under way
	}
	ctx, cancel := context.WithTimeout(ctx, hostAnswers)
	defer cancel()
	info, err := d.Info(ctx)
	h.CPUs, h.MemoryMiB = int64(info.CPUs), info.MemoryMiB
	return err
}

// enrol adds a host to the first cluster, unless another node just has.
func (c *Cloud) enrol(ctx context.Context, h hostRow) error {
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		if _, err := q.count(ctx, "host"); err != nil { // one node at a time
			return err
		}
		clusters, err := all[clusterRow](ctx, q, "")
		if err != nil || len(clusters) == 0 {
			return or2(err, fmt.Errorf("%w: there is no cluster", drover.ErrConfig))
		}
		n, err := q.NewSelect().Model((*hostRow)(nil)).Where("name = ?", h.Name).Count(ctx)
		if err != nil || n > 0 {
			return err
		}
		h.base, h.Cluster = base{ID: c.env.NewID(), Created: q.now, Version: 1}, clusters[0].ID
		return q.insert(ctx, &h)
	})
}

// reached is how the daemons of other hosts reach this one's, and where memory of machines goes that move there. That of a host
// reached by a socket is on the same machine.
func (h hostRow) reached() (daemon, memory string) {
	u, err := url.Parse(h.URL)
	if err != nil || h.URL == "" {
		return "", ""
	}
	if u.RawQuery = ""; u.Host != "" {
		daemon = u.String()
	}
	return daemon, "tcp://" + h.Address
}

// ports are the machine's on a host, which may have a bridge of its own for all, or none.
func (h hostRow) ports(nics []hypervisor.NIC) []hypervisor.NIC {
	if h.URL == "" {
		return nics
	}
	_, bridge, _ := driverOf(h.URL)
	if bridge == "none" {
		return nil
	}
	for i := range nics {
		nics[i].Bridge = cmp.Or(bridge, nics[i].Bridge)
	}
	return nics
}
