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
	hosts := []hypervisor.Driver{m.d}
	if m.spec.Target != nil {
		hosts = append(hosts, m.spec.Target)
	}
	at, err := hypervisor.Locate(ctx, m.id, hosts...)
	switch {
	case errors.Is(err, hypervisor.ErrTwoCopies):
		return c.name(err)
	case err != nil:
		return c.name(&hypervisor.Error{Class: hypervisor.ErrGone, Err: errors.Join(hypervisor.ErrOutcomeUnknown, err)})
	case at.At == 1 && at.Power == hypervisor.On, m.spec.Target == nil && at.At < 0 && answer == nil:
		return nil
	case answer != nil:
		return c.name(m.failure(answer))
	case at.At == 0:
		return c.name(&hypervisor.Error{Class: hypervisor.ErrMigration, Message: "still runs at the source"})
	}
	return c.name(&hypervisor.Error{Class: hypervisor.ErrMigration, Message: "runs nowhere"})
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
