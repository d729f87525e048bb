package hypervisor

import (
	"context"
	"slices"
	"time"
)

// Driver is one host. A bad or ended ctx gives the context's error and nothing is sent. Errors are *Error, whose class
// errors.Is finds.
type Driver interface {
	// Info describes the host. Its ID is the same after every restart of host or daemon.
	Info(ctx context.Context) (HostInfo, error)

	// List gives the VMs that match f, sorted by ID: all of them or an error.
	List(ctx context.Context, f Filter) ([]VM, error)

	// Get reads one VM, or gives ErrNotFound.
	Get(ctx context.Context, id string) (VM, error)

	// Define stores s and answers the VM as read back. The same ID again replaces the definition, valid from the next
	// start. A name held by another ID is ErrExists, naming the holder. See Spec.Validate for ErrInvalid.
	Define(ctx context.Context, s Spec) (VM, error)

	// Undefine forgets a VM that is Off or Crashed; of any other it is ErrState, of an unknown one nil. Disks are never
	// touched.
	Undefine(ctx context.Context, id string) error

	// Start runs a VM; one that is On already is nil. Paused (but for a start that was broken off, which is finished),
	// Stopping, Suspended, and Crashed with a process are ErrState. An epoch below the recorded one is ErrStaleEpoch, also
	// for a VM that is On; a higher one is recorded. Epoch 0 is accepted only while none is recorded.
	Start(ctx context.Context, id string, o StartOptions) error

	// Stop ends a VM; one that is Off, or unknown, is nil. See StopOptions.
	Stop(ctx context.Context, id string, o StopOptions) error
}

// Pauser freezes a guest and lets it go on. The goal already reached is nil; a VM that is Off is ErrState.
type Pauser interface {
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
}

// Rebooter restarts a guest. A VM that is Off is ErrState.
type Rebooter interface {
	Reboot(ctx context.Context, id string, o RebootOptions) error
}

// Resourcer tells what the host has and what of it is in use, in total and by VM.
type Resourcer interface {
	Resources(ctx context.Context) (Resources, error)
}

// Pinger makes one round trip to the host, never answered from a cache.
type Pinger interface {
	Ping(ctx context.Context) error
}

// VM is what a host says about one guest.
type VM struct {
	ID           string        // lower-case UUID
	Name         string        // unique on the host
	Power        Power         // Unknown if it could not be read
	Reason       string        // the driver's word for why, for people
	Incarnation  int64         // -1 without a process, else another number after every start
	Persistent   bool          // defined: it is still there when it is Off
	Autostart    bool          // started with the host
	Saved        bool          // Off, with its memory on disk
	VCPUs        int           // of the running guest, else of the definition
	MemoryMiB    int64         // now
	MaxMemoryMiB int64         // at most
	CPUTime      time.Duration // since its start
	Epoch        int64         // highest it was started with; 0 = none recorded
}

// HasProcess says whether the VM holds memory and disks on its host, whatever its power state is called.
func (v VM) HasProcess() bool { return v.Incarnation >= 0 }

// Spec describes a VM to define. Disks and NICs are attached in order.
type Spec struct {
	ID        string // lower-case UUID
	Name      string
	VCPU      int
	MemoryMiB int64
	Disks     []Disk
	NICs      []NIC
	Console   bool   // a serial console
	Agent     bool   // a channel for the agent inside the guest, see GuestPinger
	Epoch     int64  // of the job that defines it; 0 = none
	Raw       []byte // the driver's own description; wins over the rest except ID and Name
}

// Disk is an image file on the host.
type Disk struct {
	Path   string // absolute and clean, under one of Rules.DiskRoots
	Format string // raw or qcow2
	Bus    string // "" = the driver's default
}

// NIC is a port on a bridge of the host.
type NIC struct {
	Bridge string
	MAC    string
	Model  string // "" = the driver's default
}

// HostInfo describes a host.
type HostInfo struct {
	ID, Name, Driver, Arch, Version string
	CPUs                            int
	MemoryMiB                       int64
	Abilities                       []string // optional ones that work here, sorted
}

// Filter selects VMs; an empty list selects all.
type Filter struct {
	IDs, Names []string
	Power      []Power
}

// Matches says whether f selects vm.
func (f Filter) Matches(vm VM) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, vm.ID)) &&
		(len(f.Names) == 0 || slices.Contains(f.Names, vm.Name)) &&
		(len(f.Power) == 0 || slices.Contains(f.Power, vm.Power))
}

// StartOptions of Driver.Start.
type StartOptions struct {
	Epoch  int64 // fencing token: job.Token(ctx).Epoch
	Paused bool  // leave it at its first instruction
	Fresh  bool  // drop saved memory instead of restoring it
}

// Default as a Grace means 60 s.
const Default time.Duration = -1

// StopOptions of Driver.Stop. The zero value forces: the guest is destroyed, and seen Off, before Stop returns.
type StopOptions struct {
	Grace       time.Duration // > 0: ask the guest, again every 10 s, and force when Grace has passed
	NoForce     bool          // at the end of Grace ErrTimeout instead of force
	Incarnation int64         // != 0: only this one; if another one runs, nil and nothing is touched
	Epoch       int64         // != 0: fencing token; below the recorded one is ErrStaleEpoch
}

// RebootOptions of Rebooter.Reboot. The zero value resets the machine.
type RebootOptions struct {
	Soft  bool  // ask the guest first; after 120 s reset
	Epoch int64 // fencing token, see Driver.Start
}

// Resources of a host or, in PerVM, of one VM with a process.
type Resources struct {
	VCPUs, VCPUsUsed         int
	MemoryMiB, MemoryMiBUsed int64
	DiskMiB, DiskMiBUsed     int64
	PerVM                    map[string]Resources // by VM id
	Devices                  map[string][]string  // of the host: ids of what only one VM can have, by pool
}
