package servicegroup

import (
	"context"
	"time"
)

// Driver is a place where members are recorded. It is safe for concurrent use and may be shared by several Groups.
//
// For all methods: IDs are compared after [Fold], and any UTF-8 of 1 to 300 bytes is a fit ID. A call ends when its ctx does.
// A server that cannot answer is an error, [ErrUnavailable] or any other, never an empty answer. testkit/drivertest checks
// every obligation.
type Driver interface {
	// Join records m and answers it with what the driver knows better.
	// 1. Incarnation is higher than any this ID had in the last [Retain], and than m.Incarnation.
	// 2. An older record of the ID is replaced at once: its incarnation is fenced.
	// 3. The same m.Instance again, still recorded: nothing changes, the record as it is.
	// 4. Joined and Seen are now by the driver's clock; Beat is 1, or 0 where presence alone is the evidence.
	// 5. A banned ID is ErrFenced. A mark stays.
	Join(ctx context.Context, m Member) (Member, error)

	// Beat says that the incarnation m lives: Beat is one more, Seen is now; Health and Meta are m's.
	// 1. Nothing else changes, and nothing but Join and Beat ever changes Beat and Seen.
	// 2. Another incarnation has joined, or the ID is banned: ErrFenced. The record is gone or left: ErrGone. Nothing changes.
	Beat(ctx context.Context, m Member) error

	// Leave says that the incarnation m has gone in peace: Members answers it with State Down, Reason Left from now on.
	// 1. Another incarnation has joined, or the record is gone: nil, and nothing changes.
	Leave(ctx context.Context, m Member) error

	// Members answers all records of the group, all or none.
	// 1. Age is now minus Seen by one clock, the driver's; where only presence is known it is 0, or [Forever] when absent.
	// 2. Lapsed is set where the server itself has ended the session.
	// 3. Marked IDs that never joined are answered with Incarnation 0.
	// State and Reason are zero but for Leave's.
	Members(ctx context.Context, group string) ([]Member, error)
}

// Retain is for how long drivers keep the record of a member that is silent, unless their Config says otherwise: processes whose IDs
// are drawn anew with each start leave one each. When a member joins, at most once an hour and process, records of its group that are
// older are removed, but for those with a mark or a ban; an ID that comes back later begins anew.
const Retain = 7 * 24 * time.Hour

// Forever is the Age of a member that a driver knows to be absent but not since when.
const Forever = 1<<63 - 1

// Optional abilities of a Driver, found by type assertion.
type (
	// Watcher hints that the group may have changed. The channel coalesces; it is never closed before ctx ends.
	Watcher interface {
		Watch(ctx context.Context, group string) (<-chan struct{}, error)
	}

	// Marker keeps operators' marks. "" takes the mark away. It never touches Beat and Seen, and the ID need not have joined.
	Marker interface {
		Mark(ctx context.Context, group, id string, m Mark) error
	}

	// Forgetter removes a record, so that Members does not answer it any more. With ban the ID is refused from now on:
	// Beat and Join are ErrFenced; without, a ban is lifted. A record that is not there is no error. Incarnations rise on.
	Forgetter interface {
		Forget(ctx context.Context, group, id string, ban bool) error
	}
)
