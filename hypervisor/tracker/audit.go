package tracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/store"
)

const maxConflicts = 4

// Report is what an audit found.
type Report struct {
	Usage Usage
	Notes []Note
}

// auditing is the state of one host's audits on this node; mu guards it, but done's audit alone uses the rest.
type auditing struct {
	next     time.Time
	since    time.Time     // of the first or the last successful one
	done     chan struct{} // of the one that runs, nil if none
	report   Report        // of the last one
	err      error
	suspects []string
	noted    []Note
}

// Audit compares the rows of a host with what it reports, now. Concurrent calls for a host share one run.
func (t *Tracker) Audit(ctx context.Context, host string) (Report, error) {
	if ctx.Err() != nil {
		return Report{}, context.Cause(ctx)
	}
	hosts, err := t.hosts(ctx)
	if err != nil {
		return Report{}, err
	}
	i := slices.IndexFunc(hosts, func(h Host) bool { return h.ID == host })
	if i < 0 {
		return Report{}, fmt.Errorf("%w: host %s", ErrNotFound, host)
	}
	a, done := t.begin(hosts[i])
	select {
	case <-done:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return Report{}, context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return a.report, a.err
}

// Run audits until ctx ends.
func (t *Tracker) Run(ctx context.Context) error { return drover.Loop(ctx, t.env, nil, t) }

// Step does the audits that are due, in order of host ids, and tells when the next one is. A host that fails is logged and
// tried again when it is due next.
func (t *Tracker) Step(ctx context.Context) (time.Time, error) {
	hosts, err := t.hosts(ctx)
	if err != nil {
		return time.Time{}, err
	}
	now := t.env.Clock.Now()
	next := now.Add(t.cfg.Spacing)
	var running []<-chan struct{}
	for _, h := range hosts {
		if due := t.due(h.ID, now); due.After(now) {
			if due.Before(next) {
				next = due
			}
			continue
		}
		if len(running) == t.cfg.Parallel {
			if err := await(ctx, running[0]); err != nil {
				return time.Time{}, err
			}
			running = running[1:]
		}
		_, done := t.begin(h)
		running = append(running, done)
	}
	for _, done := range running {
		if err := await(ctx, done); err != nil {
			return time.Time{}, err
		}
	}
	return next, nil
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (t *Tracker) hosts(ctx context.Context) ([]Host, error) {
	if t.cfg.Hosts == nil {
		return nil, nil
	}
	hosts, err := t.cfg.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracker: hosts: %w", err)
	}
	hosts = slices.Clone(hosts)
	slices.SortFunc(hosts, func(a, b Host) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return hosts, nil
}

func (t *Tracker) of(host string, now time.Time) *auditing {
	a := t.audits[host]
	if a == nil {
		a = &auditing{since: now}
		t.audits[host] = a
	}
	return a
}

func (t *Tracker) due(host string, now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of(host, now).next
}

// begin starts an audit unless one runs; it has its own deadline and no caller's context.
func (t *Tracker) begin(h Host) (*auditing, <-chan struct{}) {
	now := t.env.Clock.Now()
	jitter := time.Duration(float64(t.cfg.Spacing) * 0.05 * rand.New(t.env.Rand).Float64())
	t.mu.Lock()
	a := t.of(h.ID, now)
	if a.done != nil {
		defer t.mu.Unlock()
		return a, a.done
	}
	done := make(chan struct{})
	a.done = done
	a.next = now.Add(t.cfg.Spacing - jitter)
	t.mu.Unlock()
	t.env.Go("tracker/audit/"+h.ID, func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.cfg.AuditTimeout)
		defer cancel()
		report, err := t.audit(ctx, h, a.suspects)
		t.count(ctx, t.passes, err)
		if err != nil {
			t.env.Logger.Warn("tracker: audit failed", "host", h.ID, "err", err)
		}
		t.finish(a, report, err)
		close(done)
	})
	return a, done
}

func (t *Tracker) finish(a *auditing, report Report, err error) {
	now := t.env.Clock.Now()
	t.mu.Lock()
	a.done, a.report, a.err = nil, report, err
	if err != nil {
		t.mu.Unlock()
		return
	}
	before := a.noted
	a.since, a.noted, a.suspects = now, report.Notes, nil
	for _, n := range report.Notes {
		if n.Kind == Suspect || n.Kind == Orphan {
			a.suspects = append(a.suspects, n.Workload)
		}
	}
	t.mu.Unlock()
	for _, n := range report.Notes {
		if n.Kind != Suspect && n.Kind != Expire && !slices.Contains(before, n) {
			level := slog.LevelWarn
			if n.Kind == Drift {
				level = slog.LevelError
			}
			t.env.Logger.Log(context.Background(), level, "tracker: "+string(n.Kind),
				"host", report.Usage.Host, "vm", n.Workload, "claim", n.ID, "detail", n.Detail)
		}
	}
}

func (t *Tracker) audit(ctx context.Context, h Host, suspects []string) (Report, error) {
	able, ok := h.Driver.(hypervisor.Resourcer)
	if !ok {
		return Report{}, fmt.Errorf("tracker: host %s: %w: no resources", h.ID, hypervisor.ErrUnsupported)
	}
	res, err := able.Resources(ctx)
	switch {
	case err != nil:
		return Report{}, fmt.Errorf("tracker: host %s: %w", h.ID, err)
	case res.VCPUs <= 0:
		return Report{}, fmt.Errorf("tracker: host %s: %w", h.ID, invalid("VCPUs", "host reports none"))
	case res.MemoryMiB <= 0:
		return Report{}, fmt.Errorf("tracker: host %s: %w", h.ID, invalid("MemoryMiB", "host reports none"))
	}
	for range maxConflicts {
		report, err := t.compare(ctx, h.ID, res, suspects)
		if !errors.Is(err, store.ErrConflict) {
			return report, err
		}
	}
	return Report{}, fmt.Errorf("tracker: host %s: %w: too many changes meanwhile", h.ID, store.ErrConflict)
}

// compare is one try: read, compute, apply. A claim made in between is a conflict.
func (t *Tracker) compare(ctx context.Context, host string, res hypervisor.Resources, suspects []string) (Report, error) {
	in := Inputs{
		Resources: res, Suspects: suspects,
		Ratios: t.cfg.Ratios, Reserved: *t.cfg.Reserved, Overhead: t.cfg.Overhead,
	}
	err := t.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		in.Now = tx.Now()
		in.Record, in.Rows, err = t.cfg.Store.LoadHost(ctx, tx, host)
		if errors.Is(err, ErrNotFound) {
			in.Record, in.Rows, err = Record{Host: host, Enabled: true}, nil, nil
		}
		return err
	})
	if err != nil {
		return Report{}, err
	}
	usage, notes := Compute(in)
	next := in.Record
	next.Capacity, next.Orphans = usage.Capacity, usage.Orphans
	next.Used, next.Running, next.InFlight = usage.Used, usage.Running, usage.InFlight
	next.Seen = seen(in.Rows, res)
	if changed(in.Record, next) {
		err := t.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			next, err = t.cfg.Store.SaveHost(ctx, tx, next)
			return err
		})
		if err != nil {
			return Report{}, err
		}
	}
	t.publish(next)
	if err := t.apply(ctx, notes); err != nil {
		return Report{}, err
	}
	if now, ok := t.Usage(host); ok {
		usage = now
	}
	return Report{usage, notes}, nil
}

func changed(a, b Record) bool {
	return a.Generation == 0 || !a.Capacity.Equal(b.Capacity) || !a.Orphans.Equal(b.Orphans) || !a.Used.Equal(b.Used) ||
		a.Running != b.Running || a.InFlight != b.InFlight || !slices.Equal(a.Seen, b.Seen)
}

// seen is which workloads without an allocation run.
func seen(rows []Row, res hypervisor.Resources) (ws []string) {
	for _, row := range rows {
		if _, runs := res.PerVM[row.Workload]; runs && row.State != Committed {
			ws = append(ws, row.Workload)
		}
	}
	slices.Sort(ws)
	return slices.Compact(ws)
}

// apply settles claims that are over. One that was settled meanwhile is as good.
func (t *Tracker) apply(ctx context.Context, notes []Note) error {
	for _, n := range notes {
		var err error
		switch n.Kind {
		case Adopt:
			err = t.alone(ctx, Change{ID: n.ID, From: []State{Held, Expired}, To: Committed, Late: true})
		case Expire:
			err = t.alone(ctx, Change{ID: n.ID, From: []State{Held}, To: Expired, Late: true})
		}
		if err != nil && !errors.Is(err, ErrMismatch) && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// Health is ready while every host has been audited in the last three spacings, degraded up to ten, then failing.
func (t *Tracker) Health() drover.Health {
	now := t.env.Clock.Now()
	h := drover.Health{Name: "tracker", State: "ready"}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, host := range sortedKeys(t.audits) {
		a := t.audits[host]
		age := now.Sub(a.since)
		if age < 3*t.cfg.Spacing || h.State != "ready" && !a.since.Before(h.Since) {
			continue
		}
		h.State, h.Since = "degraded", a.since
		if age >= 10*t.cfg.Spacing {
			h.State = "failing"
		}
		h.Err = fmt.Errorf("tracker: audit of %s stalled since %s", host, a.since.UTC().Format(time.RFC3339))
	}
	return h
}
