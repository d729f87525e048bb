package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// errOutside is what a function for handlers says to any other ctx.
var errOutside = fmt.Errorf("%w: not the context of a running job", ErrInvalid)

// FromContext is the job whose handler has ctx, as it was claimed; false outside a handler. Identity, Attempt, Runs and
// Wakes are in it.
func FromContext(ctx context.Context) (*Job, bool) {
	r := runOf(ctx)
	if r == nil {
		return nil, false
	}
	return r.row.public(), true
}

// Token fences what a handler does outside the store: agents and drivers refuse any lower (Store, Epoch) for the same thing.
// It is the same for all calls of one run, and higher for a later one. The zero Token outside a handler.
func Token(ctx context.Context) lease.Token {
	r := runOf(ctx)
	if r == nil {
		return lease.Token{}
	}
	t := *r.token
	t.Epoch = r.row.Epoch
	return t
}

// Attach sets the running job's Resource, 1 to 128 printable bytes, so that listing by resource finds it.
func Attach(ctx context.Context, resource string) error {
	if why := badName(resource); why != "" {
		return &FieldError{"Resource", why}
	}
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	return r.log(ctx, Entry{Resource: resource})
}

// ReleaseTurn gives the running job's turn to the next in line and goes on without; again is a no-op. A later retry waits
// at its old place. [ErrLost] when the claim is lost.
func ReleaseTurn(ctx context.Context) error {
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.released = true
	r.mu.Unlock()
	var done []bool
	err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		done, err = r.m.store.Move(ctx, tx, []Move{{ID: r.row.ID, From: Running, To: Running, Epoch: r.row.Epoch, Free: true}})
		return err
	})
	if err == nil && !done[0] {
		return r.fenced()
	}
	r.m.nudge()
	return err
}

// NoCancel is the point of no return: Cancel refuses the job from now on. [ErrCancelled] if a request came first, [ErrLost]
// when the claim is lost.
func NoCancel(ctx context.Context) error {
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	var row *Row
	if r.m.remote {
		return r.noCancelRemote(ctx)
	}
	err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		if err := r.m.store.Log(ctx, tx, []Entry{r.entry(Entry{Mark: NoReturn})}); err != nil {
			return err
		}
		if row, err = r.m.load(ctx, tx, r.row.ID); err == nil && !row.CancelAt.IsZero() {
			return ErrCancelled // rolls the mark back
		}
		return err
	})
	if errors.Is(err, ErrCancelled) && row != nil {
		r.requestCancel(row.CancelReason)
		return &cancelledError{row.CancelReason}
	}
	return r.refused(err)
}

// noCancelRemote looks first: that nothing has changed since is the store's to check.
func (r *run) noCancelRemote(ctx context.Context) error {
	var reason string
	err := r.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		row, err := r.m.load(ctx, tx, r.row.ID)
		if err != nil {
			return err
		}
		if !row.CancelAt.IsZero() {
			reason = row.CancelReason
			return ErrCancelled
		}
		return r.m.store.Log(ctx, tx, []Entry{r.entry(Entry{Mark: NoReturn})})
	})
	if errors.Is(err, ErrCancelled) {
		r.requestCancel(reason)
		return &cancelledError{reason}
	}
	return r.refused(err)
}

// handlerOf is the run whose handler has ctx and whose claim still holds as far as this node knows.
func handlerOf(ctx context.Context) (*run, error) {
	r := runOf(ctx)
	if r == nil {
		return nil, errOutside
	}
	r.alive()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.lost:
		return nil, r.lostCause()
	case r.ended:
		return nil, fmt.Errorf("%w: the handler has returned", ErrFinished)
	}
	return r, nil
}

func (r *run) lostCause() error {
	if cause := context.Cause(r.ctx); errors.Is(cause, ErrLost) {
		return cause
	}
	return ErrLost
}

// alive notes a sign of life.
func (r *run) alive() { r.beat.Store(int64(r.since(r.m.env.Clock.Now()))) }

// fenced notes that the store refused a write of this run.
func (r *run) fenced() error {
	r.m.meters.stale(r, "refused")
	r.lose(ErrLost)
	return ErrLost
}

// refused turns the store's refusal of a write into the end of this run.
func (r *run) refused(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return r.fenced()
	}
	return err
}

// inTx is a transaction for a handler: it does not end with the handler's ctx, so that what is left to say after a cancel, a
// deadline or a stop can still be said.
func (r *run) inTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	return r.m.inTx(context.WithoutCancel(ctx), fn)
}

func (r *run) entry(e Entry) Entry {
	e.JobID, e.Epoch, e.Node = r.row.ID, r.row.Epoch, r.m.env.Node
	return e
}

// log writes one entry of this run.
func (r *run) log(ctx context.Context, e Entry) error {
	return r.refused(r.m.writeLog(context.WithoutCancel(ctx), r.entry(e)))
}

// attrs are the logger's attributes of a run, and more.
func (r *run) attrs(more ...any) []any {
	return append([]any{"job", r.row.ID, "kind", r.row.Kind, "attempt", r.row.Attempt, "epoch", r.row.Epoch, "root", r.row.Root}, more...)
}

// since is how long the run has taken.
func (r *run) since(now time.Time) time.Duration { return now.Sub(r.began) }
