package tracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

const maxConflicts = 4

// Report is what an audit found.
type Report struct {
	Usage Usage
	Notes []Note
}

// auditing is the state of one host's audits on this node. It is replaced, never changed.
type auditing struct {
	base, next time.Time     // when the next one should be, without and with jitter
	since      time.Time     // of the first sight or the last success
	began      time.Time     // of the one that runs
	done       chan struct{} // of the one that runs, nil if none
	report     Report        // of the last one
	err        error
	stale      bool // the last one could not read the host
	suspects   []string
	missing    map[Miss]time.Time
	running    map[string]bool // VMs with a process, as of the last success
}

// Audit compares the rows of a host with what it reports, now. Concurrent calls for a host share one run.
func (t *Tracker) Audit(ctx context.Context, host string) (Report, error) {
	if ctx.Err() != nil {
		return Report{}, context.Cause(ctx)
	}
	hosts, err := t.listed(ctx)
	if err != nil {
		return Report{}, err
	}
	i := slices.IndexFunc(hosts, func(h Host) bool { return h.ID == host })
	if i < 0 {
		return Report{}, fmt.Errorf("%w: host %s", ErrNotFound, host)
	}
	h, done, err := t.begin(ctx, context.Background(), hosts[i], func() {})
	if err != nil {
		return Report{}, err
	}
	if err := await(ctx, done); err != nil {
		return Report{}, err
	}
	a := h.audit.Load()
	return a.report, a.err
}

// Run audits until ctx ends, and follows the hosts' connections: one that is lost disables its host, until it is back.
func (t *Tracker) Run(ctx context.Context) error {
	ended := make(chan struct{})
	t.env.Go("tracker/locks", func() {
		defer close(ended)
		_ = t.watch.Run(ctx)
	})
	err := drover.Loop(ctx, t.env, t.wake, &runner{t: t, life: ctx, follows: map[string]*following{}})
	if ctx.Err() != nil {
		<-ended
	}
	return err
}

// Step does the audits that are due, in order of host ids, and tells when the next one is. A host that fails is logged and
// tried again when it is due next.
func (t *Tracker) Step(ctx context.Context) (time.Time, error) {
	if ctx.Err() != nil {
		return time.Time{}, context.Cause(ctx)
	}
	hosts, err := t.listed(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return t.step(ctx, hosts)
}

func (t *Tracker) step(ctx context.Context, hosts []Host) (time.Time, error) {
	t.gone(hosts)
	now := t.env.Clock.Now()
	next := now.Add(t.cfg.Spacing)
	places := make(chan struct{}, t.cfg.Parallel)
	var running []<-chan struct{}
	for _, h := range hosts {
		if due := t.due(h.ID); due.After(now) {
			if due.Before(next) {
				next = due
			}
			continue
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return time.Time{}, context.Cause(ctx)
		}
		free := func() { <-places }
		_, done, err := t.begin(ctx, ctx, h, free)
		if err != nil {
			return time.Time{}, err
		}
		running = append(running, done)
	}
	for _, done := range running {
		if err := await(ctx, done); err != nil {
			return time.Time{}, err
		}
	}
	t.measure(ctx)
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

// listed asks for the hosts, and sorts them.
func (t *Tracker) listed(ctx context.Context) ([]Host, error) {
	if t.cfg.Hosts == nil {
		return nil, nil
	}
	hosts, err := t.cfg.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracker: hosts: %w", err)
	}
	hosts = slices.Clone(hosts)
	slices.SortFunc(hosts, func(a, b Host) int { return strings.Compare(a.ID, b.ID) })
	return hosts, nil
}

// gone stops minding the audits of hosts that are no longer listed; what they hold stays.
func (t *Tracker) gone(hosts []Host) {
	listed := map[string]bool{}
	for _, h := range hosts {
		listed[h.ID] = true
	}
	absent := func(id string, h *host) bool { return !listed[id] && h.audit.Load().done == nil }
	for id, h := range *t.hosts.Load() {
		if absent(id, h) && !h.audit.Load().since.IsZero() {
			t.locked("hosts", func() {
				if absent(id, h) {
					h.audit.Store(&auditing{})
				}
			})
		}
	}
}

// due is when the host's next audit is; zero: now.
func (t *Tracker) due(host string) time.Time {
	if h := t.host(host); h != nil {
		return h.audit.Load().next
	}
	return time.Time{}
}

// begin starts an audit unless one runs. It lives as long as life, at most AuditTimeout. over is called when it ends, or at once
// if none was started.
func (t *Tracker) begin(ctx, life context.Context, of Host, over func()) (h *host, done chan struct{}, err error) {
	now := t.env.Clock.Now()
	jitter := time.Duration(float64(t.cfg.Spacing) * 0.05 * rand.New(t.env.Rand).Float64())
	begun := false
	err = t.lock.Do(ctx, watchlock.Holder{Op: "audit", Host: of.ID}, func() {
		h = t.known(of.ID)
		a := *h.audit.Load()
		if done = a.done; done != nil {
			return
		}
		done, begun = make(chan struct{}), true
		if a.since.IsZero() {
			a.since = now
		}
		if !a.next.After(now) {
			if a.base = a.base.Add(t.cfg.Spacing); a.base.Before(now) {
				a.base = now.Add(t.cfg.Spacing)
			}
			a.next = a.base.Add(-jitter)
		}
		a.done, a.began = done, now
		h.audit.Store(&a)
	})
	if err != nil || !begun {
		over()
		return h, done, err
	}
	t.env.Go("tracker/audit/"+of.ID, func() {
		t.run(life, of, h)
		over()
		close(done)
	})
	return h, done, nil
}

// run is one audit.
func (t *Tracker) run(life context.Context, of Host, h *host) {
	ctx, cancel := context.WithTimeout(life, t.cfg.AuditTimeout)
	defer cancel()
	ctx, span := t.meter.tracer.Start(ctx, "tracker.audit")
	a := h.audit.Load()
	f, err := t.audit(ctx, of, h, a)
	t.meter.audited(ctx, of.ID, t.env.Clock.Now().Sub(a.began), f.report, err)
	span.End()
	switch {
	case errors.Is(err, store.ErrConflict):
		t.env.Logger.Debug("tracker: audit left to the next pass", "host", of.ID, "err", err)
	case err != nil && life.Err() == nil:
		t.env.Logger.Warn("tracker: audit failed", "host", of.ID, "err", err)
	}
	t.log(of.ID, a.report.Notes, f.report.Notes)
	t.finish(h, f, err)
}

// finish notes what came of an audit.
func (t *Tracker) finish(h *host, f finding, err error) {
	now := t.env.Clock.Now()
	t.locked("audit", func() {
		a := *h.audit.Load()
		a.done, a.err, a.stale = nil, err, f.unread
		if err == nil || f.unread {
			a.report = f.report
		}
		if err == nil {
			a.since, a.suspects, a.running = now, nil, f.running
			missing := map[Miss]time.Time{}
			for _, n := range f.report.Notes {
				switch n.Kind {
				case Suspect, Orphan:
					a.suspects = append(a.suspects, n.Workload)
				case Missing, Leaked:
					m := Miss{n.ID, n.Epoch}
					if since, before := a.missing[m]; before {
						missing[m] = since
					} else {
						missing[m] = f.now
					}
				}
			}
			a.missing = missing
		}
		h.audit.Store(&a)
	})
}

// log tells notes that are new.
func (t *Tracker) log(host string, before, notes []Note) {
	for _, n := range notes {
		if n.Kind == Suspect || n.Kind == Expire || n.Kind == Missing || n.Kind == Unread || slices.Contains(before, n) {
			continue
		}
		level := slog.LevelWarn
		if n.Kind == Drift {
			level = slog.LevelError
		}
		t.env.Logger.Log(context.Background(), level, "tracker: "+string(n.Kind), "host", host, "vm", n.Workload, "claim", n.ID, "detail", n.Detail)
	}
}
