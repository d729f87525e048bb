package tracker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/drover-cloud/drover/store"
)

// Request asks for room. ID makes it idempotent: job id and step, say.
type Request struct {
	ID       string
	Host     string
	Workload string // the VM
	Amount   Amount
	Limits   map[string]int64 // by resource, instead of capacity × ratio
	Epoch    int64            // of the job: job.Token(ctx).Epoch
	Owner    string           // for people
	TTL      time.Duration    // default Config.TTL
}

// Claim is a row with the host's usage after it.
type Claim struct {
	Row
	Usage Usage
}

func (r Request) validate() error {
	switch {
	case r.ID == "" || len(r.ID) > 255:
		return invalid("ID", "must have 1 to 255 bytes")
	case r.Host == "" || len(r.Host) > 255:
		return invalid("Host", "must have 1 to 255 bytes")
	case r.Workload == "" || len(r.Workload) > 255:
		return invalid("Workload", "must have 1 to 255 bytes")
	case len(r.Owner) > 255:
		return invalid("Owner", "must have at most 255 bytes")
	case r.Epoch < 0:
		return invalid("Epoch", "is negative")
	case r.TTL < 0:
		return invalid("TTL", "is negative")
	}
	for _, n := range sortedKeys(r.Limits) {
		if r.Limits[n] < 0 {
			return invalid("Limits", n+" is negative")
		}
	}
	return r.Amount.validate("Amount")
}

// Claim reserves room until it is committed, aborted, or its TTL is over. The same ID again gives the same row, with a higher
// epoch recorded; see Store.PutClaim for what is refused: ErrNoRoom, ErrNotFound, ErrDisabled, ErrMismatch, ErrStaleEpoch.
// After an error of the context or the connection the row may be there: repeat with the same ID, or let it expire.
func (t *Tracker) Claim(ctx context.Context, r Request) (Claim, error) {
	var row Row
	var rec Record
	err := t.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		row, rec, err = t.claim(ctx, tx, r)
		return err
	})
	t.count(ctx, t.claims, err)
	if err != nil {
		return Claim{}, err
	}
	t.publish(rec)
	return Claim{row, t.arithmetic().usage(rec)}, nil
}

// ClaimTx is Claim in the caller's transaction. This node's snapshot learns of it later.
func (t *Tracker) ClaimTx(ctx context.Context, tx store.Tx, r Request) (Claim, error) {
	if ctx.Err() != nil {
		return Claim{}, context.Cause(ctx)
	}
	row, rec, err := t.claim(ctx, tx, r)
	if err != nil {
		return Claim{}, err
	}
	return Claim{row, t.arithmetic().usage(rec)}, nil
}

func (t *Tracker) claim(ctx context.Context, tx store.Tx, r Request) (row Row, rec Record, err error) {
	if err := r.validate(); err != nil {
		return row, rec, err
	}
	seen, ok := t.snapshot(r.Host)
	if !ok {
		if seen, _, err = t.cfg.Store.LoadHost(ctx, tx, r.Host); err != nil {
			return row, rec, err
		}
	}
	orDefault(&r.TTL, t.cfg.TTL)
	row = Row{
		ID: r.ID, Host: r.Host, Workload: r.Workload, Amount: t.loaded(r.Amount), Epoch: r.Epoch, Owner: r.Owner,
	}
	return t.cfg.Store.PutClaim(ctx, tx, row, t.arithmetic().bound(seen, r.Limits), r.TTL)
}

// Commit makes a held claim its workload's allocation. Repeated with the same epoch it is nil. ErrExpired means that the room
// may be somebody else's: do not go on.
func (t *Tracker) Commit(ctx context.Context, id string, epoch int64) error {
	return t.alone(ctx, commit(id, epoch))
}

// CommitTx is Commit in the caller's transaction.
func (t *Tracker) CommitTx(ctx context.Context, tx store.Tx, id string, epoch int64) error {
	return t.change(ctx, tx, commit(id, epoch))
}

// Abort gives a claim that was not committed back; of an unknown one it is nil.
func (t *Tracker) Abort(ctx context.Context, id string, epoch int64) error {
	return known(t.alone(ctx, abort(id, epoch)))
}

// AbortTx is Abort in the caller's transaction.
func (t *Tracker) AbortTx(ctx context.Context, tx store.Tx, id string, epoch int64) error {
	return known(t.change(ctx, tx, abort(id, epoch)))
}

// Renew lets a held claim live for another TTL from now.
func (t *Tracker) Renew(ctx context.Context, id string, epoch int64) error {
	return t.alone(ctx, t.renew(id, epoch))
}

// RenewTx is Renew in the caller's transaction.
func (t *Tracker) RenewTx(ctx context.Context, tx store.Tx, id string, epoch int64) error {
	return t.change(ctx, tx, t.renew(id, epoch))
}

// Release gives a workload's room on a host back, held or committed: it was deleted, or its host is confirmed fenced. Of an
// unknown one it is nil.
func (t *Tracker) Release(ctx context.Context, host, workload string, epoch int64) error {
	return known(t.alone(ctx, release(host, workload, epoch)))
}

// ReleaseTx is Release in the caller's transaction.
func (t *Tracker) ReleaseTx(ctx context.Context, tx store.Tx, host, workload string, epoch int64) error {
	return known(t.change(ctx, tx, release(host, workload, epoch)))
}

func commit(id string, epoch int64) Change {
	return Change{ID: id, From: []State{Held}, To: Committed, Epoch: epoch}
}

func abort(id string, epoch int64) Change {
	return Change{ID: id, From: []State{Held, Expired}, To: Gone, Epoch: epoch, Late: true}
}

func (t *Tracker) renew(id string, epoch int64) Change {
	return Change{ID: id, From: []State{Held}, To: Held, Epoch: epoch, TTL: t.cfg.TTL}
}

func release(host, workload string, epoch int64) Change {
	return Change{Host: host, Workload: workload, From: []State{Held, Committed}, To: Gone, Epoch: epoch, Late: true}
}

// known makes nil of ErrNotFound.
func known(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (c Change) validate() error {
	switch {
	case c.ID == "" && c.Host == "" && c.Workload == "":
		return invalid("id", "is empty")
	case c.ID == "" && c.Host == "":
		return invalid("host", "is empty")
	case c.ID == "" && c.Workload == "":
		return invalid("workload", "is empty")
	case c.Epoch < 0:
		return invalid("epoch", "is negative")
	}
	return nil
}

func (t *Tracker) change(ctx context.Context, tx store.Tx, c Change) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.validate(); err != nil {
		return err
	}
	_, _, err := t.cfg.Store.SetClaim(ctx, tx, c)
	return err
}

func (t *Tracker) alone(ctx context.Context, c Change) error {
	if err := c.validate(); err != nil {
		return err
	}
	var rec Record
	err := t.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		_, rec, err = t.cfg.Store.SetClaim(ctx, tx, c)
		return err
	})
	if err == nil {
		t.publish(rec)
	}
	return err
}

func (t *Tracker) inTx(ctx context.Context, f func(ctx context.Context, tx store.Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return t.cfg.Tx.InTx(ctx, f)
}

// Claims lists the rows of a host, sorted by ID.
func (t *Tracker) Claims(ctx context.Context, host string) (rows []Row, err error) {
	err = t.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		_, rows, err = t.cfg.Store.LoadHost(ctx, tx, host)
		return err
	})
	return rows, err
}

func (t *Tracker) count(ctx context.Context, c metric.Int64Counter, err error) {
	c.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result(err))))
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrNoRoom):
		return "no-room"
	case errors.Is(err, ErrInvalid):
		return "invalid"
	case errors.Is(err, ErrStaleEpoch):
		return "stale"
	}
	return "error"
}

// Disable refuses new claims on host; what is there goes on. reason is shown to who is refused.
func (t *Tracker) Disable(ctx context.Context, host, reason string) error {
	if reason == "" {
		return invalid("reason", "is empty")
	}
	return t.enable(ctx, host, false, reason)
}

// Enable ends Disable.
func (t *Tracker) Enable(ctx context.Context, host string) error {
	return t.enable(ctx, host, true, "")
}

func (t *Tracker) enable(ctx context.Context, host string, on bool, reason string) error {
	var saved Record
	err := t.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		r, _, err := t.cfg.Store.LoadHost(ctx, tx, host)
		if err != nil {
			return err
		}
		if saved = r; r.Enabled == on && r.Reason == reason {
			return nil
		}
		r.Enabled, r.Reason = on, reason
		saved, err = t.cfg.Store.SaveHost(ctx, tx, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("tracker: host %s: %w", host, err)
	}
	t.publish(saved)
	return nil
}
