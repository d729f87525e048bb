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
	turns, err := t.end(ctx, f.Moves, plain, out.Done)
	if err != nil {
		return out, fmt.Errorf("postgres: finish: %w", err)
	}
	if len(other) > 0 {
		ms := make([]job.Move, len(other))
		for k, i := range other {
			ms[k] = f.Moves[i]
		}
		done, more, err := t.move(ctx, ms)
		if err != nil {
			return out, fmt.Errorf("postgres: finish: %w", err)
		}
		for k, i := range other {
			out.Done[i] = done[k]
		}
		turns = append(turns, more...)
	}
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
		m.Progress == nil && m.Wakes == nil && m.Mark == 0 && m.Unmark == 0 && m.Priority == nil && m.Cancel == nil
}

// end runs sqlFinish for the moves named by plain.
func (t *tx) end(ctx context.Context, ms []job.Move, plain []int, done []bool) (turns []freed, err error) {
	if len(plain) == 0 {
		return nil, nil
	}
	n := len(plain)
	ids, epochs, states := make([]string, n), make([]int64, n), make([]int16, n)
	results, errs, tries := make([]*string, n), make([]*string, n), make([]*int64, n)
	for k, i := range plain {
		m := &ms[i]
		ids[k], epochs[k], states[k] = m.ID, m.Epoch, stateCodes[m.To]
		results[k], tries[k] = nullJSON(m.Result), nullInt(m.Attempt)
		if m.Error != nil {
			if errs[k], err = encode(m.Error); err != nil {
				return nil, err
			}
		}
	}
	ended := 0
	err = t.query(ctx, sqlFinish, func(scan func(...any) error) error {
		var f freed
		if err := scan(&f.key, &f.floor, &f.slow); err != nil {
			return err
		}
		if f.key == "" {
			ended = int(f.floor)
			return nil
		}
		turns = append(turns, f)
		return nil
	}, ids, epochs, states, results, errs, tries)
	if err != nil {
		return nil, err
	}
	left := map[string]int64{}
	if ended < n {
		if left, err = t.leftAt(ctx, ids); err != nil {
			return nil, err
		}
	}
	for k, i := range plain {
		done[i] = ended == n || left[ids[k]] == epochs[k]
	}
	return turns, nil
}

// sqlLeft: the epoch at which jobs left Running, if they did not start again; by drover_pend_seq and drover_done_pkey.
const sqlLeft = `
SELECT j.id::text, coalesce((SELECT d.epoch FROM @done d WHERE d.seq = j.seq), (SELECT p.epoch FROM @pend p WHERE p.seq = j.seq), 0)
FROM @job j WHERE j.id = ANY ($1::uuid[])`

func (t *tx) leftAt(ctx context.Context, ids []string) (map[string]int64, error) {
	left := map[string]int64{}
	err := t.query(ctx, sqlLeft, func(scan func(...any) error) error {
		var id string
		var epoch int64
		err := scan(&id, &epoch)
		left[id] = epoch
		return err
	}, ids)
	return left, err
}
