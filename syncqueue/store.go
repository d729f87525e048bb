package syncqueue

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/drover-cloud/drover/store"
)

// Policy belongs to the kind of key, not to callers.
type Policy struct {
	Limit  int // at once; 1 = strictly in order; 0 = unlimited
	Paused bool
}

// Inherit is the Limit of a stored policy that only pauses: a key has its kind's limit, a kind has 1.
const Inherit = -1

// Gap is between the places that two jobs, or items, draw one after another.
const Gap = 1 << 16

// PolicyRow is a stored policy: of a kind, or of one key of it. A key's own Limit beats its kind's; either may pause it.
type PolicyRow struct {
	Kind, ID string // ID "" = the kind
	Policy
}

// Item is one that holds a turn of a key or waits for it.
type Item struct {
	Seq      int64 // names it: a job's Seq
	Place    int64 // its position in the line
	Key      Key
	Content  string // a job id, or the host's own
	Holder   string // session that runs it, or ran it last; "" while waiting, and before its first run
	LentTo   string // Content of who borrows its turn just now
	Epoch    int64
	Enqueued time.Time // joined the line
	Since    time.Time // turn began; zero while waiting

	Held, Waiting int // of its key, with Filter.Keys; of its kind, with Filter.Kinds
}

// Filter selects items. With Key: those of this key. With Keys or Older: across keys, those of one Kind if that is set. With Kinds:
// counts of all kinds.
type Filter struct {
	Key   Key
	Kind  string
	Keys  bool          // one item per key that has a line, its first waiter, in order of key
	Kinds bool          // one item per kind that has a line or turns held, in order: Key.Kind, and Enqueued of the first that waits, zero = none
	Older time.Duration // waiters longer in the line than this, in order of key, behind the holders of their key
	After string        // Cursor of the last item seen; not with Older
	Limit int           // default and most 1000
}

func (f *Filter) check() error {
	if err := f.Key.Validate(); err != nil {
		return err
	}
	if f.Keys && f.After != "" {
		kind, id, _ := strings.Cut(f.After, "\n")
		if err := (Key{kind, id}).Validate(); err != nil {
			return err
		}
	}
	return (Key{Kind: f.Kind}).Validate()
}

// Cursor is where a list goes on behind this item, as Filter.After; keys says that it was a list of Keys.
func (i Item) Cursor(keys bool) string {
	if keys {
		return i.Key.Kind + "\n" + i.Key.ID
	}
	part := 'h'
	if i.Since.IsZero() {
		part = 'w'
	}
	return fmt.Sprintf("%c%d.%d", part, i.Place, i.Seq)
}

// ParseCursor is for stores: the position that Cursor(false) wrote. "" is before the first.
func ParseCursor(after string) (waiting bool, place, seq int64, err error) {
	if after == "" {
		return false, math.MinInt64, math.MinInt64, nil
	}
	var part rune
	if n, _ := fmt.Sscanf(after, "%c%d.%d", &part, &place, &seq); n != 3 || part != 'h' && part != 'w' {
		return false, 0, 0, fmt.Errorf("%w: cursor %q", ErrInvalid, after)
	}
	return part == 'w', place, seq, nil
}

// Move is what becomes of a waiter's place.
type Move struct {
	Seq    int64
	Before int64 // Seq of a waiter of the same key; 0 = to the end
	First  bool  // before all others
	Node   string
}

// Take asks for granted items, or for those of dead holders.
type Take struct {
	Holder string
	Max    int
	Dead   []string
}

// Store is what a store package offers to steer and look at the lines its jobs stand in; the turns themselves are
// taken inside job.Store.
type Store interface {
	// List finds items. See Filter. Of a key: holders first, by Place, then waiters by Place. Of a key without limit the
	// jobs that are ready, running or parked count as holders. A key never used has none.
	List(ctx context.Context, tx store.Tx, f Filter) ([]Item, error)

	// Enter puts an item, by Key and Content, under an id that begins with ItemID into the line of its key, as a job would be.
	Enter(ctx context.Context, tx store.Tx, id string, i Item) (Item, error)

	// Take gives at most t.Max items that were granted a turn and not taken to t.Holder, by Place, under a new epoch each; or, with
	// Dead, those that any of these holds.
	Take(ctx context.Context, tx store.Tx, t Take) ([]Item, error)

	// Release ends an item, waiting or taken, by Seq, Epoch and Content, and hands its turn on; back: it gives the turn up and waits at
	// its Place again, which may be the next to be granted. False: there is none such any more; nothing was done.
	Release(ctx context.Context, tx store.Tx, i Item, back bool) (bool, error)

	// Move gives a waiter another Place and answers it as it stands then. Holders of turns, and those that would be if their
	// key had a limit: store.ErrConflict. No waiter with that Seq, or Before is none of the same key: store.ErrNotFound.
	// Before itself: nothing changes. Nobody else's order changes, whatever places they get. The journal of a job that
	// moved says so, in the name of Node.
	Move(ctx context.Context, tx store.Tx, m Move) (Item, error)

	// Policy stores the given rows, removes those with Inherit that pause nothing, and answers all rows, sorted by kind, then id. In the same transaction:
	// a raised limit grants as many waiters as fit, per key in order of Place; a lowered one grants nothing until holders
	// are fewer; a pause grants nothing, and who has not started gives its turn back and waits at its Place; unlimited to n: live jobs of those keys that are ready, running or parked become holders; n to
	// unlimited: all waiters become ready, and nobody holds a turn. Hints for the queues of whatever became claimable.
	Policy(ctx context.Context, tx store.Tx, set []PolicyRow) ([]PolicyRow, error)

	// Audit looks on one snapshot for lines with a free turn that nobody will grant, holders that are final, and
	// keys with more holders than turns were granted; repairs at most max keys and says how many. Expected for ever: 0.
	Audit(ctx context.Context, tx store.Tx, max int) (repaired int, err error)
}
