package tracker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

// finding is what came of an audit.
type finding struct {
	report  Report
	unread  bool // the host did not answer
	running map[string]bool
	now     time.Time // of the store
}

// phase says for Status and Health what an audit is at.
func (h *host) at(phase string) { h.phase.Store(&phase) }

// audit reads the sources, compares, and stores what changed.
func (t *Tracker) audit(ctx context.Context, of Host, h *host, a *auditing) (finding, error) {
	h.at("reading the host")
	workloads := make(chan error, 1)
	in := Inputs{
		Suspects: a.suspects, Missing: a.missing,
		Ratios: t.cfg.Ratios, Reserved: *t.cfg.Reserved, Overhead: t.cfg.Overhead, Release: t.cfg.Workloads != nil,
	}
	var should []string
	if t.cfg.Workloads == nil {
		workloads <- nil
	} else {
		t.env.Go("tracker/workloads/"+of.ID, func() {
			var err error
			should, err = t.cfg.Workloads(ctx, of.ID)
			workloads <- err
		})
	}
	res, blind, err := t.resources(ctx, of)
	if err != nil {
		note := Note{Kind: Unread, Detail: err.Error()}
		return finding{report: Report{Notes: []Note{note}}, unread: true}, fmt.Errorf("tracker: host %s: %w", of.ID, err)
	}
	in.Resources, in.Blind = res, blind
	f := finding{running: map[string]bool{}}
	for id := range res.PerVM {
		f.running[id] = true
	}
	h.at("reading the workloads")
	var notes []Note
	select {
	case err = <-workloads:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		notes = append(notes, Note{Kind: Unread, Detail: "workloads: " + err.Error()})
	} else {
		in.Workloads, in.Known = should, true
	}
	var settled []Note // by tries that met a conflict later
	for range maxConflicts {
		err = t.compare(ctx, of.ID, h, in, &f)
		f.report.Notes = append(settled, f.report.Notes...)
		if !errors.Is(err, store.ErrConflict) {
			f.report.Notes = append(f.report.Notes, notes...)
			return f, err
		}
		settled = f.report.Notes
		t.meter.conflicts.Add(ctx, 1)
	}
	return f, fmt.Errorf("tracker: host %s: %w: too many changes meanwhile", of.ID, err)
}

// resources asks the host. blind: its driver cannot tell what VMs use.
func (t *Tracker) resources(ctx context.Context, of Host) (res hypervisor.Resources, blind bool, err error) {
	if of.Driver == nil {
		return res, false, invalid("Driver", "is missing")
	}
	able, ok := of.Driver.(hypervisor.Resourcer)
	if ok {
		res, err = able.Resources(ctx)
		switch {
		case errors.Is(err, hypervisor.ErrUnsupported):
			ok = false
		case err != nil:
			return res, false, err
		case res.VCPUs <= 0:
			return res, false, invalid("VCPUs", "host reports none")
		case res.MemoryMiB <= 0:
			return res, false, invalid("MemoryMiB", "host reports none")
		}
	}
	if ok {
		return res, false, nil
	}
	vms, err := of.Driver.List(ctx, hypervisor.Filter{})
	res.PerVM = map[string]hypervisor.Resources{}
	for _, vm := range vms {
		if vm.HasProcess() {
			res.PerVM[vm.ID] = hypervisor.Resources{}
		}
	}
	return res, true, err
}

// compare is one try: read, compute, store, apply. A claim made in between is a conflict; f's notes are then those applied.
func (t *Tracker) compare(ctx context.Context, host string, h *host, in Inputs, f *finding) error {
	h.at("loading")
	f.report = Report{}
	err := t.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		in.Now = tx.Now()
		in.Record, in.Rows, err = t.cfg.Store.LoadHost(ctx, tx, host)
		if errors.Is(err, ErrNotFound) {
			in.Record, in.Rows, err = Record{Host: host, Enabled: true}, nil, nil
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case in.Blind && in.Record.Generation == 0:
		return fmt.Errorf("tracker: host %s: %w: no resources, and no SetCapacity", host, hypervisor.ErrUnsupported)
	case in.Blind:
		c := in.Record.Capacity
		in.Resources.VCPUs, in.Resources.MemoryMiB, in.Resources.DiskMiB = int(c.VCPUs), c.MemoryMiB, c.DiskMiB
	}
	f.now = in.Now
	in.Elsewhere = t.elsewhere(host, in)
	usage, notes := Compute(in)
	next := in.next(usage)
	if in.changed(next) {
		h.at("saving")
		err := t.write(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			next, err = t.cfg.Store.SaveHost(ctx, tx, next)
			return err
		})
		if err != nil {
			return err
		}
	}
	t.publish(ctx, watchlock.Holder{Op: "audit", Host: host}, next)
	h.at("settling rows")
	next, f.report.Notes, err = t.apply(ctx, in, next, notes)
	f.report.Usage = t.arithmetic().usage(next)
	return err
}

// elsewhere tells where workloads run that have a current row here and no VM, as of the other hosts' last audits.
func (t *Tracker) elsewhere(host string, in Inputs) map[string]string {
	found := map[string]string{}
	hosts := *t.hosts.Load()
	var ids []string
	for _, row := range in.Rows {
		if _, runs := in.Resources.PerVM[row.Workload]; runs || row.State != Committed || row.Role != Current {
			continue
		}
		if ids == nil {
			ids = sortedKeys(hosts)
		}
		for _, id := range ids {
			if id != host && hosts[id].audit.Load().running[row.Workload] {
				found[row.Workload] = id
				break
			}
		}
	}
	return found
}

// apply settles rows, each only if the host is still as it was compared. It answers the host after it, and the notes; of an
// error, those that were applied.
func (t *Tracker) apply(ctx context.Context, in Inputs, rec Record, notes []Note) (Record, []Note, error) {
	var applied []Note
	for i, n := range notes {
		c := Change{ID: n.ID, Late: true, Generation: rec.Generation}
		switch {
		case n.Kind == Adopted:
			c.From, c.To = []State{Held, Expired}, Committed
		case n.Kind == Expire:
			c.From, c.To = []State{Held}, Expired
		case n.Kind == Leaked && in.Release:
			c.From, c.To = []State{Committed}, Gone
		case n.Kind == Leaked:
			notes[i].Detail = "reported only: nobody lists workloads"
			continue
		default:
			continue
		}
		err := t.write(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			_, rec, err = t.cfg.Store.SetClaim(ctx, tx, c)
			return err
		})
		if err != nil {
			return rec, applied, err
		}
		applied = append(applied, n)
		t.meter.settled(ctx, n.Kind)
		t.publish(ctx, watchlock.Holder{Op: "audit", Host: rec.Host, Claim: n.ID}, rec)
	}
	return rec, notes, nil
}
