package cloud

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

// drivers are the connections to hosts, opened once each, when they are needed first.
type drivers struct {
	t    *tables
	open func(hostRow) (hypervisor.Driver, error)

	mu sync.Mutex
	by map[string]hypervisor.Driver
}

func (d *drivers) driver(ctx context.Context, host string) (hypervisor.Driver, error) {
	d.mu.Lock()
	drv := d.by[host]
	d.mu.Unlock()
	if drv != nil {
		return drv, nil
	}
	h, err := hostByID(ctx, d.t.bun, host)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, dispatch.Errorf(dispatch.Unavailable, "host %s is gone", host)
	case err != nil:
		return nil, err
	}
	return d.add(*h)
}

func (d *drivers) add(h hostRow) (hypervisor.Driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if drv := d.by[h.ID]; drv != nil {
		return drv, nil
	}
	drv, err := d.open(h)
	if err == nil {
		d.by[h.ID] = drv
	}
	return drv, err
}

// drop closes the connection; it is opened again when it is needed.
func (d *drivers) drop(host string) {
	d.mu.Lock()
	drv := d.by[host]
	delete(d.by, host)
	d.mu.Unlock()
	if c, ok := drv.(io.Closer); ok {
		_ = c.Close() // what is under way ends with ErrClosed
	}
}

// audited are the hosts whose room is tracked.
func (c *Cloud) audited(ctx context.Context) (out []tracker.Host, err error) {
	hosts, err := all[hostRow](ctx, c.bun, "")
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		d, err := c.hosts.add(h)
		if err != nil {
			return nil, err
		}
		out = append(out, tracker.Host{ID: h.ID, Driver: d})
	}
	return out, nil
}
