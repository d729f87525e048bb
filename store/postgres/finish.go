package postgres

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Finish is two statements for a batch of plain ends: end them and hand their turns on; the second's fresh snapshot sees
// every line as it is. Retries and the like go the way of Move.
func (j jobs) Finish(ctx context.Context, x store.Tx, f job.Finish) (out job.Finished, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	out.Done = make([]bool, len(f.Moves))
	var plain, other []int
	for i := range f.Moves {
		if isPlainEnd(&f.Moves[i]) {
			plain = append(plain, i)
		} else {
			other = append(other, i)
		}
	}
	if len(other) == 0 && len(plain) > 0 && len(f.Turns) == len(f.Moves) && t.single && t.q == nil {
		if ok, err := t.finishAll(ctx, f, &out); ok || err != nil {
			return out, err
		}
	}
	turns, awaited, err := t.end(ctx, f.Moves, plain, out.Done)
	if err != nil {
		return out, fmt.Errorf("postgres: finish: %w", err)
	}
	if len(other) > 0 {
		ms := make([]job.Move, len(other))
		for k, i := range other {
			ms[k] = f.Moves[i]
		}
		done, more, also, err := t.move(ctx, ms)
		if err != nil {
			return out, fmt.Errorf("postgres: finish: %w", err)
		}
		awaited = awaited || also
		for k, i := range other {
			out.Done[i] = done[k]
		}
		turns = append(turns, more...)
	}
	out.Awaited = awaited
	if len(turns) > 0 {
		if out.Started, err = t.handOn(ctx, turns, f.Start); err != nil {
			return out, fmt.Errorf("postgres: hand on: %w", err)
		}
	}
	return out, nil
}

// isPlainEnd: from running to final, with an outcome and nothing else.
func isPlainEnd(m *job.Move) bool {
	return m.From == job.Running && final(m.To) && isID(m.ID) && !m.Uncancelled && !m.Raise && m.RunAt.IsZero() && m.Lost == 0 && !m.ResetLost &&
		m.Progress == nil && m.Wakes == nil && m.Mark == 0 && m.Unmark == 0 && m.Priority == nil && m.Cancel == nil && m.Park == nil && len(m.Notes) == 0
}

// end runs sqlFinish for the moves named by plain. A row that was marked as awaited in that very moment may be left: then once
// more.
func (t *tx) end(ctx context.Context, ms []job.Move, plain []int, done []bool) (turns []freed, awaited bool, err error) {
	for len(plain) > 0 {
		freed, joined, ended, err := t.endOnce(ctx, ms, plain)
		if err != nil {
			return nil, false, err
		}
		turns, awaited = append(turns, freed...), awaited || joined
		var again []int
		if ended < len(plain) {
			if again, err = t.whatLeft(ctx, ms, plain, done); err != nil {
				return nil, false, err
			}
		} else {
			for _, i := range plain {
				done[i] = true
			}
		}
		plain = again
	}
	return turns, awaited, nil
}

func (t *tx) endOnce(ctx context.Context, ms []job.Move, plain []int) (turns []freed, awaited bool, ended int, err error) {
	args, err := endArgs(ms, plain, nil)
	if err != nil {
		return nil, false, 0, err
	}
	err = t.query(ctx, sqlFinish, func(scan func(...any) error) error {
		var f freed
		if err := scan(&f.key, &f.floor, &f.slow); err != nil {
			return err
		}
		if f.key == "" {
			ended, awaited = int(f.floor), f.slow
			return nil
		}
		err := f.heir()
		turns = append(turns, f)
		return err
	}, args...)
	t.s.noteSpecial(turns)
	return turns, awaited, ended, err
}

// endArgs are the arguments of sqlEnd.
func endArgs(ms []job.Move, plain []int, turns []*string) ([]any, error) {
	n := len(plain)
	ids, epochs, states := make([]uuid, n), make([]int64, n), make([]int16, n)
	results, errs, tries := make([]*string, n), make([]*string, n), make([]*int64, n)
	texts := make([]string, n)
	for k, i := range plain {
		m := &ms[i]
		ids[k], epochs[k], states[k], tries[k] = asUUID(m.ID), m.Epoch, stateCodes[m.To], nullInt(m.Attempt)
		if len(m.Result) > 0 {
			texts[k] = string(m.Result)
			results[k] = &texts[k]
		}
		if m.Error != nil {
			var err error
			if errs[k], err = encode(m.Error); err != nil {
				return nil, err
			}
		}
	}
	return []any{ids, epochs, states, results, errs, tries, turns}, nil
}

// whatLeft notes which of the moves are done, now or before, and answers those that still run at their epoch.
func (t *tx) whatLeft(ctx context.Context, ms []job.Move, plain []int, done []bool) (again []int, err error) {
	var ids []string
	for _, i := range plain {
		ids = append(ids, ms[i].ID)
	}
	left, err := t.leftAt(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, i := range plain {
		switch at := left[ms[i].ID]; {
		case at.running && at.epoch == ms[i].Epoch:
			again = append(again, i)
		default:
			done[i] = !at.running && at.epoch == ms[i].Epoch
		}
	}
	return again, nil
}

// sqlLeft: the epoch at which jobs left Running, if they did not start again, or at which they run; by drover_active_pkey,
// drover_pend_seq and drover_done_pkey.
const sqlLeft = `
SELECT j.id::text, coalesce(a.epoch, (SELECT d.epoch FROM @done d WHERE d.seq = j.seq), (SELECT p.epoch FROM @pend p WHERE p.seq = j.seq), 0), a.epoch IS NOT NULL
FROM @job j LEFT JOIN LATERAL (SELECT epoch FROM @active WHERE @active.id = j.id AND session IS NOT NULL OFFSET 0) a ON true WHERE j.id = ANY ($1::uuid[])`

type whereabouts struct {
	epoch   int64
	running bool
}

func (t *tx) leftAt(ctx context.Context, ids []string) (map[string]whereabouts, error) {
	left := map[string]whereabouts{}
	err := t.query(ctx, sqlLeft, func(scan func(...any) error) error {
		var id string
		var w whereabouts
		err := scan(&id, &w.epoch, &w.running)
		left[id] = w
		return err
	}, ids)
	return left, err
}
