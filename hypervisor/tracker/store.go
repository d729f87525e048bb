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

// Keep is how long an expired row is kept.
const Keep = 24 * time.Hour

// Row is a claim as stored. At most one counted row exists per (Workload, Host).
type Row struct {
	ID       string // the caller's
	Host     string
	Workload string
	Amount   Amount // overhead included
	State    State
	Epoch    int64 // highest that wrote it
	Owner    string
	Created  time.Time
	Expires  time.Time // of a held row
}

// Counted says whether the row takes room.
func (r Row) Counted() bool { return r.State == Held || r.State == Committed }

// Record is a host as stored.
type Record struct {
	Host       string
	Capacity   Amount
	Orphans    Amount   // of VMs without row, by the last audit
	Used       Amount   // Σ counted rows
	Running    int      // committed rows
	InFlight   int      // held rows
	Enabled    bool     // new claims are accepted
	Reason     string   // why not
	Seen       []string // workloads of held and expired rows whose VM ran at the last audit, sorted
	Generation int64    // rises with every change of the host or its rows; 0 = not stored yet
	At         time.Time
}

// Change moves one row on; see Store.SetClaim.
type Change struct {
	ID             string // the row's, or else:
	Host, Workload string
	From           []State
	To             State
	Epoch          int64         // of the job; 0 = an audit: no check, the row's stays
	TTL            time.Duration // > 0: Expires = Now + TTL
	Late           bool          // also after Expires
}

// Store keeps hosts and claims, in the caller's transaction.
//
// For all methods: tx of another store gives store.ErrForeign. Time is tx.Now() only. An error means that nothing was written.
// The tracker uses at most one writing method per transaction.
type Store interface {
	// Hosts gives all records, sorted by host.
	Hosts(ctx context.Context, tx store.Tx) ([]Record, error)

	// LoadHost gives a record and all its rows, sorted by ID, or ErrNotFound.
	LoadHost(ctx context.Context, tx store.Tx, host string) (Record, []Row, error)

	// SaveHost stores r if the stored generation is r.Generation (0 = there is none), as the next generation and with
	// At = Now, and deletes the host's expired rows whose Expires is more than Keep ago. Else store.ErrConflict.
	SaveHost(ctx context.Context, tx store.Tx, r Record) (Record, error)

	// PutClaim inserts r as held.
	// 1. A row with its ID: one with the same host, workload and amount is answered, r.Epoch recorded if higher; if lower
	//    ErrStaleEpoch; another one is ErrMismatch. A held row that is over, and an expired one, is claimed anew.
	// 2. Host unknown: ErrNotFound; disabled: ErrDisabled with its reason.
	// 3. Held rows of the host with Expires before Now become expired, unless their workload is in Seen.
	// 4. A counted row of the same workload under another ID: replaced if r.Epoch is higher, else ErrMismatch naming it.
	// 5. For each resource Used + r.Amount <= bound or r.Amount is 0, in the same statement or under the host's row lock;
	//    else *NoRoom.
	// 6. Created = Now, Expires = Now + ttl. Used, counts and generation change in the same transaction.
	PutClaim(ctx context.Context, tx store.Tx, r Row, bound Amount, ttl time.Duration) (Row, Record, error)

	// SetClaim moves a row on.
	// 1. No such row: ErrNotFound. c.Epoch below the row's: ErrStaleEpoch; else it is recorded.
	// 2. Already in To: the row as it is, but for TTL and Epoch.
	// 3. An expired row that is not in From, and a held one that is over, unless c.Late: ErrExpired. Any other that is not in
	//    From: ErrMismatch.
	// 4. Used, counts and generation change in the same transaction; Gone deletes the row.
	SetClaim(ctx context.Context, tx store.Tx, c Change) (Row, Record, error)
}
