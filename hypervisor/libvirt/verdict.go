package libvirt

import (
	"context"
	"errors"

	"github.com/drover-cloud/drover/hypervisor"
)

// verdict says how a migration ended, by where the guest is now, not by what was answered: a lost reply, and code 69 (the guest did
// move), are no failures.
func (m *migration) verdict(answer error) error {
	ctx, cancel := context.WithTimeout(m.d.life, durationOfVerdict)
	defer cancel()
	c := m.call(ctx, true)
	if m.d.life.Err() != nil {
		return c.name(&hypervisor.Error{Class: hypervisor.ErrClosed, Err: hypervisor.ErrOutcomeUnknown})
	}
	here, source := m.at(ctx, m.d)
	there, target := false, error(nil)
	if m.spec.Target != nil {
		there, target = m.at(ctx, m.spec.Target)
	} else {
		there = answer == nil && !here
	}
	switch {
	case here && there:
		m.d.env.Logger.Error("hypervisor: two copies of a vm run", "vm", m.id, "source", m.d.hostID(), "target", m.spec.ToHost)
		return c.name(&hypervisor.Error{Class: hypervisor.ErrTwoCopies, Message: "also on " + m.spec.ToHost})
	case there:
		return nil
	case here && answer != nil:
		return c.name(m.failure(answer))
	case here:
		return c.name(&hypervisor.Error{Class: hypervisor.ErrMigration, Message: "still runs at the source"})
	case source != nil || target != nil:
		return c.name(&hypervisor.Error{Class: hypervisor.ErrGone, Err: errors.Join(hypervisor.ErrOutcomeUnknown, source, target)})
	case answer != nil:
		return c.name(m.failure(answer))
	}
	return c.name(&hypervisor.Error{Class: hypervisor.ErrMigration, Message: "runs nowhere"})
}

// at says whether a host runs the guest.
func (m *migration) at(ctx context.Context, d hypervisor.Driver) (bool, error) {
	vm, err := d.Get(ctx, m.id)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case vm.Power == hypervisor.Unknown:
		return false, hypervisor.ErrInternal
	}
	return vm.Power == hypervisor.On, nil
}

// failure is why the guest did not move.
func (m *migration) failure(answer error) error {
	m.mu.Lock()
	aborted := m.aborted
	m.mu.Unlock()
	e := *classify(answer, false) // where the guest is, is known
	if aborted {
		e.Class, e.Err = hypervisor.ErrAborted, answer
	}
	return &e
}
