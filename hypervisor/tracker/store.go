package tracker

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/store"
)

// State of a row. Held and committed rows count; an expired one is kept for a while, in case its VM runs after all.
type State string

// The states; Gone is what a Change calls a deleted row.
const (
	Held      State = "held"
	Committed State = "committed"
	Expired   State = "expired"
	Gone      State = ""
)

// Role of a row.
type Role string

// The roles. At most one counted row exists per workload, host and role.
const (
	Current  Role = "current"  // the workload is here
	Incoming Role = "incoming" // target of a move, or the new size of a resize
	Outgoing Role = "outgoing" // old size or place of a move already made, kept for a way back
)

// Keep is how long an expired row is kept.
const Keep = 24 * time.Hour

// Row is a claim as stored.
type Row struct {
	ID       string // the caller's
	Host     string
	Workload string
	Role     Role
	From     string              // of a move: the host it comes from
	Amount   Amount              // overhead included
	Devices  map[string][]string `json:",omitempty"` // ids held, by pool
	State    State
	Epoch    int64 // highest that wrote it
	Owner    string
	Created  time.Time
	Expires  time.Time // of a held row
}

// Counted says whether the row takes room.
func (r Row) Counted() bool { return r.State == Held || r.State == Committed }

// Over says whether r is held and its time has passed.
func (r Row) Over(now time.Time) bool { return r.State == Held && r.Expires.Before(now) }

// Record is a host as stored.
type Record struct {
	Host       string
	Capacity   Amount
	Devices    map[string][]string `json:",omitempty"` // exclusive devices of the host, by pool, sorted
	Orphans    Amount              // of VMs without row, by the last audit
	Used       Amount              // Σ counted rows
	Running    int                 // committed current rows
	InFlight   int                 // the other counted ones
	Enabled    bool                // new claims are accepted
	Reason     string              // why not
	Seen       []string            // workloads whose held and expired rows must not be freed: their VM ran at the last audit; sorted
	Generation int64               // rises with every change of the host or its rows; 0 = not stored yet
	At         time.Time
}

// Put is a claim to make; see Store.PutClaim.
type Put struct {
	Row     Row            // ID, Host, Workload, Role, From, Amount, Epoch and Owner
	Devices map[string]int // how many are wanted, by pool
	Bound   Amount         // what the host's counted rows may sum up to
	TTL     time.Duration
}

// Change moves rows on; see Store.SetClaim.
type Change struct {
	ID             string // of the row; or else
	Host, Workload string // all counted rows of the workload on the host
	From           []State
	To             State
	Epoch          int64         // of the job; 0 = an audit: no check, the row's stays
	TTL            time.Duration // > 0: Expires = Now + TTL
	Late           bool          // also after Expires
	Generation     int64         // the host must have; 0 = any
}

// End is how a move is settled.
type End string

// The ends of a move.
const (
	Confirmed End = "confirmed" // it is made
	Kept      End = "kept"      // it is made, and the old place or size is held for a way back
	Reverted  End = "reverted"  // it is not, or is taken back
)

// Settlement ends a move; see Store.Settle.
type Settlement struct {
	ID    string // of the incoming row
	Epoch int64  // of the job; 0 = no check
	End   End
}

// Store keeps hosts and claims, in the caller's transaction.
//
// For all methods: tx of another store gives store.ErrForeign. Time is tx.Now() only. An error means that nothing was written.
// The tracker uses at most one writing method per transaction, after its reads.
type Store interface {
	// Hosts gives all records, sorted by host.
	Hosts(ctx context.Context, tx store.Tx) ([]Record, error)

	// LoadHost gives a record and all its rows, sorted by ID, or ErrNotFound.
	LoadHost(ctx context.Context, tx store.Tx, host string) (Record, []Row, error)

	// SaveHost stores r if the stored generation is r.Generation (0 = there is none), as the next generation and with
	// At = Now, and deletes the host's expired rows whose Expires is more than Keep ago. Else store.ErrConflict.
	SaveHost(ctx context.Context, tx store.Tx, r Record) (Record, error)

	// DeleteHost deletes a record of that generation with all its rows. No such host: ErrNotFound; another generation:
	// store.ErrConflict; a counted row, other than a held one that is over and whose workload is not in Seen: ErrInUse.
	DeleteHost(ctx context.Context, tx store.Tx, host string, generation int64) error

	// PutClaim inserts p.Row as held.
	// 1. A row with its ID: one with the same host, workload, From, amount and numbers of devices is answered, Epoch recorded if
	//    higher; if lower ErrStaleEpoch; another one is ErrMismatch. A held row that is over, and an expired one, is claimed anew.
	// 2. Host unknown: ErrNotFound; disabled: ErrDisabled with its reason.
	// 3. Held rows of the host with Expires before Now become expired, unless their workload is in Seen.
	// 4. A counted row of the same workload and role under another ID: replaced if Epoch is higher, else ErrMismatch naming it.
	// 5. For each resource Used + Amount <= Bound or Amount is 0, in the same statement or under the host's row lock; and the
	//    devices wanted are the lowest ids that no counted row of the host holds. Else *NoRoom. A sum that is no int64: ErrInvalid.
	// 6. Created = Now, Expires = Now + TTL. Used, counts and generation change in the same transaction.
	PutClaim(ctx context.Context, tx store.Tx, p Put) (Row, Record, error)

	// SetClaim moves rows on; the answer is the last of them.
	// 1. No such row: ErrNotFound. c.Epoch below the row's: ErrStaleEpoch; else it is recorded. Another generation than c's:
	//    store.ErrConflict.
	// 2. Already in To: the row as it is, but for TTL and Epoch.
	// 3. An expired row that is not in From, and a held one that is over, unless c.Late: ErrExpired. Any other that is not in
	//    From: ErrMismatch.
	// 4. Used, counts and generation change in the same transaction; Gone deletes the row.
	SetClaim(ctx context.Context, tx store.Tx, c Change) (Row, Record, error)

	// Settle ends a move: the row of that ID, and on its host and From the workload's others, in one transaction. It answers
	// the row and the records it changed, To's first.
	// 1. No such row: ErrNotFound, nothing and nil if Reverted. One without From: ErrMismatch. s.Epoch below that of a row it
	//    would change: ErrStaleEpoch; else it is recorded.
	// 2. Confirmed, Kept, of an incoming row: an expired one and a held one that is over are ErrExpired. It becomes the committed
	//    current one; the current row on From goes, or becomes the outgoing one if Kept; other current and outgoing ones go.
	// 3. Confirmed again: nothing, but that outgoing rows on From go. Kept again: nothing.
	// 4. Reverted: an incoming row goes; a current one goes if there is an outgoing row on From, which becomes current;
	//    else ErrNotFound.
	// 5. Used, counts and generations change in the same transaction. Both hosts' rows are locked in order of id.
	Settle(ctx context.Context, tx store.Tx, s Settlement) (Row, []Record, error)
}
