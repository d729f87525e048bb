package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
)

// freed is a turn given up in this transaction.
type freed struct {
	key   string
	floor int64 // the holder's place
	slow  bool  // of a special kind

	lender lender // whose turn it was, if somebody may borrow it
	slot   int64
}

// handOnTries is how often a hand-on comes back, after a millisecond each, to a head of a line that another transaction has locked.
// It never waits for that lock: its holder may wait for what this transaction has locked.
const handOnTries = 5

// handOn gives freed turns to the first in line; what start allows starts at once and is answered.
func (t *tx) handOn(ctx context.Context, turns []freed, start job.Claim) (started []job.Row, err error) {
	cl := &claiming{tx: t, Claim: start}
	for len(turns) > 0 { // the end of a borrower may free another turn
		if turns, err = cl.handOnTurns(ctx, turns); err != nil {
			return nil, err
		}
	}
	return cl.got, cl.extras(ctx, cl.got)
}

func (cl *claiming) handOnTurns(ctx context.Context, turns []freed) (more []freed, err error) {
	if turns, err = cl.bequeath(ctx, turns); err != nil {
		return nil, err
	}
	var keys, slow []string
	seen := map[string]bool{}
	for _, f := range turns {
		switch {
		case seen[f.key]:
			continue
		case f.slow:
			slow = append(slow, f.key)
		default:
			keys = append(keys, f.key)
		}
		seen[f.key] = true
	}
	for try := 0; len(keys) > 0; try++ {
		again, err := cl.handOnOnce(ctx, keys)
		if err != nil {
			return nil, err
		}
		if len(again) > 0 && try == handOnTries {
			if err := cl.lookAgain(ctx, again); err != nil {
				return nil, err
			}
			break
		}
		if len(again) > 0 {
			if err := cl.s.env.Sleep(ctx, time.Millisecond); err != nil {
				return nil, err
			}
		}
		keys = again
	}
	if len(slow) == 0 {
		return nil, nil
	}
	slices.Sort(slow)
	return cl.grantAndStart(ctx, slow)
}

func (cl *claiming) handOnOnce(ctx context.Context, keys []string) (again []string, err error) {
	s := cl.handOnStep(sqlHandOn, keys, &again)
	return again, cl.query(ctx, s.q, s.each, s.args...)
}

// handOnStep is one hand-on for cl; again gets the keys whose head is locked.
func (cl *claiming) handOnStep(q string, keys []string, again *[]string) step {
	names := cl.queues()
	free := make([]int64, len(names))
	for i, q := range names {
		free[i] = int64(cl.Free[q])
	}
	var queue string
	s := starter{session: cl.Session.Node, sessionEpoch: cl.Session.Epoch, withQueue: &queue}
	each := func(scan func(...any) error) error {
		if err := s.scan(scan); err != nil {
			return err
		}
		switch s.what {
		case 1:
			err := cl.add(&s)
			if !s.packed.Valid {
				cl.got[len(cl.got)-1].Rev++ // from waiting to ready, and on to running
			}
			return err
		case 2:
			cl.readied(queue, s.priority, s.runAt)
		case 3:
			*again = append(*again, s.key)
		}
		return nil
	}
	return step{q, each, []any{keys, cl.Session.Epoch, cl.Max - len(cl.got), list(cl.Kinds), list(names), free}}
}

// readied hints a queue that a job of it may be claimed.
func (t *tx) readied(queue string, priority int, runAt time.Time) {
	t.hint(hint{topic: job.QueueTopic(queue), pos: true, priority: priority, runAt: runAt.UTC()})
}
