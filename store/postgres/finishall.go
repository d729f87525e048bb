package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drover-cloud/drover/job"
)

// finishAll is Finish in one round trip, for a batch of plain ends whose turns the caller knows. false: nothing was written, it
// has to be done step by step.
func (t *tx) finishAll(ctx context.Context, f job.Finish, out *job.Finished) (ok bool, err error) {
	all, turns := make([]int, len(f.Moves)), make([]*string, len(f.Moves))
	var keys []string
	seen := map[string]bool{}
	for i, u := range f.Turns {
		all[i] = i
		k := keyText(u.Key)
		if k == "" {
			continue
		}
		if seen[k] || t.s.isSpecial(u.Key.Kind) {
			return false, nil
		}
		seen[k], turns[i] = true, &k
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		turns = nil
	}
	args, err := endArgs(f.Moves, all, turns)
	if err != nil {
		return false, fmt.Errorf("postgres: finish: %w", err)
	}
	steps := []step{{sqlFinishAll, nil, append(args, len(all))}}
	cl := &claiming{tx: t, Claim: f.Start}
	if len(keys) > 0 {
		q := sqlHandOnAll
		if cl.roomFor(len(keys)) {
			q = sqlHandOnRoomy
		}
		steps = append(steps, cl.handOnStep(q, keys, new([]string)))
	}
	switch err := t.pipe(ctx, steps...); {
	case errors.Is(err, errNoPipe) || onPurpose(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("postgres: finish: %w", err)
	}
	for i := range out.Done {
		out.Done[i] = true
	}
	out.Started = cl.got
	return true, cl.extras(ctx, cl.got)
}

// roomFor says that n jobs may start whichever of the queues with room they are of.
func (cl *claiming) roomFor(n int) bool {
	for _, free := range cl.Free {
		if free < n {
			return false
		}
	}
	return cl.Max >= n
}

// onPurpose tells the error of sqlFinishAll and sqlHandOnAll.
func onPurpose(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "22012" // division_by_zero
}

// noteSpecial remembers which kinds of keys had to go step by step, so that finishAll is not tried in vain. A hint.
func (s *Store) noteSpecial(turns []freed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range turns {
		if kind, _, _ := strings.Cut(f.key, keySep); f.slow {
			s.specials[kind] = true
		} else if len(s.specials) > 0 {
			delete(s.specials, kind)
		}
	}
}

func (s *Store) isSpecial(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.specials[kind]
}
