package hypervisor

import (
	"context"
	"time"
)

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

	// ForceComplete makes a move end that does not by itself: the guest is paused until its memory is there. Of one that is over it is nil.
	ForceComplete(ctx context.Context) error

	// Wait returns when the guest runs at the target, or does not go there. The end of ctx ends the waiting, not the move.
	Wait(ctx context.Context) error
}

// MigrateSpec says where to, and how. Only ToHost and Target are asked for by every driver; the rest is for those that copy memory.
type MigrateSpec struct {
	ToHost string // id of the target, as its Info tells
	Target Driver // connection to it
	Epoch  int64  // fencing token, see Driver.Start; recorded at both hosts

	To          string        // how the source reaches the target, by its own name for it; "" = as Target does
	TransferURI string        // where the memory goes, "" = the target's choice
	Bandwidth   int64         // MiB/s, 0 = no limit
	MaxDowntime time.Duration // default 500 ms, reached in ten steps
	Timeout     time.Duration // default 800 s for each GiB, and at least for two
	OnTimeout   OnTimeout     // default Abort
	PostCopy    bool          // may go on at the target before its memory is all there
}

// OnTimeout is what becomes of a move that takes too long.
type OnTimeout string

// What there is to do then. Force starts post-copy where that is allowed, else pauses the guest.
const (
	Abort OnTimeout = "abort"
	Force OnTimeout = "force"
)

// Progress of a Migration, in MiB.
type Progress struct{ Total, Remaining int64 }
