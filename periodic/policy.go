package periodic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/chance"
)

// Policy is an exponential backoff with a budget of time. Zero fields are 1 s, factor 1.5, at most 300 s, budget 300 s, jitter
// 0.2 and at least 1 ms; a negative Budget is endless, a negative Jitter none.
type Policy struct {
	Initial, Max, Min time.Duration
	// Budget is the time from the first try, or the last progress, in which a next try must begin.
	Budget time.Duration
	// Factor is what a delay grows by; Jitter is the share of it that is added or taken away by chance.
	Factor, Jitter float64
	// Retries is how many delays there are at most; 0 is no limit.
	Retries int
}

// New is a fresh backoff of p. In a task of a Set, and in Until, it goes by their Env's clock and randomness.
func (p Policy) New() backoff.BackOff {
	b := &exponential{policy: p.defaults()}
	b.in(drover.Env{}.Defaults())
	return b
}

func (p Policy) defaults() Policy {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&p.Initial, time.Second)
	set(&p.Max, 300*time.Second)
	set(&p.Min, time.Millisecond)
	set(&p.Budget, 300*time.Second)
	if p.Factor == 0 {
		p.Factor = 1.5
	}
	if p.Jitter == 0 {
		p.Jitter = 0.2
	}
	p.Budget, p.Jitter = max(p.Budget, 0), max(p.Jitter, 0)
	return p
}

func (p Policy) check() error {
	q := p.defaults()
	for _, f := range []struct {
		name string
		bad  bool
		why  string
	}{
		{"Initial", q.Initial < 0, "is negative"},
		{"Min", q.Min < 0, "is negative"},
		{"Max", q.Max < q.Initial, "is less than Initial"},
		{"Factor", !(q.Factor >= 1 && q.Factor <= 1000), "must be 1 to 1000"},
		{"Jitter", !(q.Jitter <= 1), "is more than 1"},
		{"Retries", q.Retries < 0, "is negative"},
	} {
		if f.bad {
			return fmt.Errorf("%w: Policy.%s %s", ErrSchedule, f.name, f.why)
		}
	}
	return nil
}

// exponential is cenkalti's, with the jitter from outside: its own comes from a global source.
type exponential struct {
	*backoff.ExponentialBackOff
	policy  Policy
	rand    rand.Source
	retries int
}

// in binds a backoff that has not been used to e.
func (b *exponential) in(e drover.Env) {
	p := b.policy
	b.rand = e.Rand
	b.ExponentialBackOff = backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(p.Initial), backoff.WithMultiplier(p.Factor), backoff.WithMaxInterval(p.Max),
		backoff.WithMaxElapsedTime(p.Budget), backoff.WithRandomizationFactor(0), backoff.WithClockProvider(e.Clock))
}

func (b *exponential) Reset() {
	b.retries = 0
	b.ExponentialBackOff.Reset()
}

func (b *exponential) NextBackOff() time.Duration {
	if b.retries++; b.policy.Retries > 0 && b.retries > b.policy.Retries {
		return backoff.Stop
	}
	d := b.ExponentialBackOff.NextBackOff()
	if d == backoff.Stop {
		return d
	}
	return max(chance.Around(b.rand, d, b.policy.Jitter), b.policy.Min)
}

// upTo is uniform in [0, max), by the nanosecond.
func upTo(src rand.Source, max time.Duration) time.Duration {
	if max <= 0 {
		return 0
	}
	return time.Duration(src.Uint64() % uint64(max))
}

// fresh makes a backoff that goes by e where it can.
func fresh(make func() backoff.BackOff, e drover.Env) backoff.BackOff {
	b := make()
	if x, ok := b.(*exponential); ok {
		x.in(e)
	}
	b.Reset()
	return b
}

// Linear makes backoffs whose delays grow by step up to max, for ever.
func Linear(step, max time.Duration) func() backoff.BackOff {
	return func() backoff.BackOff { return &linear{step: step, max: max} }
}

type linear struct {
	step, max time.Duration
	n         int64
}

func (l *linear) Reset() { l.n = 0 }

func (l *linear) NextBackOff() time.Duration {
	if l.n < math.MaxInt32 {
		l.n++
	}
	if d := time.Duration(l.n) * l.step; d <= l.max && d/time.Duration(l.n) == l.step {
		return d
	}
	return l.max
}
