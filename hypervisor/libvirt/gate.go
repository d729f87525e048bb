package libvirt

import (
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/chance"
)

// gate says when a daemon that could not be reached may be dialled again. All connections of a driver share it.
type gate struct {
	env drover.Env

	mu    sync.Mutex
	retry backoff.BackOff
	at    time.Time
	err   error // of the last dial
}

func newGate(env drover.Env) *gate {
	b := &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, Multiplier: 2, MaxInterval: 5 * time.Second, Clock: env.Clock, Stop: backoff.Stop}
	b.Reset()
	return &gate{env: env, retry: b}
}

// shut gives the cause of the last failure while it is too early to try again.
func (g *gate) shut() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.env.Clock.Now().Before(g.at) {
		return g.err
	}
	return nil
}

// wait is how long that will be.
func (g *gate) wait() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, g.at.Sub(g.env.Clock.Now()))
}

// dialled notes how a dial ended. It says whether that is news.
func (g *gate) dialled(err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	news := (g.err == nil) != (err == nil)
	g.err, g.at = err, time.Time{}
	if err == nil {
		g.retry.Reset()
		return news
	}
	g.at = g.env.Clock.Now().Add(chance.Around(g.env.Rand, g.retry.NextBackOff(), 0.2))
	return news
}

// cause is why the last dial failed, nil if it did not.
func (g *gate) cause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
