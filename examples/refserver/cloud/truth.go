package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/store"
)

const (
	powerEvery   = time.Minute
	powerSettles = 15 * time.Second // what is otherwise for so long is not on its way to be right
)

// oddity is a machine that is not on its host what its row says.
type oddity struct {
	vm      string
	version int64 // of the row
	seen    seen
	act     hypervisor.Action
	to      State // what the row is to say, for RecordDown
	text    string
}

// seen is a machine as a host reports it.
type seen struct {
	host        string
	power       hypervisor.Power
	incarnation int64
}

// power holds the rows against what runs, twice: what was odd both times, with no move and no job between, is put right. What a
// host does not tell, or does not know, changes nothing.
func (s *sweeper) power(ctx context.Context) error {
	first, err := s.oddities(ctx)
	if err != nil {
		return err
	}
	maps.DeleteFunc(s.told, func(vm, _ string) bool { return !slices.ContainsFunc(first, func(o oddity) bool { return o.vm == vm }) })
	if len(first) == 0 {
		return nil
	}
	if err := s.env.Sleep(ctx, powerSettles); err != nil {
		return err
	}
	again, err := s.oddities(ctx)
	if err != nil {
		return err
	}
	again = slices.DeleteFunc(again, func(o oddity) bool { return !slices.Contains(first, o) })
	for chunk := range slices.Chunk(again, 500) {
		resources := make([]string, len(chunk))
		for i, o := range chunk {
			resources[i] = vmResource(o.vm)
		}
		busy, err := s.jobs.ByResource(ctx, resources)
		if err != nil {
			return err
		}
		for i, o := range chunk {
			if busy[resources[i]] != nil {
				continue
			}
			if err := s.correct(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// oddities compares all machines that rest with what their hosts report.
func (s *sweeper) oddities(ctx context.Context) (out []oddity, err error) {
	rows, err := all[vmRow](ctx, s.bun, "state IN (?, ?, ?, ?)", Running, Stopped, Destroyed, Unknown)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	reports, mute, err := s.reports(ctx)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		out = append(out, judge(&rows[i], reports[rows[i].ID], mute)...)
	}
	return out, nil
}

// reports are the machines of all hosts by id, and the hosts that could not be read.
func (s *sweeper) reports(ctx context.Context) (by map[string][]seen, mute map[string]bool, err error) {
	hosts, err := all[hostRow](ctx, s.bun, "")
	if err != nil {
		return nil, nil, err
	}
	by, mute = map[string][]seen{}, map[string]bool{}
	for _, h := range hosts {
		d, err := s.hosts.add(h)
		var vms []hypervisor.VM
		if err == nil {
			vms, err = d.List(ctx, hypervisor.Filter{})
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil && !s.mute[h.ID] {
			s.env.Logger.WarnContext(ctx, "cloud: a host does not tell what runs on it; its machines stay as they are", "host", h.Name, "err", err)
		}
		mute[h.ID] = err != nil
		for _, vm := range vms {
			by[vm.ID] = append(by[vm.ID], seen{h.ID, vm.Power, vm.Incarnation})
		}
	}
	s.mute = mute
	return by, mute, nil
}

// judge is the table of what is believed of whom.
func judge(v *vmRow, reports []seen, mute map[string]bool) (out []oddity) {
	home := cmp.Or(v.Host, v.LastHost)
	here := seen{host: home, power: hypervisor.Off, incarnation: -1} // a list is complete: what is not in it is not there
	odd := func(s seen, act hypervisor.Action, to State, text string) {
		out = append(out, oddity{v.ID, v.Version, s, act, to, text})
	}
	for _, r := range reports {
		if r.host == home {
			here = r
		} else if r.incarnation >= 0 { // an operator has to say which one is right
			odd(r, hypervisor.Warn, "", "runs on a host where it should not be")
		}
	}
	process := here.incarnation >= 0
	switch {
	case home == "" || mute[home]:
	case v.State == Running && here.power == hypervisor.Unknown:
		odd(here, hypervisor.Warn, "", "cannot be read")
	case v.State == Running && !process:
		odd(here, hypervisor.RecordDown, Stopped, "was found off")
	case v.State == Running && here.power != hypervisor.On && here.power != hypervisor.Stopping:
		odd(here, hypervisor.Warn, "", "is "+string(here.power))
	case (v.State == Stopped || v.State == Destroyed) && process:
		odd(here, hypervisor.ForceStop, "", "was found on")
	case v.State == Unknown && here.power == hypervisor.On:
		odd(here, hypervisor.RecordDown, Running, "was found on")
	case v.State == Unknown && !process && here.power != hypervisor.Unknown:
		odd(here, hypervisor.RecordDown, Stopped, "was found off")
	}
	return out
}

// correct does what an oddity wants done, unless the machine has moved meanwhile.
func (s *sweeper) correct(ctx context.Context, o oddity) error {
	if o.act == hypervisor.Warn && s.told[o.vm] == o.text {
		return nil
	}
	restart := false
	err := s.in(ctx, func(ctx context.Context, q *tx) error {
		v, err := vmByID(ctx, q, o.vm)
		if err != nil || v.Version != o.version {
			return err
		}
		if err := s.noteSync(ctx, q, v, o); err != nil || o.act != hypervisor.RecordDown {
			return err
		}
		restart = o.to == Stopped && v.HAEnable && o.seen.power == hypervisor.Crashed
		if v.State = o.to; v.State == Stopped && v.Host != "" {
			if err := s.tracker.ReleaseTx(ctx, q.tx, v.Host, v.ID, 0); err != nil { // 0: whatever job made it
				return err
			}
			v.LastHost, v.Host = v.Host, ""
		}
		return q.save(ctx, v)
	})
	switch {
	case errors.Is(err, store.ErrNotFound): // expunged
		return nil
	case err != nil:
		return err
	case o.act == hypervisor.ForceStop:
		return s.order(ctx, o, "stopVirtualMachine", map[string]string{"id": o.vm, "forced": "true"})
	case restart:
		return s.order(ctx, o, "startVirtualMachine", map[string]string{"id": o.vm})
	case o.act == hypervisor.Warn:
		s.told[o.vm] = o.text
	}
	return nil
}

// order has the system run a command on the machine, once for what was seen.
func (s *sweeper) order(ctx context.Context, o oddity, command string, params map[string]string) error {
	_, err := s.registry.Dispatch(ctx, &dispatch.Command{
		Name: command, Caller: System, Params: params, Idem: fmt.Sprintf("power/%s/%d/%d", o.vm, o.version, o.seen.incarnation),
	})
	if code := dispatch.CodeOf(err); code == dispatch.NotFound || code == dispatch.Draining {
		return nil // gone, or for the next one that looks
	}
	return err
}

// noteSync tells the machine's owner.
func (s *sweeper) noteSync(ctx context.Context, q *tx, v *vmRow, o oddity) error {
	owner := System
	owner.AccountID = v.Account
	return s.note(ctx, q, owner, eventRow{
		Type: eventTypes["vm.power"], Level: "WARN", State: "Completed", Kind: "VirtualMachine", Resource: v.ID,
		Description: fmt.Sprintf("VM %s, %s, %s", v.title(), v.State, o.text),
	})
}
