package tracker

import (
	"context"
	"maps"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

// Host is one that an audit reads. Its Driver's ability hypervisor.Resourcer gives capacity and use; without it the capacity is what
// SetCapacity says, and nothing is an orphan.
type Host struct {
	ID     string
	Driver hypervisor.Driver
}

// Config of a Tracker. Tx and Store are required.
type Config struct {
	Env   drover.Env
	Tx    store.Runner
	Store Store
	Hosts func(ctx context.Context) ([]Host, error) // what to audit; nil = nothing

	// Workloads lists what should be on a host. nil = nobody knows: rows whose VM is gone are reported, not released.
	Workloads func(ctx context.Context, host string) ([]string, error)

	Ratios       map[string]float64  // of capacity, by resource; default VCPUs 4, else 1
	Reserved     *Amount             // kept free on each host; nil = 512 MiB of memory
	Overhead     func(Amount) Amount // added to every request and orphan; nil = none. It must be quick and always give the same
	TTL          time.Duration       // of a claim; default 10m
	Spacing      time.Duration       // between audits of a host; default 60s
	AuditTimeout time.Duration       // default 50s
	Parallel     int                 // audits at once; default 8
	HostMetrics  bool                // label used, free and orphans with the host instead of their sums
}

// Tracker claims room on hosts. All methods are safe for concurrent use.
type Tracker struct {
	cfg   Config
	env   drover.Env
	meter meter

	// lock guards writing of what follows, and what is arithmetic on memory: no call and no waiting under it. All is read without.
	watch    *watchlock.Watch
	lock     *watchlock.Lock
	hosts    atomic.Pointer[map[string]*host] // replaced when a host is new or removed
	watchers []*watcher                       // read under lock, too

	wake chan struct{} // a host's connection was lost or is back
}

// New checks cfg; a bad field is a *FieldError.
func New(cfg Config) (*Tracker, error) {
	switch {
	case cfg.Tx == nil:
		return nil, invalid("Tx", "is missing")
	case cfg.Store == nil:
		return nil, invalid("Store", "is missing")
	case cfg.TTL < 0 || cfg.Spacing < 0 || cfg.AuditTimeout < 0 || cfg.Parallel < 0:
		return nil, invalid("TTL, Spacing, AuditTimeout, Parallel", "must not be negative")
	}
	for _, n := range sortedKeys(cfg.Ratios) {
		if !(cfg.Ratios[n] > 0) {
			return nil, invalid("Ratios", n+" must be above 0")
		}
	}
	if cfg.Reserved == nil {
		cfg.Reserved = &Amount{MemoryMiB: 512}
	}
	if err := cfg.Reserved.validate("Reserved"); err != nil {
		return nil, err
	}
	cfg.Ratios = maps.Clone(cfg.Ratios)
	if cfg.Overhead == nil {
		cfg.Overhead = func(Amount) Amount { return Amount{} }
	}
	orDefault(&cfg.TTL, 10*time.Minute)
	orDefault(&cfg.Spacing, time.Minute)
	orDefault(&cfg.AuditTimeout, 50*time.Second)
	orDefault(&cfg.Parallel, 8)
	t := &Tracker{cfg: cfg, env: cfg.Env.Defaults(), wake: make(chan struct{}, 1)}
	t.hosts.Store(&map[string]*host{})
	t.watch = watchlock.New(t.env, "tracker")
	t.lock = t.watch.Lock("snapshots")
	return t, t.meter.init(t.env)
}

func orDefault[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// Usage is what is taken and free of a host.
type Usage struct {
	Host              string
	Capacity          Amount
	Reserved, Orphans Amount
	Used              Amount // Σ claims
	Free              Amount // limit − reserved − orphans − used; may be negative
	Running, InFlight int
	Enabled           bool
	Reason            string // why it is disabled
	Stale             bool   // the last audit could not read the host
	Generation        int64
	At                time.Time // of the last change
}

// arithmetic is what of Config the sums need.
type arithmetic struct {
	Ratios   map[string]float64
	Reserved Amount
}

func (t *Tracker) arithmetic() arithmetic { return arithmetic{t.cfg.Ratios, *t.cfg.Reserved} }

// bound is what claims on r may sum up to, each resource by limits or capacity × ratio.
func (a arithmetic) bound(r Record, limits map[string]int64) Amount {
	b := Amount{}
	for _, n := range names(r.Capacity, a.Reserved, r.Orphans, Amount{Extra: limits}) {
		limit, given := limits[n]
		if !given {
			limit = scaled(r.Capacity.Get(n), a.ratio(n))
		}
		if limit != Unlimited {
			limit -= a.Reserved.Get(n) + r.Orphans.Get(n)
		}
		b = b.set(n, limit)
	}
	return b
}

func (a arithmetic) ratio(name string) float64 {
	if x, ok := a.Ratios[name]; ok {
		return x
	}
	if name == VCPUs {
		return 4
	}
	return 1
}

func scaled(v int64, ratio float64) int64 {
	if ratio == 1 {
		return v
	}
	if x := float64(v) * ratio; x < maxAmount {
		return int64(x)
	}
	return maxAmount
}

func (a arithmetic) usage(r Record) Usage {
	return Usage{
		Host: r.Host, Capacity: r.Capacity, Reserved: a.Reserved, Orphans: r.Orphans,
		Used: r.Used, Free: a.bound(r, nil).Minus(r.Used),
		Running: r.Running, InFlight: r.InFlight, Enabled: r.Enabled, Reason: r.Reason,
		Generation: r.Generation, At: r.At,
	}
}
