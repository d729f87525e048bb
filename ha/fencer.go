package ha

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
)

// Fencer makes a dead host stay dead, and proves it. nil, nil: it has no opinion about that host.
type Fencer interface {
	Fence(ctx context.Context, h Host, t Token) (*Proof, error)
}

// Reader is a Fencer that can look for a proof without doing anything. Others are left out where no command may be given.
type Reader interface {
	Read(ctx context.Context, h Host, t Token) (*Proof, error)
}

// FenceOptions of [Fence]. Zero fields are the defaults.
type FenceOptions struct {
	Limit    time.Duration // of each try of a fencer; default 60 s
	Tries    int           // of each fencer; default 3
	ReadOnly bool          // no command: the last one is too recent
}

// Fence tries the levels in order until one has a proof: within a level all that have an opinion must succeed, and one at least must have
// one. The proof is of t's epoch. Without any: [ErrNotFenced], with what each fencer said.
func Fence(ctx context.Context, env drover.Env, o FenceOptions, levels [][]Fencer, h Host, t Token) (*Proof, error) {
	env = env.Defaults()
	fill(&o.Limit, time.Minute)
	fill(&o.Tries, 3)
	errs := []error{fmt.Errorf("%w: %s at epoch %d", ErrNotFenced, h.ID, t.Host.Epoch)}
	for n, level := range levels {
		var proof *Proof
		failed := false
		for i, f := range level {
			if ctx.Err() != nil {
				return nil, errors.Join(append(errs, context.Cause(ctx))...)
			}
			p, err := o.try(ctx, env, f, h, t)
			if err != nil {
				errs = append(errs, fmt.Errorf("level %d, %s: %w", n+1, by(f, i), err))
				failed = true
				break
			}
			if p != nil && proof == nil {
				p.By = by(f, i)
				proof = p
			}
		}
		if proof != nil && !failed {
			return proof, nil
		}
	}
	return nil, errors.Join(errs...)
}

// try calls a fencer until it has a proof, or no opinion.
func (o FenceOptions) try(ctx context.Context, env drover.Env, f Fencer, h Host, t Token) (p *Proof, err error) {
	fence := f.Fence
	if o.ReadOnly {
		r, ok := f.(Reader)
		if !ok {
			return nil, nil
		}
		fence = r.Read
	}
	for range o.Tries {
		p, err = safely(ctx, o.Limit, fence, h, t)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	switch {
	case err != nil || p == nil:
		return nil, err
	case p.Epoch != 0 && p.Epoch != t.Host.Epoch:
		return nil, fmt.Errorf("a proof of epoch %d, not %d", p.Epoch, t.Host.Epoch)
	}
	c := *p
	c.Epoch = t.Host.Epoch
	if c.At.IsZero() {
		c.At = env.Clock.Now()
	}
	return &c, nil
}

// safely calls a fencer with a limit, and makes a panic its error.
func safely(ctx context.Context, limit time.Duration, fence func(context.Context, Host, Token) (*Proof, error), h Host, t Token) (p *Proof, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			p, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	return fence(ctx, h, t)
}

// Power is the state of a machine's power.
type Power string

// Power states. Anything else is unknown, which proves nothing.
const (
	PowerIsOn  Power = "on"
	PowerIsOff Power = "off"
)

// BMC is a machine's power switch that works without its operating system: IPMI, Redfish.
type BMC interface {
	Power(ctx context.Context) (Power, error) // as read now
	Off(ctx context.Context) error            // at once, without asking the operating system
}

// PowerFencer is a Fencer and Reader by BMCs. Only what is read proves anything: a command that says ok is none, and one that fails may
// have worked.
type PowerFencer struct {
	Env drover.Env
	// BMC of a host; nil: it has none, and the fencer no opinion.
	BMC func(ctx context.Context, h Host) (BMC, error)
	// Poll is between two readings after the command; default 1 s.
	Poll time.Duration
}

// String is "power".
func (*PowerFencer) String() string { return "power" }

// Read gives a proof if the machine reads as off.
func (f *PowerFencer) Read(ctx context.Context, h Host, _ Token) (*Proof, error) {
	b, err := f.BMC(ctx, h)
	if err != nil || b == nil {
		return nil, err
	}
	return off(ctx, b, "read as off, no command given")
}

// Fence reads; switches off what is not off; and reads until it is, or ctx ends.
func (f *PowerFencer) Fence(ctx context.Context, h Host, _ Token) (*Proof, error) {
	b, err := f.BMC(ctx, h)
	if err != nil || b == nil {
		return nil, err
	}
	if p, err := off(ctx, b, "read as off, no command given"); err == nil {
		return p, nil
	}
	said := b.Off(ctx)
	env, poll := f.Env.Defaults(), f.Poll
	fill(&poll, time.Second)
	for {
		p, err := off(ctx, b, "read as off after the command")
		if err == nil {
			return p, nil
		}
		if env.Sleep(ctx, poll) != nil {
			return nil, errors.Join(err, said)
		}
	}
}

func off(ctx context.Context, b BMC, evidence string) (*Proof, error) {
	switch state, err := b.Power(ctx); {
	case err != nil:
		return nil, fmt.Errorf("power state: %w", err)
	case state != PowerIsOff:
		return nil, fmt.Errorf("power state: %q", state)
	}
	return &Proof{Kind: PowerOff, Evidence: evidence}, nil
}

// NeighbourFencer asks hosts beside the victim to cut it off from what they share, its storage for one.
type NeighbourFencer struct {
	// Neighbours of a host that are up. The host itself, and others of another Kind, are not asked.
	Neighbours func(ctx context.Context, h Host) ([]Host, error)
	// Cut has neighbour cut victim off; true: it has, and it is known to have worked.
	Cut func(ctx context.Context, neighbour, victim Host, t Token) (bool, error)
	// Kinds of hypervisor for which this works; of others the fencer has no opinion.
	Kinds []string
}

// String is "neighbours".
func (*NeighbourFencer) String() string { return "neighbours" }

// Fence asks one after the other; the first that confirms is the proof.
func (f *NeighbourFencer) Fence(ctx context.Context, h Host, t Token) (*Proof, error) {
	ok := false
	for _, k := range f.Kinds {
		ok = ok || k == h.Kind
	}
	if !ok {
		return nil, nil
	}
	all, err := f.Neighbours(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("neighbours: %w", err)
	}
	errs := []error{errors.New("no neighbour has confirmed")}
	for _, n := range all {
		if n.ID == h.ID || n.Kind != h.Kind {
			continue
		}
		done, err := f.Cut(ctx, n, h, t)
		if ctx.Err() != nil {
			return nil, errors.Join(append(errs, context.Cause(ctx))...)
		}
		if err == nil && done {
			return &Proof{Kind: StorageRevoked, Evidence: "confirmed by " + n.ID}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
