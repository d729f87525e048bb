package hypervisor

import (
	"context"
	"time"
)

// Saver puts a guest's memory on disk; the next start restores it.
type Saver interface {
	// Save ends a VM that is On or Paused, with its memory on disk. One that is saved is nil; Off and transient ones are ErrState.
	Save(ctx context.Context, id string) error
	// DropSaved forgets the memory; that there is none is nil.
	DropSaved(ctx context.Context, id string) error
}

// Snapshotter keeps states of a VM with its disks. A VM without a disk may be ErrUnsupported.
type Snapshotter interface {
	// CreateSnapshot makes one; a name that is there is ErrExists.
	CreateSnapshot(ctx context.Context, id string, s SnapshotSpec) error
	// RevertSnapshot takes the VM back, to the power state it had. A snapshot that is unknown is ErrNotFound. The recorded epoch stays.
	RevertSnapshot(ctx context.Context, id, name string) error
	// DeleteSnapshot forgets one; a snapshot that is unknown is nil.
	DeleteSnapshot(ctx context.Context, id, name string) error
	// Snapshots lists them by Name.
	Snapshots(ctx context.Context, id string) ([]Snapshot, error)
}

// SnapshotSpec describes a snapshot to make.
type SnapshotSpec struct {
	Name        string // as a VM's name
	Description string
}

// Snapshot is one that is there.
type Snapshot struct {
	Name, Description string
	At                time.Time
	Power             Power // that RevertSnapshot goes back to
	Parent            string
}

// Validate checks s; otherwise *FieldError.
func (s SnapshotSpec) Validate() error {
	if err := ValidName(s.Name); err != nil {
		return err
	}
	if len(s.Description) > 1024 || containsControl(s.Description) {
		return &FieldError{"Description", "must be at most 1024 bytes without control characters"}
	}
	return nil
}
