package ha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// Path is a way by which a guard beats: to a monitor over the control network, into a file on shared storage, to a neighbour.
type Path struct {
	Name string
	// Send delivers a beat, and answers when it is known to have arrived. Its ctx ends after an Interval.
	Send func(ctx context.Context, b Beat) (Ack, error)
}

// GuardConfig is for [NewGuard]. Host, Paths and Fence are required.
type GuardConfig struct {
	Env   drover.Env
	Host  string
	Paths []Path // independent of each other: two at least
	// SingleChannel allows one Path: then its loss alone ends the host's VMs.
	SingleChannel bool

	Interval time.Duration // between beats; default 2 s
	Lease    time.Duration // for which the host may run its VMs after a beat that arrived; default 10 s. An Ack that says less counts.
	Grain    time.Duration // within which Fence must do it; default 1 s

	// Incarnation is higher with each call, over restarts of the host too; nil is the time in ms.
	Incarnation func() int64
	Healthy     func() bool // nil is always
	// Protected says whether VMs run here that would be started elsewhere; nil is always.
	Protected func() bool
	// Fence makes sure that none of them runs any more. It is called until it returns nil.
	Fence func(ctx context.Context) error
	// Pat, if not nil, is called each Interval while the lease holds: for a watchdog that resets the host when it is not.
	Pat func()
}

// Guard runs on a host: it beats by all paths, and when none of them has confirmed a beat for a lease, it ends the VMs that may by then
// be started elsewhere. It is a drover.Component and drover.Reporter.
//
// It trusts the lease until it sent the last confirmed beat, by its own monotonic clock, plus Lease: the monitor counts from the
// arrival, which is later. Losing some paths, but not all, ends nothing.
type Guard struct {
	cfg GuardConfig
	log *slog.Logger

	mu          sync.Mutex // never held while the host's code runs
	ran         bool
	incarnation int64
	seq         int64
	until       []time.Time // of each path
	lapsed      bool
	err         error
	since       time.Time
	renewed     chan struct{}
}

// NewGuard checks cfg; errors are drover.ErrConfig and name the field.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	fill(&cfg.Interval, 2*time.Second)
	fill(&cfg.Lease, Default().HostLease)
	fill(&cfg.Grain, Default().Grain)
	cfg.Env = cfg.Env.Defaults()
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{cfg.Host == "", "GuardConfig.Host is empty"},
		{len(cfg.Paths) == 0, "GuardConfig.Paths is empty"},
		{len(cfg.Paths) == 1 && !cfg.SingleChannel, "GuardConfig.Paths 1 must be at least 2, or SingleChannel true"},
		{cfg.Fence == nil, "GuardConfig.Fence is nil"},
		{cfg.Interval < 0, fmt.Sprintf("GuardConfig.Interval %v must be positive", cfg.Interval)},
		{cfg.Lease < 2*cfg.Interval, fmt.Sprintf("GuardConfig.Lease %v must be at least twice the Interval %v", cfg.Lease, cfg.Interval)},
		{cfg.Grain < 0, fmt.Sprintf("GuardConfig.Grain %v must be positive", cfg.Grain)},
	} {
		if c.bad {
			return nil, configError("ha: " + c.text)
		}
	}
	names := map[string]bool{}
	for i, p := range cfg.Paths {
		if p.Name == "" || names[p.Name] || p.Send == nil {
			return nil, configError(fmt.Sprintf("ha: GuardConfig.Paths[%d] %q must have a name of its own and a Send", i, p.Name))
		}
		names[p.Name] = true
	}
	g := &Guard{cfg: cfg, log: cfg.Env.Logger.With("component", "ha.guard", "host", cfg.Host), renewed: make(chan struct{}, 1)}
	g.since = cfg.Env.Clock.Now()
	return g, nil
}

// Run beats until ctx ends, and then says goodbye. It is called once.
func (g *Guard) Run(ctx context.Context) error {
	g.mu.Lock()
	if g.ran {
		g.mu.Unlock()
		return drover.ErrUsed
	}
	g.ran = true
	g.incarnation = g.next()
	g.until = make([]time.Time, len(g.cfg.Paths))
	for i := range g.until { // the host has just started: its VMs have not
		g.until[i] = g.cfg.Env.Clock.Now().Add(g.cfg.Lease)
	}
	g.mu.Unlock()
	var all sync.WaitGroup
	for i := range g.cfg.Paths {
		all.Add(1)
		g.cfg.Env.Go("ha/guard/"+g.cfg.Paths[i].Name, func() {
			defer all.Done()
			g.beat(ctx, i)
		})
	}
	g.watch(ctx)
	all.Wait()
	return nil
}

func (g *Guard) next() int64 {
	if g.cfg.Incarnation != nil {
		return g.cfg.Incarnation()
	}
	return g.cfg.Env.Clock.Now().UnixMilli()
}

// beat sends on one path, each Interval, whatever becomes of the others.
func (g *Guard) beat(ctx context.Context, i int) {
	begin := g.cfg.Env.Clock.Now()
	for ctx.Err() == nil {
		g.send(ctx, i, false)
		into := g.cfg.Env.Clock.Now().Sub(begin) % g.cfg.Interval
		_ = g.cfg.Env.Sleep(ctx, g.cfg.Interval-into)
	}
	g.send(context.WithoutCancel(ctx), i, true)
}

// send sends one beat and, if it is confirmed, renews the path from the instant at which it was sent.
func (g *Guard) send(ctx context.Context, i int, bye bool) {
	healthy := g.cfg.Healthy == nil || g.cfg.Healthy()
	g.mu.Lock()
	g.seq++
	b := Beat{Host: g.cfg.Host, Incarnation: g.incarnation, Seq: g.seq, Healthy: healthy, Goodbye: bye}
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Interval)
	defer cancel()
	sent := g.cfg.Env.Clock.Now()
	ack, err := g.cfg.Paths[i].Send(ctx, b)
	if err != nil || bye {
		return
	}
	lease := g.cfg.Lease
	if ack.Lease > 0 {
		lease = min(lease, ack.Lease)
	}
	g.mu.Lock()
	if b.Incarnation == g.incarnation {
		g.until[i] = later(g.until[i], sent.Add(lease))
	}
	g.mu.Unlock()
	select {
	case g.renewed <- struct{}{}:
	default:
	}
}

// watch ends the VMs when the lease has lapsed on all paths.
func (g *Guard) watch(ctx context.Context) {
	for ctx.Err() == nil {
		now := g.cfg.Env.Clock.Now()
		left := g.standing(now)
		switch {
		case left > 0:
			if g.cfg.Pat != nil {
				g.cfg.Pat()
			}
			left = min(left, g.cfg.Interval)
		case g.cfg.Protected != nil && !g.cfg.Protected():
			left = g.cfg.Interval
		default:
			if left = g.fence(ctx); left == 0 {
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-g.cfg.Env.Clock.After(left):
		case <-g.renewed:
		}
	}
}

// standing is for how long the lease still holds, by the path that was renewed last.
func (g *Guard) standing(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var last time.Time
	for _, t := range g.until {
		last = later(last, t)
	}
	left := last.Sub(now)
	if g.lapsed && left > 0 {
		g.lapsed, g.err, g.since = false, nil, now
		g.log.Info("the host lease holds again")
	}
	if !g.lapsed && left <= 0 {
		g.lapsed, g.err, g.since = true, errors.New("ha: the host lease has lapsed on all paths"), now
		g.log.Error("the host lease has lapsed on all paths")
	}
	return left
}

// fence ends the VMs. The host is another incarnation then: beats of the one before would say that it had survived. It answers when to
// try again; 0 is at once.
func (g *Guard) fence(ctx context.Context) time.Duration {
	limited, cancel := context.WithTimeout(ctx, g.cfg.Grain)
	defer cancel()
	begin := g.cfg.Env.Clock.Now()
	err := g.cfg.Fence(limited)
	now := g.cfg.Env.Clock.Now()
	if err != nil {
		g.log.Error("the host's VMs are not ended", "err", err)
		g.mu.Lock()
		g.err = fmt.Errorf("ha: the host's VMs are not ended: %w", err)
		g.mu.Unlock()
		return max(g.cfg.Grain-now.Sub(begin), g.cfg.Grain/10)
	}
	g.log.Error("the host's VMs are ended: nobody has confirmed a beat")
	incarnation := g.next()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.incarnation, g.seq = max(incarnation, g.incarnation+1), 0
	for i := range g.until { // nothing runs that could be started elsewhere
		g.until[i] = now.Add(g.cfg.Lease)
	}
	return 0
}

// Health is ready while the lease holds, failing when it has lapsed.
func (g *Guard) Health() drover.Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := drover.Health{Name: "ha.guard", State: "ready", Err: g.err, Since: g.since}
	switch {
	case !g.ran:
		h.State = "starting"
	case g.lapsed:
		h.State = "failing"
	}
	return h
}
