package bus

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/store"
)

// Row is an event or a cast that waits in an outbox.
type Row struct {
	// ID is that of the message, Order the key within which rows leave in the order of Seq, Data the bus's.
	ID, Order string
	Data      []byte

	// Set by the store.
	Seq   int64     // rises with every row
	Added time.Time // store time
	Tries int       // failed ones
	Due   time.Time // of the next try after a failure; zero: at once
	Text  string    // of the last failure
	Dead  bool      // given up: kept for 7 days
}

// Outbox is kept by each store (db.Outbox()). Every method takes the caller's transaction, gives store.ErrForeign for one of
// another store, and times are the store's.
type Outbox interface {
	// Add (W) appends rows in this order. A row whose ID is there already is left out.
	Add(ctx context.Context, tx store.Tx, rows []Row) error
	// Claim (X) makes c.Relay the relay for c.TTL more, or says who is.
	//  1. With nothing to send, it claims and writes nothing.
	//  2. While another relay's claim lasts, no rows: Wait is how long that is at most.
	//  3. A new relay gets a higher epoch than all before; one that renews keeps its own, and may renew in the second half of
	//     the TTL only.
	//  4. At most c.Max rows in order of Seq, leaving out dead ones, and whole keys of Order of which a row waits for a time
	//     to come. Wait is then the shortest of those, if there are no rows.
	//  5. It deletes at most 100 rows that have been dead for 7 days.
	Claim(ctx context.Context, tx store.Tx, c OutboxClaim) (OutboxClaimed, error)
	// Done (W) deletes rows that were sent. Ids that are not there are fine; an epoch that is not the last one is
	// store.ErrConflict.
	Done(ctx context.Context, tx store.Tx, epoch int64, ids []string) error
	// Fail (W) notes failures: the row is tried again after Wait, or is dead. The epoch as for Done; 0 is an operator's, who
	// revives dead rows: Wait 0, Dead false.
	Fail(ctx context.Context, tx store.Tx, epoch int64, fs []OutboxFailure) error
	// List (R) gives at most limit rows behind Seq after, in order of it: dead ones, or all others.
	List(ctx context.Context, tx store.Tx, dead bool, after int64, limit int) ([]Row, error)
}

// OutboxClaim asks for rows to send.
type OutboxClaim struct {
	Relay string
	TTL   time.Duration
	Max   int
}

// OutboxClaimed is the answer. Pending is how many rows wait, at most: a store may count the Seqs from the first to the last.
type OutboxClaimed struct {
	Epoch         int64
	Rows          []Row
	Wait          time.Duration
	Pending, Dead int64
}

// OutboxFailure is a row that could not be sent. An operator's revival adds no try.
type OutboxFailure struct {
	ID, Text string
	Wait     time.Duration
	Dead     bool
}

const (
	// OutboxTopic is the hint that a row was added.
	OutboxTopic = "drover.outbox"
	// DeadFor is how long dead rows are kept.
	DeadFor    = 7 * 24 * time.Hour
	deadAfter  = 24 * time.Hour
	relayTTL   = 10 * time.Second
	relayPoll  = time.Second
	relayBatch = 100
	relayTry   = 10 * time.Second // bound of one send
	retryFirst = time.Second
	retryMost  = 5 * time.Minute
)

// CastTx stores m in the outbox of tx: it is sent after commit, at least once, in order of topic and key. No route counts as a
// failure, and is tried again.
func (b *Bus) CastTx(ctx context.Context, tx store.Tx, m *Message) error {
	switch {
	case b.err != nil:
		return b.err
	case m == nil || tx == nil:
		return invalid("CastTx without message or transaction")
	}
	m = b.outgoing(m, KindCast)
	if err := b.checkSend(m, &callOptions{}); err != nil {
		return err
	}
	if err := b.enrich(ctx, m); err != nil {
		return err
	}
	return b.store(ctx, tx, m, m.Topic+"/"+m.Key)
}

func (b *Bus) store(ctx context.Context, tx store.Tx, m *Message, order string) error {
	if b.cfg.Outbox == nil {
		return invalid("a transaction needs Config.Outbox")
	}
	data, err := pack(m)
	if err != nil {
		return invalid("%v", err)
	}
	if err := b.cfg.Outbox.Add(ctx, tx, []Row{{ID: m.ID, Order: order, Data: data}}); err != nil {
		return err
	}
	tx.Hint(OutboxTopic)
	return nil
}

// SubjectOf is the subject of the event that r holds; a row with a cast is ErrInvalid.
func SubjectOf(r Row) (string, error) {
	m, err := unpack(r.Data)
	if err != nil {
		return "", err
	}
	if m.Wire.Kind != KindEvent {
		return "", invalid("a cast has no subject")
	}
	return m.Topic, nil
}

// OutboxRows lists rows of the outbox behind Seq after, at most limit: dead ones, or those that wait.
func (b *Bus) OutboxRows(ctx context.Context, dead bool, after int64, limit int) (rows []Row, err error) {
	if b.cfg.Outbox == nil {
		return nil, invalid("no Config.Outbox")
	}
	err = b.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		rows, err = b.cfg.Outbox.List(ctx, tx, dead, after, limit)
		return err
	})
	return rows, err
}

// Redo makes a dead row one that is sent.
func (b *Bus) Redo(ctx context.Context, id string) error {
	if b.cfg.Outbox == nil {
		return invalid("no Config.Outbox")
	}
	return b.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := b.cfg.Outbox.Fail(ctx, tx, 0, []OutboxFailure{{ID: id}}); err != nil {
			return err
		}
		tx.Hint(OutboxTopic)
		return nil
	})
}
