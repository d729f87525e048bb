package tracker

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// host is what this node knows of one. What the pointers show never changes; the lock guards replacing them.
type host struct {
	snap  atomic.Pointer[snap]
	audit atomic.Pointer[auditing]
	phase atomic.Pointer[string] // of the audit that runs, which alone sets it
	link  atomic.Pointer[link]   // what its connection did and the store has not heard yet
}

// snap is a record as last seen, with what Fits asks of it.
type snap struct {
	Record
	bound Amount
	usage Usage
}

// host gives what is known of one, nil if nothing is.
func (t *Tracker) host(id string) *host { return (*t.hosts.Load())[id] }

// known gives the same, made if need be; under the lock.
func (t *Tracker) known(id string) *host {
	hosts := *t.hosts.Load()
	if h := hosts[id]; h != nil {
		return h
	}
	h := &host{}
	h.audit.Store(&auditing{})
	hosts = maps.Clone(hosts)
	hosts[id] = h
	t.hosts.Store(&hosts)
	return h
}

// forget drops what is known of hosts for which f is true; under the lock.
func (t *Tracker) forget(f func(id string, h *host) bool) {
	hosts := maps.Clone(*t.hosts.Load())
	maps.DeleteFunc(hosts, f)
	if len(hosts) < len(*t.hosts.Load()) {
		t.hosts.Store(&hosts)
	}
}

// publish moves the snapshots of hosts to a higher generation, never back. A caller whose ctx ends while it waits for its turn
// leaves it to the next: the store has it.
func (t *Tracker) publish(ctx context.Context, by watchlock.Holder, rs ...Record) {
	var start []func()
	_ = t.lock.Do(ctx, by, func() { // see above
		for _, r := range rs {
			if r.Generation == 0 {
				continue
			}
			h := t.known(r.Host)
			if old := h.snap.Load(); old != nil && old.Generation >= r.Generation && !r.At.After(old.At) {
				continue // a lower one that is younger is of a host removed and made anew
			}
			a := t.arithmetic()
			s := &snap{r, a.bound(r, nil), a.usage(r)}
			h.snap.Store(s)
			start = append(start, t.tell(s.usage)...)
		}
	})
	for _, f := range start {
		t.env.Go("tracker/watch", f)
	}
}

func (t *Tracker) snapshot(host string) (*snap, bool) {
	if h := t.host(host); h != nil {
		s := h.snap.Load()
		return s, s != nil
	}
	return nil, false
}

// Refresh reads what is stored of all hosts, so that Fits, Usage and Hosts know what other nodes claimed.
func (t *Tracker) Refresh(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var rs []Record
	err := t.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		rs, err = t.cfg.Store.Hosts(ctx, tx)
		return err
	})
	if err == nil {
		t.publish(ctx, watchlock.Holder{Op: "refresh"}, rs...)
	}
	return err
}

// Usage of a host as this node last saw it; false if it never did. It does no I/O and never blocks.
func (t *Tracker) Usage(host string) (Usage, bool) {
	if h := t.host(host); h != nil {
		if s := h.snap.Load(); s != nil {
			u := s.usage
			u.Stale = h.audit.Load().stale
			return u, true
		}
	}
	return Usage{Host: host}, false
}

// Hosts gives the usage of all hosts seen, sorted by host. It does no I/O and never blocks.
func (t *Tracker) Hosts() []Usage {
	var us []Usage
	for _, id := range sortedKeys(*t.hosts.Load()) {
		if u, ok := t.Usage(id); ok {
			us = append(us, u)
		}
	}
	return us
}

// Fits tells whether a claim of a on host would fit as far as this node knows, and if not why. limits as in Request. It does no
// I/O and never blocks; Claim decides.
func (t *Tracker) Fits(host string, a Amount, limits map[string]int64) (bool, []Reason) {
	s, ok := t.snapshot(host)
	switch {
	case !ok:
		return false, []Reason{{Resource: "host", Detail: "is not known"}}
	case !s.Enabled:
		return false, []Reason{{Resource: "host", Detail: "disabled: " + s.Reason}}
	}
	bound := s.bound
	if len(limits) > 0 {
		bound = t.arithmetic().bound(s.Record, limits)
	}
	rs := t.loaded(a).Over(s.Used, bound)
	return len(rs) == 0, rs
}

// loaded is a with overhead.
func (t *Tracker) loaded(a Amount) Amount { return a.Plus(t.cfg.Overhead(a)) }
