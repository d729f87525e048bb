package ha

import (
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
)

// Timing holds the knobs beside Interval and Misses; zero fields are Default's.
type Timing struct {
	ProbeTimeout time.Duration // of all investigators, which look at once
	Window       time.Duration // between probes that saw nothing and the verdict, with fewer than two witnesses
	HostLease    time.Duration // a guard stops its VMs so long after the last beat that was acknowledged, at the latest
	Drift        float64       // of clocks
	Grain        time.Duration // of the watchdog
	WarmUp       time.Duration // of a new monitor; 0: silence + Window

	FenceAttempts int
	FenceBudget   time.Duration
	Quiet         time.Duration // between active fence operations on one host

	ActivityInterval time.Duration
	Samples          int
	Ratio            float64 // of idle samples; more of them: dead

	Recheck        time.Duration // of degraded hosts
	RepairWait     time.Duration // for a healthy beat after a repair
	RepairAttempts int
	AlertWait      time.Duration
	RetryMin       time.Duration // of a row, doubled up to RetryMax
	RetryMax       time.Duration
	RowAttempts    int
	GroupWait      time.Duration // for a group of VMs to be verified before the next starts
	Stale          time.Duration // results older than this are dropped
}

// Default is for an Interval of 2 s and hosts that pause for less than 8 s: recovery begins 11 s after the last beat.
func Default() Timing {
	return Timing{
		ProbeTimeout: 3 * time.Second, Window: 12 * time.Second,
		HostLease: 10 * time.Second, Drift: 1e-3, Grain: time.Second,
		FenceAttempts: 10, FenceBudget: 120 * time.Second, Quiet: 180 * time.Second,
		ActivityInterval: time.Minute, Samples: 10, Ratio: 0.7,
		Recheck: time.Minute, RepairWait: 600 * time.Second, RepairAttempts: 1, AlertWait: 30 * time.Minute,
		RetryMin: 5 * time.Second, RetryMax: 5 * time.Minute, RowAttempts: 10, GroupWait: 600 * time.Second, Stale: time.Minute,
	}
}

// Fast is for an Interval of half a second: recovery begins 4 s after the last beat.
func Fast() Timing {
	t := Default()
	t.ProbeTimeout, t.Window = 750*time.Millisecond, 3*time.Second
	t.HostLease, t.Recheck, t.RepairWait, t.AlertWait = 3*time.Second, 15*time.Second, 120*time.Second, 5*time.Minute
	return t
}

// Policy is what Decide goes by. [Policy.Defaults] fills it.
type Policy struct {
	Interval time.Duration // between beats; default 2 s
	Misses   float64       // Interval × Misses is the longest silence that is no suspicion; default 4
	Timing   Timing

	Checker  bool // there is an ActivityChecker
	Repairer bool
	Kills    bool // one of the repairers resets hosts
	Fencer   bool // there is an active fencer
	Disarmed bool // watch, but condemn nobody

	Bare []string // kinds of hosts without VMs: never investigated

	FreezeRatio       float64 // of a domain that is missing, from which it is Frozen; default 0.55
	FrozenProofWaits  bool    // also hosts that were read as off wait for a Frozen domain
	SlowRatio         float64 // from which it is Slow; default 0.3
	InAll             int     // recoveries in flight; default 64
	FenceEvery        time.Duration
	FenceEverySlow    time.Duration
	LeaseSoon         time.Duration // no active fencer starts when the lease is due within it; default 5 s
	ChannelAlarm      time.Duration // a domain's second channel is missing: alarm; default 60 s
	ChannelRetry      time.Duration // and the probes go out again; default 5 s
	BlockedRetry, Cap time.Duration // of Blocked, doubled from the first to the second; default 60 s and 15 min
	HoldDown, HoldCap time.Duration // of a host that rejoins, doubled with each flap; default 60 s and 1 h
}

// Defaults is p with its zero fields filled.
func (p Policy) Defaults() Policy {
	d := Default()
	fill(&p.Interval, 2*time.Second)
	fill(&p.Misses, 4)
	t := &p.Timing
	for _, f := range []struct {
		at  *time.Duration
		def time.Duration
	}{
		{&t.ProbeTimeout, d.ProbeTimeout}, {&t.Window, d.Window},
		{&t.HostLease, d.HostLease}, {&t.Grain, d.Grain}, {&t.FenceBudget, d.FenceBudget}, {&t.Quiet, d.Quiet},
		{&t.ActivityInterval, d.ActivityInterval}, {&t.Recheck, d.Recheck},
		{&t.RepairWait, d.RepairWait}, {&t.AlertWait, d.AlertWait}, {&t.RetryMin, d.RetryMin},
		{&t.RetryMax, d.RetryMax}, {&t.GroupWait, d.GroupWait}, {&t.Stale, d.Stale},
		{&p.FenceEvery, 10 * time.Second}, {&p.FenceEverySlow, 100 * time.Second}, {&p.LeaseSoon, 5 * time.Second},
		{&p.ChannelAlarm, time.Minute}, {&p.ChannelRetry, 5 * time.Second}, {&p.BlockedRetry, time.Minute}, {&p.Cap, 15 * time.Minute},
		{&p.HoldDown, time.Minute}, {&p.HoldCap, time.Hour},
	} {
		fill(f.at, f.def)
	}
	fill(&t.Drift, d.Drift)
	fill(&t.Ratio, d.Ratio)
	fill(&p.FreezeRatio, 0.55)
	fill(&p.SlowRatio, 0.3)
	for _, f := range []struct {
		at  *int
		def int
	}{{&t.FenceAttempts, d.FenceAttempts}, {&t.Samples, d.Samples}, {&t.RepairAttempts, d.RepairAttempts}, {&t.RowAttempts, d.RowAttempts},
		{&p.InAll, 64}} {
		fill(f.at, f.def)
	}
	fill(&t.WarmUp, p.silence(1)+t.Window)
	return p
}

func fill[T comparable](at *T, def T) {
	var zero T
	if *at == zero {
		*at = def
	}
}

// silence is how long a host may be silent without suspicion, for a monitor of health score n.
func (p Policy) silence(n int) time.Duration {
	return time.Duration(p.Misses * float64(p.Interval) * float64(max(n, 1)))
}

// Expiry is how old a renewal of the host lease must be, by the store's clock, to be a proof.
func (p Policy) Expiry() time.Duration {
	return p.Timing.HostLease + time.Duration(float64(p.Timing.HostLease)*p.Timing.Drift) + p.Timing.Grain
}

// configError is drover.ErrConfig.
type configError string

func (e configError) Error() string        { return string(e) }
func (e configError) Is(target error) bool { return target == drover.ErrConfig }

// Check tells what cannot work in p, which has its defaults: a drover.ErrConfig that names field, value and rule.
func (p Policy) Check() error {
	t := p.Timing
	for _, c := range []struct {
		ok    bool
		field string
		value any
		rule  string
	}{
		{p.Interval > 0, "Interval", p.Interval, "positive"},
		{p.Misses >= 2, "Misses", p.Misses, "at least 2"},
		{t.HostLease >= 2*p.Interval, "Timing.HostLease", t.HostLease, fmt.Sprintf("at least twice the Interval %v", p.Interval)},
		{t.ProbeTimeout >= 100*time.Millisecond, "Timing.ProbeTimeout", t.ProbeTimeout, "at least 100ms"},
		{t.Ratio > 0 && t.Ratio <= 1, "Timing.Ratio", t.Ratio, "above 0 and at most 1"},
		{t.Drift >= 0 && t.Drift < 1, "Timing.Drift", t.Drift, "at least 0 and below 1"},
		{t.FenceAttempts >= 1, "Timing.FenceAttempts", t.FenceAttempts, "at least 1"},
		{t.RepairAttempts >= 1, "Timing.RepairAttempts", t.RepairAttempts, "at least 1"},
		{t.RowAttempts >= 1, "Timing.RowAttempts", t.RowAttempts, "at least 1"},
		{t.Samples >= 1, "Timing.Samples", t.Samples, "at least 1"},
		{t.Window >= 0, "Timing.Window", t.Window, "not negative"},
		{t.RetryMax >= t.RetryMin, "Timing.RetryMax", t.RetryMax, fmt.Sprintf("at least RetryMin %v", t.RetryMin)},
		{p.FreezeRatio > 0 && p.FreezeRatio <= 1, "FreezeRatio", p.FreezeRatio, "above 0 and at most 1"},
		{p.InAll >= 1, "InAll", p.InAll, "at least 1"},
	} {
		if !c.ok {
			return configError(fmt.Sprintf("ha: %s %v must be %s", c.field, c.value, c.rule))
		}
	}
	return nil
}
