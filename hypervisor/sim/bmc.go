package sim

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

// BMC is a host's power controller. It works without the host's daemon and network, and may be made to lie.
type BMC struct {
	h       *Host
	dead    bool
	lie     Lie
	told    bool // off was said by a lie
	history []switched
}

// switched is when power went on or off.
type switched struct {
	at time.Time
	on bool
}

// Lie is how a power controller lies.
type Lie struct {
	kind lieKind
	d    time.Duration
}

type lieKind int

const (
	truth lieKind = iota
	onOff
	errorOff
	unknown
	stale
	lateOff
)

// The lies without a time. Truth ends them.
var (
	Truth       = Lie{}
	LieOnOff    = Lie{kind: onOff}    // Off says it is done, and the host stays on; so does State
	LieErrorOff = Lie{kind: errorOff} // Off fails, and the host is off
	LieUnknown  = Lie{kind: unknown}  // State cannot tell
)

// LieStale makes State tell what was d ago.
func LieStale(d time.Duration) Lie { return Lie{stale, d} }

// LieLateOff makes Off and State say off at once, while the host goes off d later, or, if that is negative, never.
func LieLateOff(d time.Duration) Lie { return Lie{lateOff, d} }

// BMC is the host's power controller.
func (h *Host) BMC() *BMC { return &h.bmc }

func (b *BMC) init(h *Host) {
	b.h = h
	b.history = []switched{{on: true}}
}

// Dead makes the controller answer nothing; false brings it back.
func (b *BMC) Dead(on bool) {
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	b.dead = on
}

// Lie makes it lie from now on.
func (b *BMC) Lie(l Lie) {
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	b.lie, b.told = l, false
}

// ask waits for a controller that is dead.
func (b *BMC) ask(ctx context.Context, op string) (Lie, error) {
	if ctx.Err() != nil {
		return Lie{}, context.Cause(ctx)
	}
	b.h.mu.Lock()
	l, dead := b.lie, b.dead
	b.h.mu.Unlock()
	if !dead {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, hypervisor.QueryLimit)
	defer cancel()
	<-ctx.Done()
	return l, &hypervisor.Error{Class: hypervisor.ErrTimeout, Op: op, Host: b.h.cfg.ID, Err: ctx.Err()}
}

// Off switches the host off.
func (b *BMC) Off(ctx context.Context) error {
	l, err := b.ask(ctx, "bmc.off")
	if err != nil {
		return err
	}
	switch l.kind {
	case onOff:
		return nil
	case errorOff:
		if err := b.h.PowerLoss(ctx); err != nil {
			return err
		}
		return &hypervisor.Error{Class: hypervisor.ErrInternal, Op: "bmc.off", Host: b.h.cfg.ID, Message: "chassis command failed"}
	case lateOff:
		b.h.mu.Lock()
		b.told = true
		b.h.mu.Unlock()
		if l.d >= 0 {
			b.h.cfg.Env.Go("sim/late-off/"+b.h.cfg.ID, func() {
				<-b.h.cfg.Env.Clock.After(l.d)
				_ = b.h.PowerLoss(context.Background())
			})
		}
		return nil
	}
	return b.h.PowerLoss(ctx)
}

// On switches the host on; guests stay off.
func (b *BMC) On(ctx context.Context) error {
	if _, err := b.ask(ctx, "bmc.on"); err != nil {
		return err
	}
	b.h.mu.Lock()
	b.told = false
	b.h.mu.Unlock()
	b.h.PowerOn()
	return nil
}

// State tells whether the host is hypervisor.On or Off; Unknown if it cannot tell.
func (b *BMC) State(ctx context.Context) (hypervisor.Power, error) {
	l, err := b.ask(ctx, "bmc.state")
	if err != nil {
		return hypervisor.Unknown, err
	}
	now := b.h.cfg.Env.Clock.Now()
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	on := b.h.powered
	switch l.kind {
	case unknown:
		return hypervisor.Unknown, nil
	case stale:
		for _, s := range b.history {
			if !s.at.After(now.Add(-l.d)) {
				on = s.on
			}
		}
	case lateOff:
		on = on && !b.told
	}
	if on {
		return hypervisor.On, nil
	}
	return hypervisor.Off, nil
}
