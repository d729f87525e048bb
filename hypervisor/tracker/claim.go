package tracker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

// Request asks for room. ID makes it idempotent: job id and step, say.
type Request struct {
	ID       string
	Host     string
	Workload string // the VM
	Amount   Amount
	Devices  map[string]int   // how many exclusive devices, by pool
	Limits   map[string]int64 // by resource, instead of capacity × ratio
	Epoch    int64            // of the job: job.Token(ctx).Epoch
	Owner    string           // for people
	TTL      time.Duration    // default Config.TTL

	from string // of a move
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
	for _, pool := range sortedKeys(r.Devices) {
		if r.Devices[pool] < 0 {
			return invalid("Devices", pool+" is negative")
		}
	}
	return r.Amount.validate("Amount")
}

// Claim reserves room until it is committed, aborted, or its TTL is over. The same ID again gives the same row, with a higher
// epoch recorded; see Store.PutClaim for what is refused: ErrNoRoom, ErrNotFound, ErrDisabled, ErrMismatch, ErrStaleEpoch.
// An error that is hypervisor.ErrOutcomeUnknown means that the row may be there: repeat with the same ID, or let it expire.
func (t *Tracker) Claim(ctx context.Context, r Request) (c Claim, err error) {
	begun := t.env.Clock.Now()
	ctx, span := t.meter.tracer.Start(ctx, "tracker.claim", trace.WithAttributes(attribute.String("host", r.Host)))
	defer func() {
		span.SetAttributes(attribute.Int64("generation", c.Usage.Generation))
		span.End()
		t.meter.claimed(ctx, t.env.Clock.Now().Sub(begun), err)
	}()
	var row Row
	var rec Record
	err = t.write(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		row, rec, err = t.put(ctx, tx, r)
		return err
	})
	if err != nil {
		return Claim{}, err
	}
	t.publish(ctx, watchlock.Holder{Op: "claim", Host: r.Host, Claim: r.ID}, rec)
	return Claim{row, t.arithmetic().usage(rec)}, nil
}

// ClaimTx is Claim in the caller's transaction. This node's snapshot learns of it later.
func (t *Tracker) ClaimTx(ctx context.Context, tx store.Tx, r Request) (Claim, error) {
	if ctx.Err() != nil {
		return Claim{}, context.Cause(ctx)
	}
	row, rec, err := t.put(ctx, tx, r)
	if err != nil {
		return Claim{}, err
	}
	return Claim{row, t.arithmetic().usage(rec)}, nil
}

func (t *Tracker) put(ctx context.Context, tx store.Tx, r Request) (row Row, rec Record, err error) {
	if err := r.validate(); err != nil {
		return row, rec, err
	}
	amount := t.loaded(r.Amount)
	if err := amount.validate("Amount with overhead"); err != nil {
		return row, rec, err
	}
	if s, ok := t.snapshot(r.Host); ok {
		rec = s.Record
	} else if rec, _, err = t.cfg.Store.LoadHost(ctx, tx, r.Host); err != nil {
		return row, rec, err
	}
	orDefault(&r.TTL, t.cfg.TTL)
	row = Row{
		ID: r.ID, Host: r.Host, Workload: r.Workload, Role: Current, From: r.from, Amount: amount, Epoch: r.Epoch, Owner: r.Owner,
	}
	if r.from != "" {
		row.Role = Incoming
	}
	return t.cfg.Store.PutClaim(ctx, tx, Put{Row: row, Devices: r.Devices, Bound: t.arithmetic().bound(rec, r.Limits), TTL: r.TTL})
}

// Commit makes a held claim its workload's allocation. Repeated with the same epoch it is nil. ErrExpired means that the room
// may be somebody else's: do not go on.
func (t *Tracker) Commit(ctx context.Context, id string, epoch int64) error {
	return t.alone(ctx, "commit", commit(id, epoch))
}

// CommitTx is Commit in the caller's transaction.
func (t *Tracker) CommitTx(ctx context.Context, tx store.Tx, id string, epoch int64) error {
	return t.change(ctx, tx, commit(id, epoch))
}

// Abort gives a claim that was not committed back; of an unknown one it is nil.
func (t *Tracker) Abort(ctx context.Context, id string, epoch int64) error {
	return known(t.alone(ctx, "abort", abort(id, epoch)))
}

// AbortTx is Abort in the caller's transaction.
func (t *Tracker) AbortTx(ctx context.Context, tx store.Tx, id string, epoch int64) error {
	return known(t.change(ctx, tx, abort(id, epoch)))
}

// Renew lets a held claim live for another TTL from now.
func (t *Tracker) Renew(ctx context.Context, id string, epoch int64) error {
	return t.alone(ctx, "renew", t.renew(id, epoch))
}

// RenewTx is Renew in the caller's transaction.
func (t *Tracker) RenewTx(ctx context.Context, tx store.Tx, id string, epoch int64) error {
	return t.change(ctx, tx, t.renew(id, epoch))
}

// Release gives all that a workload holds on a host back: it was deleted, or its host is confirmed fenced. Of an unknown one it
// is nil.
func (t *Tracker) Release(ctx context.Context, host, workload string, epoch int64) error {
	return known(t.alone(ctx, "release", release(host, workload, epoch)))
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

// alone is a change in a transaction of its own.
func (t *Tracker) alone(ctx context.Context, op string, c Change) error {
	if err := c.validate(); err != nil {
		return err
	}
	var rec Record
	err := t.write(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		_, rec, err = t.cfg.Store.SetClaim(ctx, tx, c)
		return err
	})
	if err == nil {
		t.publish(ctx, watchlock.Holder{Op: op, Host: rec.Host, Claim: c.ID}, rec)
	}
	return err
}

// write runs f in a transaction. If that fails after f has done its part, it may have been committed.
func (t *Tracker) write(ctx context.Context, f func(ctx context.Context, tx store.Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := false
	err := t.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		done = false
		err := f(ctx, tx)
		done = err == nil
		return err
	})
	if err != nil && done && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("tracker: %w: %w", hypervisor.ErrOutcomeUnknown, err)
	}
	return err
}

// Claims lists the rows of a host, sorted by ID. An unknown host is ErrNotFound.
func (t *Tracker) Claims(ctx context.Context, host string) (rows []Row, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	err = t.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		_, rows, err = t.cfg.Store.LoadHost(ctx, tx, host)
		return err
	})
	return rows, err
}
