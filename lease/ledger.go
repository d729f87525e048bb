package lease

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Ledger remembers due times, so that of all nodes one runs a periodic task for each. It satisfies periodic.Ledger.
// Safe for concurrent use.
type Ledger struct {
	s  *Session
	st LedgerStore
}

// NewLedger gives the ledger of s's store, in the name of s. st must be of the same store as s.
func NewLedger(s *Session, st LedgerStore) *Ledger { return &Ledger{s: s, st: st} }

// Take asks for the run of name that is due at that time. epoch > 0: it is ours, and epoch is its fencing token.
// wait > 0: ask again after it, since due is more than 1 s in the store's future, or another node is at it whose session would
// be over by then. epoch -1: it was given up after three attempts. Both 0: it is done, or another node is at another due time,
// or a later one was given out. After an error, also of Done, ask again, the same or a later due time: a run that is this
// session's is in nobody's way. [ErrLost]: the session is not open.
func (l *Ledger) Take(ctx context.Context, name string, due time.Time) (epoch int64, wait time.Duration, err error) {
	if err := checkName("name", name); err != nil {
		return 0, 0, err
	}
	inc := l.s.current()
	if inc == nil {
		return 0, 0, ErrLost
	}
	err = l.s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		epoch, wait, err = l.st.Take(ctx, tx, inc.token, name, due)
		return err
	})
	if err != nil {
		return 0, 0, l.s.over(err)
	}
	return epoch, wait, nil
}

// Held is the session's: closed when the runs taken are not trusted any more.
func (l *Ledger) Held() (<-chan struct{}, error) { return l.s.Held() }

// Done notes the end of the run that was taken under epoch. [store.ErrConflict], marked by drover.Permanent, and no change, if
// the run is another's now.
func (l *Ledger) Done(ctx context.Context, name string, epoch int64, outcome string) error {
	err := l.s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return l.st.Done(ctx, tx, name, epoch, outcome)
	})
	if errors.Is(err, store.ErrConflict) {
		err = drover.Permanent(err)
	}
	return err
}

// Last is the last due time of name that was given out, on any node; zero if none.
func (l *Ledger) Last(ctx context.Context, name string) (last time.Time, err error) {
	err = l.s.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		last, err = l.st.Last(ctx, tx, name)
		return err
	})
	return last, err
}
