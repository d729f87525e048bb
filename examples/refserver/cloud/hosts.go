package cloud

import (
	"context"
	"sync"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// drivers are the connections to hosts, opened once each.
type drivers struct {
	open func(hostRow) (hypervisor.Driver, error)

	mu sync.Mutex
	by map[string]hypervisor.Driver
}

func (d *drivers) add(h hostRow) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by[h.ID] != nil {
		return nil
	}
	drv, err := d.open(h)
	if err != nil {
		return err
	}
	d.by[h.ID] = drv
	return nil
}

func (d *drivers) driver(host string) (hypervisor.Driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if drv := d.by[host]; drv != nil {
		return drv, nil
	}
	return nil, dispatch.Errorf(dispatch.Unavailable, "host %s has no driver on this node", host)
}

func (d *drivers) has(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[host] != nil
}

// audited are the hosts whose room is tracked.
func (c *Cloud) audited(context.Context) (out []tracker.Host, err error) {
	for _, h := range c.inv.now().hosts {
		d, err := c.hosts.driver(h.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, tracker.Host{ID: h.ID, Driver: d})
	}
	return out, nil
}
