package tracker

import (
	"context"
	"maps"
	"slices"

	"github.com/drover-cloud/drover/store"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// publish moves the snapshot of a host to a higher generation, never back.
func (t *Tracker) publish(rs ...Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range rs {
		if old, ok := t.snaps[r.Host]; !ok || r.Generation > old.Generation {
			t.snaps[r.Host] = r
		}
	}
}

func (t *Tracker) snapshot(host string) (Record, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.snaps[host]
	return r, ok
}

// Refresh reads what is stored of all hosts, so that Fits, Usage and Hosts know what other nodes claimed.
func (t *Tracker) Refresh(ctx context.Context) error {
	var rs []Record
	err := t.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		rs, err = t.cfg.Store.Hosts(ctx, tx)
		return err
	})
	if err == nil {
		t.publish(rs...)
	}
	return err
}

// Usage of a host as this node last saw it; false if it never did. It does no I/O.
func (t *Tracker) Usage(host string) (Usage, bool) {
	r, ok := t.snapshot(host)
	if !ok {
		return Usage{Host: host}, false
	}
	return t.arithmetic().usage(r), true
}

// Hosts gives the usage of all hosts seen, sorted by host. It does no I/O.
func (t *Tracker) Hosts() []Usage {
	t.mu.Lock()
	rs := make([]Record, 0, len(t.snaps))
	for _, host := range sortedKeys(t.snaps) {
		rs = append(rs, t.snaps[host])
	}
	t.mu.Unlock()
	us := make([]Usage, len(rs))
	for i, r := range rs {
		us[i] = t.arithmetic().usage(r)
	}
	return us
}

// Fits tells whether a claim of a on host would fit as far as this node knows, and if not why. limits as in Request. It does no
// I/O and never blocks; Claim decides.
func (t *Tracker) Fits(host string, a Amount, limits map[string]int64) (bool, []Reason) {
	r, ok := t.snapshot(host)
	if !ok || !r.Enabled {
		return false, []Reason{{Resource: "host", Requested: 1}}
	}
	rs := t.loaded(a).Over(r.Used, t.arithmetic().bound(r, limits))
	return len(rs) == 0, rs
}

// loaded is a with overhead.
func (t *Tracker) loaded(a Amount) Amount { return a.Plus(t.cfg.Overhead(a)) }
