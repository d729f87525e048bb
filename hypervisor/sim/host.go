package sim

import (
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
)

// Config of a simulated host. Only ID is required.
type Config struct {
	Env       drover.Env
	ID        string // lower-case UUID
	Name      string // default ID
	VCPUs     int    // default 16; shown, not enforced, as on a real host
	MemoryMiB int64  // default 65536; enforced at start
	DiskMiB   int64  // default 1048576; shown
	Times     Times
	Devices   map[string][]string // exclusive ones, by pool; shown
	Local     bool                // shown as the machine that asks, see hypervisor.Origin
	DiskRoots []string            // directories a Spec's disks may lie under; none: no disks
	State     State               // nil = in memory, gone with the process
}

// Times is how long the host takes; zero is the default, negative takes no time.
type Times struct {
	Define time.Duration // default 5ms
	Start  time.Duration // default 300ms; also a reset
	Stop   time.Duration // default 1.5s, from the guest's obedience or the force
	Reboot time.Duration // default 5s, of a guest that obeys

	Migrate time.Duration // default 2s, at the source

	Save, Restore    time.Duration // default 1.6s and 500ms
	Snapshot, Revert time.Duration // default 120ms and 1.9s
}

// Host is a simulated machine. Its verbs are faults; work goes through Open.
type Host struct {
	cfg Config

	keep  sync.Mutex
	state world // if cfg.State is nil

	mu      sync.Mutex    // inside keep
	down    chan struct{} // closed when daemon, powered or cut change
	daemon  daemon
	powered bool
	cut     map[string]bool // nodes that cannot reach the host
	wrongID string
	stolen  int64
	faults  []*Fault
	guests  map[string]Guest
	bmc     BMC
	world   *World // it belongs to; nil = none

	changes   int64 // of VMs, counted
	listeners []*listener
	lose      int  // so many events
	double    bool // events come twice
}

// New makes a host and opens a driver to it.
func New(cfg Config) (*Driver, error) {
	h, err := NewHost(cfg)
	if err != nil {
		return nil, err
	}
	return h.Open(cfg.Env), nil
}

// NewHost makes a host that is switched on. A bad field is a *hypervisor.FieldError.
func NewHost(cfg Config) (*Host, error) {
	if err := hypervisor.ValidID(cfg.ID); err != nil {
		return nil, err
	}
	switch {
	case cfg.VCPUs < 0:
		return nil, &hypervisor.FieldError{Field: "VCPUs", Reason: "is negative"}
	case cfg.MemoryMiB < 0:
		return nil, &hypervisor.FieldError{Field: "MemoryMiB", Reason: "is negative"}
	case cfg.DiskMiB < 0:
		return nil, &hypervisor.FieldError{Field: "DiskMiB", Reason: "is negative"}
	}
	cfg.Env = cfg.Env.Defaults()
	orDefault(&cfg.Name, cfg.ID)
	orDefault(&cfg.VCPUs, 16)
	orDefault(&cfg.MemoryMiB, 65536)
	orDefault(&cfg.DiskMiB, 1048576)
	orDefault(&cfg.Times.Define, 5*time.Millisecond)
	orDefault(&cfg.Times.Start, 300*time.Millisecond)
	orDefault(&cfg.Times.Stop, 1500*time.Millisecond)
	orDefault(&cfg.Times.Reboot, 5*time.Second)
	orDefault(&cfg.Times.Migrate, 2*time.Second)
	orDefault(&cfg.Times.Save, 1600*time.Millisecond)
	orDefault(&cfg.Times.Restore, 500*time.Millisecond)
	orDefault(&cfg.Times.Snapshot, 120*time.Millisecond)
	orDefault(&cfg.Times.Revert, 1900*time.Millisecond)
	h := &Host{
		cfg:     cfg,
		down:    make(chan struct{}),
		powered: true,
		cut:     map[string]bool{},
		guests:  map[string]Guest{},
	}
	h.bmc.init(h)
	return h, nil
}

func orDefault[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// Open connects a controller whose waiting goes by env's clock. Close ends it; the host goes on.
func (h *Host) Open(env drover.Env) *Driver {
	return &Driver{h: h, env: env.Defaults(), closed: make(chan struct{}), reads: make(chan struct{}, readsAtOnce),
		writes: make(chan struct{}, writesAtOnce), long: make(chan struct{}, longAtOnce)}
}
