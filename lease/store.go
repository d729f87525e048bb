package lease

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/store"
)

// Topic is the topic of hints about a named lease: it may be free.
func Topic(name string) string { return "lease/" + name }

// Keep is how long a dead session's row is kept after it was marked.
const Keep = time.Hour

// Attempts is how often one due time of the ledger is given out.
const Attempts = 3

// State of a session, or of the holder of a named lease.
const (
	Active   = "active"
	Draining = "draining"
	Dead     = "dead" // over, replaced or closed
)

// Info is a row as it is seen: a session (Name = node) or a named lease.
type Info struct {
	Name          string
	Named         bool
	Holder        Token     // the session's token; of a named lease: node and incarnation of the holder, epoch of the lease
	State         string    // Active, Draining, Dead; of a named lease its holder's
	Until         time.Time // by the store's clock; of a named lease its holder's
	Closed        bool      // of a dead session: closed, or followed by the next of its name; it did not run out
	Kinds, Queues []string  // what the session works on; nil of a named lease
}

// Store keeps sessions and named leases, in the caller's transaction.
//
// For all methods: tx of another store gives [store.ErrForeign]. Time is tx.Now() only. Epochs come from one counter per
// store, shared with jobs and the ledger: rising, never reused, also after rows are deleted, nor after a rollback if
// anybody can have seen them. An error means that nothing was written.
//
// A session is a row of its own, named across the store by its Token.Epoch. It is live while it is not marked dead, Until is
// after Now, and its Token.Store is the store's present one; a named lease is held while its holder is live.
type Store interface {
	// Open starts a session for i.Name with i.State, i.Kinds, i.Queues and answers its token.
	// 1. Epoch is the next one; Incarnation is above that of every kept row of the name and above i.Holder's; Store is the
	//    store's present incarnation, "<database id>.<n>"; Until = Now + ttl.
	// 2. An older live session of the name is marked dead at once. Its named leases stay its own until acquired.
	// 3. If i.Holder is set (the session this process had) and a session of the name with a higher epoch and another
	//    process is kept: *HeldError with its token. This process was replaced.
	// 4. process tells this process from another of the same name and is stored with the row.
	Open(ctx context.Context, tx store.Tx, i Info, process string, ttl time.Duration) (Token, error)

	// Renew sets Until = Now + ttl and stores i.State, i.Kinds, i.Queues, as one update of one row.
	// 1. Guard: the session with t's name, incarnation, epoch and store is live. Else store.ErrConflict.
	// 2. But if a session of the name with a higher incarnation is kept: *HeldError with its token.
	Renew(ctx context.Context, tx store.Tx, t Token, i Info, ttl time.Duration) error

	// Close marks the session dead.
	// 1. Its named leases are free, with a hint on Topic of each.
	// 2. Of a session that is dead, over or gone: nothing to do, nil.
	Close(ctx context.Context, tx store.Tx, t Token) error

	// Sweep marks at most max sessions dead that are over and answers the tokens of all dead rows kept, by epoch.
	// 1. The update that marks one re-checks that it is over; rows locked by another sweeper are skipped.
	// 2. The named leases of one marked get a hint on their Topic.
	// 3. Rows marked dead at least Keep ago are removed, with the named leases they held, except those that a running
	//    job of this store still refers to.
	// 4. With nothing to mark or remove it writes nothing.
	Sweep(ctx context.Context, tx store.Tx, max int) ([]Token, error)

	// List answers all rows kept: sessions by name and incarnation, then named leases by name. A session is Closed that was
	// marked dead before Until.
	List(ctx context.Context, tx store.Tx) ([]Info, error)

	// Acquire gives t's session the named lease with the next epoch and answers its token.
	// 1. Guard: t's session is live. Else store.ErrConflict.
	// 2. Held by t's own session already: the token it has, no new epoch, nothing written.
	// 3. Held by another live session: *HeldError with the lease's token, at once.
	// 4. Of several at once one gets it; the others wait for that transaction at most, then 3 holds for them.
	Acquire(ctx context.Context, tx store.Tx, t Token, name string) (Token, error)

	// Release frees the lease whose token is t, with a hint on Topic(name). If it is not held under that epoch any more
	// by a session that is live: store.ErrConflict.
	Release(ctx context.Context, tx store.Tx, t Token, name string) error
}

// LedgerStore keeps a row per periodic task: the last due time given out, to which session, under which epoch, the how
// manieth time, and whether it is done. Each method is one compare-and-set. The general terms of [Store] hold.
type LedgerStore interface {
	// Take gives due to t's session if it is to be had; the epoch is not above 0 if not.
	// 1. Guard: t's session is live. Else store.ErrConflict.
	// 2. due more than 1 s after Now: wait is what is missing until then, and nothing else is looked at.
	// 3. An unfinished run of that name belongs to another live session: no. If it is of that due, wait is what is missing
	//    until that session would be over, when it may be had; else 0. One of t's own session is in nobody's way: it did
	//    not hear that it got it, or could not say that it is done, and would hold up all nodes for as long as it lives.
	// 4. due is later than the last one, or there is none: yes; the next epoch, first attempt.
	// 5. due is the last one, unfinished, and was given out less than Attempts times: yes; next epoch, next attempt.
	// 6. due is the last one, unfinished, and was given out Attempts times: it is given up, the epoch is -1.
	// 7. Else no: it is done, or a later one was given out.
	Take(ctx context.Context, tx store.Tx, t Token, name string, due time.Time) (epoch int64, wait time.Duration, err error)

	// Done marks the run of that epoch done with outcome (at most 1 KiB kept). Done already under that epoch: nil, and the
	// first outcome stays. Any other epoch: store.ErrConflict.
	Done(ctx context.Context, tx store.Tx, name string, epoch int64, outcome string) error

	// Last is the last due time given out, done or not; the zero time if there is none.
	Last(ctx context.Context, tx store.Tx, name string) (time.Time, error)
}
