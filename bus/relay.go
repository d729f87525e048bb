package bus

import (
	"context"
	"slices"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// relayer sends what is in the outbox; one in the cluster at a time. It is a drover.Stepper.
type relayer struct {
	b    *Bus
	name string
}

// relay runs the relayer, if there is an outbox and this node is to send.
func (b *Bus) relay() {
	if b.cfg.Outbox == nil || b.cfg.NoRelay {
		return
	}
	var wake <-chan struct{}
	stop := func() {}
	if b.cfg.Notify != nil {
		wake, stop = b.cfg.Notify.Wake(OutboxTopic)
	}
	b.spawn("bus/relay", func() {
		defer stop()
		select {
		case <-b.up:
		case <-b.ctx.Done():
		}
		if err := drover.Loop(b.ctx, b.env, wake, &relayer{b: b, name: b.node + "/" + itoa(int(b.inc))}); err != nil {
			b.log.Error("the relay has given up", "error", err)
		}
	})
}

// Step sends a batch.
func (r *relayer) Step(ctx context.Context) (time.Time, error) {
	now := r.b.env.Clock.Now()
	var c OutboxClaimed
	err := r.b.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		c, err = r.b.cfg.Outbox.Claim(ctx, tx, OutboxClaim{Relay: r.name, TTL: relayTTL, Max: relayBatch})
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	r.b.meters.outbox.pending.Store(c.Pending)
	r.b.meters.outbox.dead.Store(c.Dead)
	if len(c.Rows) == 0 {
		wait := relayPoll
		if c.Wait > 0 {
			wait = min(wait, c.Wait)
		}
		return now.Add(wait), nil
	}
	done, failed := r.send(ctx, c.Rows, now.Add(relayTTL/2))
	if len(done) > 0 || len(failed) > 0 {
		err = r.b.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			if err := r.b.cfg.Outbox.Done(ctx, tx, c.Epoch, done); err != nil || len(failed) == 0 {
				return err
			}
			return r.b.cfg.Outbox.Fail(ctx, tx, c.Epoch, failed)
		})
	}
	return now, err // and at once for more
}

// send sends rows in their order, until the claim may run out; a failed one holds back its own key only.
func (r *relayer) send(ctx context.Context, rows []Row, until time.Time) (done []string, failed []OutboxFailure) {
	var stuck []string
	for _, row := range rows {
		if ctx.Err() != nil || !r.b.env.Clock.Now().Before(until) {
			break
		}
		if slices.Contains(stuck, row.Order) {
			continue
		}
		err := r.one(ctx, row)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			done = append(done, row.ID)
			continue
		}
		stuck = append(stuck, row.Order)
		failed = append(failed, r.failure(row, err))
	}
	return done, failed
}

func (r *relayer) failure(row Row, err error) OutboxFailure {
	wait := retryMost
	if row.Tries < 9 {
		wait = min(retryFirst<<row.Tries, retryMost)
	}
	f := OutboxFailure{ID: row.ID, Text: cut(err.Error(), maxErrorText), Wait: wait}
	if age := r.b.env.Clock.Now().Sub(row.Added); age >= deadAfter && row.Tries > 0 {
		f.Dead = true
		r.b.log.Error("an outbox row is dead", "id", row.ID, "order", row.Order, "error", err)
	}
	return f
}

// one sends a row with the ID it was stored under.
func (r *relayer) one(ctx context.Context, row Row) error {
	m, err := unpack(row.Data)
	if err != nil {
		return err
	}
	deadline := r.b.env.Clock.Now().Add(relayTry)
	if m.Wire.Kind == KindEvent {
		if r.b.eventIDs.add(m.ID, r.b.env.Clock.Now()) {
			r.b.events.tell(eventOf(m))
		}
		if _, err = r.b.once(ctx, m, deadline); isAny(err, ErrNoRoute) {
			err = nil
		}
		return err
	}
	m.keep = r.b.cfg.Timeout
	_, err = r.b.routed(ctx, m, deadline)
	return err
}
