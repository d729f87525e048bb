package hypervisor

import "context"

// Migrator moves a running guest to another host while it runs.
type Migrator interface {
	// Migrate begins to move a VM that is On; any other is ErrState. What an earlier call to the same target left half-way is
	// continued. The target needs room, or it is ErrNoResources there; an epoch below the recorded one is ErrStaleEpoch.
	Migrate(ctx context.Context, id string, s MigrateSpec) (Migration, error)
}

// Migration is a move under way. Its end is judged by where the guest runs: it is never at both hosts.
type Migration interface {
	// Progress tells how much there is to move.
	Progress(ctx context.Context) (Progress, error)

	// Abort stops the move: the guest stays where it is, and Wait gives ErrAborted. Of one that is over it is nil.
	Abort(ctx context.Context) error

	// Wait returns when the guest runs at the target, or does not go there. The end of ctx ends the waiting, not the move.
	Wait(ctx context.Context) error
}

// MigrateSpec says where to.
type MigrateSpec struct {
	ToHost string // id of the target, as its Info tells
	Target Driver // connection to it
	Epoch  int64  // fencing token, see Driver.Start; recorded at both hosts
}

// Progress of a Migration, in MiB.
type Progress struct{ Total, Remaining int64 }
