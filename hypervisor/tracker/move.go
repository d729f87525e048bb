package tracker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

// MoveRequest asks for room for a workload that is to move, or, with From = To, to change its size. ID makes it idempotent.
type MoveRequest struct {
	ID       string
	Workload string
	From, To string // hosts
	Amount   Amount // at To
	Devices  map[string]int
	Limits   map[string]int64
	Epoch    int64
	Owner    string
	TTL      time.Duration
}

// Move is the incoming row with To's usage after it.
type Move Claim

// ConfirmOptions of Confirm.
type ConfirmOptions struct {
	KeepSource bool // hold the old place or size for Revert; Confirm without it, or Release, gives it up
}

// ClaimMove reserves room at To. Until Confirm or Revert both sides are held; then exactly one, or both with KeepSource. It is
// refused as Claim is. A newer epoch replaces the workload's other move to the same host; an equal one is ErrMismatch.
func (t *Tracker) ClaimMove(ctx context.Context, m MoveRequest) (Move, error) {
	var row Row
	var rec Record
	err := t.write(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		row, rec, err = t.putMove(ctx, tx, m)
		return err
	})
	t.meter.count(ctx, t.meter.claims, err)
	if err != nil {
		return Move{}, err
	}
	t.publish(ctx, watchlock.Holder{Op: "move", Host: m.To, Claim: m.ID}, rec)
	return Move{row, t.arithmetic().usage(rec)}, nil
}

// ClaimMoveTx is ClaimMove in the caller's transaction.
func (t *Tracker) ClaimMoveTx(ctx context.Context, tx store.Tx, m MoveRequest) (Move, error) {
	if ctx.Err() != nil {
		return Move{}, context.Cause(ctx)
	}
	row, rec, err := t.putMove(ctx, tx, m)
	if err != nil {
		return Move{}, err
	}
	return Move{row, t.arithmetic().usage(rec)}, nil
}

func (t *Tracker) putMove(ctx context.Context, tx store.Tx, m MoveRequest) (Row, Record, error) {
	switch {
	case m.From == "" || len(m.From) > 255:
		return Row{}, Record{}, invalid("From", "must have 1 to 255 bytes")
	case m.To == "" || len(m.To) > 255:
		return Row{}, Record{}, invalid("To", "must have 1 to 255 bytes")
	}
	r := Request{ID: m.ID, Host: m.To, Workload: m.Workload, Amount: m.Amount, Devices: m.Devices, Limits: m.Limits, Epoch: m.Epoch,
		Owner: m.Owner, TTL: m.TTL, from: m.From}
	if err := r.validate(); err != nil {
		return Row{}, Record{}, err
	}
	if m.From == m.To {
		if err := t.resizable(ctx, tx, m); err != nil {
			return Row{}, Record{}, err
		}
	}
	return t.put(ctx, tx, r)
}

// resizable checks that the workload is there with another size.
func (t *Tracker) resizable(ctx context.Context, tx store.Tx, m MoveRequest) error {
	_, rows, err := t.cfg.Store.LoadHost(ctx, tx, m.From)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Workload == m.Workload && r.Role == Current && r.Counted() })
	switch {
	case i < 0:
		return fmt.Errorf("%w: %s on %s", ErrNotFound, m.Workload, m.From)
	case rows[i].ID != m.ID && rows[i].Amount.Equal(t.loaded(m.Amount)):
		return invalid("Amount", "From = To with the amount it has")
	}
	return nil
}

// Confirm makes a move's target the workload's place and lets the source go, in one transaction. Repeated it is nil.
// ErrExpired as for Commit; an unknown move is ErrNotFound.
func (t *Tracker) Confirm(ctx context.Context, id string, epoch int64, o ConfirmOptions) error {
	return t.settle(ctx, "confirm", confirm(id, epoch, o))
}

// ConfirmTx is Confirm in the caller's transaction.
func (t *Tracker) ConfirmTx(ctx context.Context, tx store.Tx, id string, epoch int64, o ConfirmOptions) error {
	return t.settleTx(ctx, tx, confirm(id, epoch, o))
}

// Revert gives the target of a move back, or, after a Confirm with KeepSource, makes the source the workload's place again. Of an
// unknown move it is nil; of one that was confirmed and has no way back ErrNotFound.
func (t *Tracker) Revert(ctx context.Context, id string, epoch int64) error {
	return t.settle(ctx, "revert", Settlement{ID: id, Epoch: epoch, End: Reverted})
}

// RevertTx is Revert in the caller's transaction.
func (t *Tracker) RevertTx(ctx context.Context, tx store.Tx, id string, epoch int64) error {
	return t.settleTx(ctx, tx, Settlement{ID: id, Epoch: epoch, End: Reverted})
}

func confirm(id string, epoch int64, o ConfirmOptions) Settlement {
	s := Settlement{ID: id, Epoch: epoch, End: Confirmed}
	if o.KeepSource {
		s.End = Kept
	}
	return s
}

func (s Settlement) validate() error {
	switch {
	case s.ID == "":
		return invalid("id", "is empty")
	case s.Epoch < 0:
		return invalid("epoch", "is negative")
	}
	return nil
}

func (t *Tracker) settle(ctx context.Context, op string, s Settlement) error {
	if err := s.validate(); err != nil {
		return err
	}
	var recs []Record
	err := t.write(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		_, recs, err = t.cfg.Store.Settle(ctx, tx, s)
		return err
	})
	if err == nil {
		t.publish(ctx, watchlock.Holder{Op: op, Claim: s.ID}, recs...)
	}
	return err
}

func (t *Tracker) settleTx(ctx context.Context, tx store.Tx, s Settlement) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.validate(); err != nil {
		return err
	}
	_, _, err := t.cfg.Store.Settle(ctx, tx, s)
	return err
}
