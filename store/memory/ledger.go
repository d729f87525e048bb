package memory

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// Ledger keeps the due times of periodic tasks.
func (s *Store) Ledger() lease.LedgerStore { return ledger{s} }

type ledger struct{ s *Store }

func (l ledger) Take(_ context.Context, x store.Tx, tok lease.Token, name string, at time.Time) (int64, time.Duration, error) {
	t, err := l.s.of(x)
	if err != nil {
		return 0, 0, err
	}
	if !l.s.sessionLive(tok.Epoch, t.now) || l.s.leases.sessions[tok.Epoch].Holder != tok {
		return 0, 0, store.ErrConflict
	}
	if wait := at.Sub(t.now) - time.Second; wait > 0 {
		return 0, wait, nil
	}
	at = at.Round(0).UTC().Truncate(time.Microsecond)
	next := &due{at: at, session: tok.Epoch, attempts: 1}
	if r := l.s.leases.ledger[name]; r != nil {
		c := at.Compare(r.at)
		switch live := !r.done && r.session != tok.Epoch && l.s.sessionLive(r.session, t.now); {
		case live && c == 0:
			return 0, l.s.leases.sessions[r.session].Until.Sub(t.now), nil
		case live, c < 0, c == 0 && r.done:
			return 0, 0, nil
		case c == 0 && r.attempts >= lease.Attempts:
			return -1, 0, nil
		case c == 0:
			next.attempts = r.attempts + 1
		}
	}
	next.epoch = t.nextEpoch()
	put(t, &l.s.leases.ledger, name, next)
	return next.epoch, 0, nil
}

func (l ledger) Done(_ context.Context, x store.Tx, name string, epoch int64, outcome string) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	r := l.s.leases.ledger[name]
	if r == nil || r.epoch != epoch {
		return store.ErrConflict
	}
	if !r.done {
		change(t, r, func(r *due) { r.done, r.outcome = true, outcome[:min(len(outcome), 1024)] })
	}
	return nil
}

func (l ledger) Last(_ context.Context, x store.Tx, name string) (time.Time, error) {
	if _, err := l.s.of(x); err != nil {
		return time.Time{}, err
	}
	if r := l.s.leases.ledger[name]; r != nil {
		return r.at, nil
	}
	return time.Time{}, nil
}
