package tracker

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

// link is what a host's connection did last: it was lost, and why, or is there.
type link struct {
	lost bool
	why  string
}

// runner is the loop's view of a Tracker: it follows the hosts' connections, too.
type runner struct {
	t       *Tracker
	life    context.Context
	follows map[string]*following
}

// following is a host whose events are read.
type following struct {
	driver hypervisor.Driver
	stop   context.CancelFunc
	ended  atomic.Bool
}

// Step of the loop.
func (r *runner) Step(ctx context.Context) (time.Time, error) {
	hosts, err := r.t.listed(ctx)
	if err != nil {
		return time.Time{}, err
	}
	r.follow(hosts)
	r.t.linked(ctx, hosts)
	return r.t.step(ctx, hosts)
}

// follow reads the events of hosts that have any.
func (r *runner) follow(hosts []Host) {
	listed := map[string]bool{}
	for _, h := range hosts {
		able, ok := h.Driver.(hypervisor.Eventer)
		listed[h.ID] = ok
		f := r.follows[h.ID]
		if !ok || f != nil && same(f.driver, h.Driver) && !f.ended.Load() {
			continue
		}
		if f != nil {
			f.stop()
		}
		ctx, cancel := context.WithCancel(r.life)
		f = &following{driver: h.Driver, stop: cancel}
		r.follows[h.ID] = f
		r.t.env.Go("tracker/events/"+h.ID, func() {
			defer cancel()
			err := able.Events(ctx, func(e hypervisor.Event) { r.t.heard(h.ID, e) })
			if ctx.Err() == nil && !errors.Is(err, hypervisor.ErrUnsupported) {
				r.t.env.Logger.Warn("tracker: a host's events ended", "host", h.ID, "err", err)
				f.ended.Store(true) // the next step asks again
			}
		})
	}
	for id, f := range r.follows {
		if !listed[id] {
			f.stop()
			delete(r.follows, id)
		}
	}
}

// same tells whether two drivers are one; of those that cannot be compared it believes so.
func same(a, b hypervisor.Driver) bool {
	v := reflect.ValueOf(a)
	return reflect.TypeOf(a) == reflect.TypeOf(b) && (!v.Comparable() || a == b)
}

// heard notes what an event says of the connection, and wakes the loop.
func (t *Tracker) heard(id string, e hypervisor.Event) {
	l := &link{lost: e.Kind == hypervisor.EventLost, why: e.Detail}
	if !l.lost && e.Kind != hypervisor.EventBack && e.Kind != hypervisor.EventSynced {
		return
	}
	if h := t.host(id); h != nil {
		h.link.Store(l)
	} else {
		t.locked("events", func() { t.known(id).link.Store(l) })
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// linked disables hosts whose connection was lost, and ends that when it is back. What the store does not take now is tried again
// at the next step.
func (t *Tracker) linked(ctx context.Context, hosts []Host) {
	for _, of := range hosts {
		h := t.host(of.ID)
		if h == nil {
			continue
		}
		l := h.link.Load()
		if l == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, t.cfg.AuditTimeout)
		var err error
		if l.lost {
			err = t.AutoDisable(ctx, of.ID, "connection lost: "+l.why)
		} else {
			err = t.AutoEnable(ctx, of.ID)
		}
		cancel()
		if err == nil || errors.Is(err, ErrNotFound) {
			h.link.CompareAndSwap(l, nil)
		} else {
			t.env.Logger.Warn("tracker: placement of a host", "host", of.ID, "err", err)
		}
	}
}
