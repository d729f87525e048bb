// Package hypervisor is the smallest useful view of a virtualization host.
// hypervisor/libvirt adapts libvirt; hypervisor/sim is a host in memory with faults.
package hypervisor

import (
	"context"
	"errors"
	"time"
)

type Power string

const (
	Unknown   Power = "" // never treated as Off
	On        Power = "on"
	Paused    Power = "paused"
	Stopping  Power = "stopping"
	Off       Power = "off"
	Crashed   Power = "crashed"
	Suspended Power = "suspended"
)

type Spec struct {
	ID, Name  string
	VCPU      int
	MemoryMiB int64
	Disks     []Disk
	NICs      []NIC
	Console   bool
	Epoch     int64
	Raw       []byte // driver's own description (domain XML); wins over the rest except ID and Name
}
type Disk struct{ Path, Format, Bus string }
type NIC struct{ Bridge, MAC, Model string }
type VM struct {
	ID, Name                string
	Power                   Power
	Reason                  string
	Incarnation             int64 // -1 off, else changes at every start
	Persistent, Autostart   bool
	Saved                   bool
	VCPUs                   int
	MemoryMiB, MaxMemoryMiB int64
	CPUTime                 time.Duration
	Epoch                   int64
}
type HostInfo struct {
	ID, Name, Driver, Arch, Version string
	CPUs                            int
	MemoryMiB                       int64
	Abilities                       []string
}
type Filter struct {
	IDs, Names []string
	Power      []Power
}
type StartOptions struct {
	Epoch         int64
	Paused, Fresh bool
}

// Default is StopOptions.Grace's 60s.
const Default time.Duration = -1

type StopOptions struct {
	Grace       time.Duration // 0 = force
	NoForce     bool
	Incarnation int64
	Epoch       int64
}

// Driver's methods are idempotent: starting a running VM is not an error.
type Driver interface {
	Info(ctx context.Context) (HostInfo, error)
	List(ctx context.Context, f Filter) ([]VM, error)
	Get(ctx context.Context, id string) (VM, error)
	Define(ctx context.Context, s Spec) (VM, error)
	Undefine(ctx context.Context, id string) error
	Start(ctx context.Context, id string, o StartOptions) error
	Stop(ctx context.Context, id string, o StopOptions) error
}

// Optional abilities, found by type assertion; also Pauser, Rebooter, Saver, Snapshotter, Statser, io.Closer.
type Migrator interface {
	Migrate(ctx context.Context, id string, s MigrateSpec) (Migration, error)
}
type Migration interface {
	Progress(ctx context.Context) (Progress, error)
	Abort(ctx context.Context) error
	ForceComplete(ctx context.Context) error
	Wait(ctx context.Context) error
}
type MigrateSpec struct {
	To, ToHost  string
	TransferURI string
	Epoch       int64
	Bandwidth   int64 // MiB/s
	MaxDowntime time.Duration
	Timeout     time.Duration
	PostCopy    bool
}
type Progress struct{ Total, Remaining int64 }
type Eventer interface {
	Events(ctx context.Context, f func(Event)) error
}
type Event struct {
	Seq    int64
	At     time.Time
	Kind   string
	VM     VM
	Detail string
}
type Resourcer interface {
	Resources(ctx context.Context) (Resources, error)
}
type Resources struct {
	VCPUs, VCPUsUsed                               int
	MemoryMiB, MemoryMiBUsed, DiskMiB, DiskMiBUsed int64
	PerVM                                          map[string]Resources
}
type Pinger interface {
	Ping(ctx context.Context) error
}

// Error classifies what a host answered; errors.Is finds the class.
type Error struct {
	Class        error
	Op, Host, VM string
	Code, Domain int
	Message      string
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Class }

var (
	ErrNotFound       = errors.New("hypervisor: no such vm or object")
	ErrExists         = errors.New("hypervisor: name or id taken")
	ErrState          = errors.New("hypervisor: not possible in this state")
	ErrBusy           = errors.New("hypervisor: vm busy") // retry later
	ErrTimeout        = errors.New("hypervisor: out of time")
	ErrAborted        = errors.New("hypervisor: aborted")
	ErrGone           = errors.New("hypervisor: host unreachable")
	ErrUnsupported    = errors.New("hypervisor: unsupported")
	ErrIncompatible   = errors.New("hypervisor: incompatible cpu")
	ErrInvalid        = errors.New("hypervisor: invalid")
	ErrDenied         = errors.New("hypervisor: denied")
	ErrMigration      = errors.New("hypervisor: migration failed")
	ErrNoResources    = errors.New("hypervisor: no resources")
	ErrInternal       = errors.New("hypervisor: internal")
	ErrOutcomeUnknown = errors.New("hypervisor: outcome unknown")
	ErrStaleEpoch     = errors.New("hypervisor: stale epoch")
	ErrClosed         = errors.New("hypervisor: closed")
	ErrWrongHost      = errors.New("hypervisor: wrong host")
	ErrTwoCopies      = errors.New("hypervisor: two copies")
)
