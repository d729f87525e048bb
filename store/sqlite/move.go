package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Move applies transitions; see job.Store.
func (j jobs) Move(ctx context.Context, x store.Tx, ms []job.Move) ([]bool, error) {
	t, err := j.s.of(x)
	if err != nil {
		return nil, err
	}
	done, gs, _, err := t.move(ctx, ms)
	if err != nil {
		return nil, err
	}
	t.hintQueues(gs)
	return done, nil
}

// Finish moves jobs and starts those that got their turns; see job.Finisher.
func (j jobs) Finish(ctx context.Context, x store.Tx, f job.Finish) (out job.Finished, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	for _, m := range f.Moves {
		if m.From != job.Running {
			return out, fmt.Errorf("sqlite: finish of %s from %q", m.ID, m.From)
		}
	}
	if f.Start.Max > 0 { // the moves are guarded by epoch alone
		switch err := t.alive(ctx, f.Start.Session); {
		case errors.Is(err, store.ErrConflict):
			f.Start.Max = 0
		case err != nil:
			return out, err
		}
	}
	done, gs, awaited, err := t.move(ctx, f.Moves)
	if err != nil {
		return out, err
	}
	out.Done, out.Awaited = done, awaited
	if f.Start.Max > 0 {
		on, err := t.settings(ctx)
		if err != nil {
			return out, err
		}
		f.Start = startable(f.Start, on)
	}
	free := left(f.Start.Free, nil)
	kinds := map[string]bool{}
	for _, k := range f.Start.Kinds {
		kinds[k] = true
	}
	var seqs []int64
	for _, g := range gs {
		if len(seqs) < f.Start.Max && free[g.queue] > 0 && kinds[g.kind] {
			seqs = append(seqs, g.seq)
			free[g.queue]--
			continue
		}
		t.Hint(job.QueueTopic(g.queue))
	}
	out.Started, err = t.start(ctx, f.Start.Session, seqs)
	return out, err
}

// standing is what a transition needs to know of its job.
type standing struct {
	seq, epoch int64
	state      job.State
	queue      string
	key        syncqueue.Key
	line       sql.NullInt64
	place      int64
	cancelled  bool
	joined     bool // its line
	awaited    bool // somebody waits for its end
	flags      job.Flag
	id, lender string
	lends      bool // others borrow its turn
}

func final(s job.State) bool { return s == job.Succeeded || s == job.Failed || s == job.Cancelled }

func (t *tx) standings(ctx context.Context, ids []string) (map[string]standing, error) {
	all := make(map[string]standing, len(ids))
	err := t.each(ctx, `SELECT id, seq, epoch, state, queue, key_kind, key_id, line, place, cancel_at IS NOT NULL, joined IS NOT NULL, flags,
		EXISTS (SELECT 1 FROM drover_join g WHERE g.target = drover_job.id), lender, `+borrowed+` FROM drover_job WHERE id IN (SELECT value FROM json_each(?))`, []any{array(ids)}, func(scan func(...any) error) error {
		var id string
		var s standing
		var kind, key sql.NullString
		err := scan(&id, &s.seq, &s.epoch, &s.state, &s.queue, &kind, &key, &s.line, &s.place, &s.cancelled, &s.joined, &s.flags, &s.awaited, &s.lender, &s.lends)
		s.key = syncqueue.Key{Kind: kind.String, ID: key.String}
		s.id = id
		all[id] = s
		return err
	})
	return all, err
}

// move applies each transition whose guard holds, then hands on the turns that became free. awaited says that somebody has
// joined what is final now.
func (t *tx) move(ctx context.Context, ms []job.Move) (done []bool, gs []granted, awaited bool, err error) {
	if len(ms) == 0 {
		return nil, nil, false, nil
	}
	ids := make([]string, len(ms))
	for i, m := range ms {
		if err := allowed(m); err != nil {
			return nil, nil, false, err
		}
		ids[i] = m.ID
	}
	at, err := t.standings(ctx, ids)
	if err != nil {
		return nil, nil, false, err
	}
	done = make([]bool, len(ms))
	var freed []syncqueue.Key
	var lenders []string
	joins := slices.ContainsFunc(ms, func(m job.Move) bool { return m.Park != nil }) // perhaps one that ends right here
	for i, m := range ms {
		s, ok := at[m.ID]
		if !ok {
			continue
		}
		if s.state != m.From || s.epoch != m.Epoch || m.Uncancelled && s.cancelled {
			// Repeated after a commit whose answer was lost: it left Running at this very epoch.
			done[i] = m.From == job.Running && m.To != job.Running && s.state != job.Running && s.epoch == m.Epoch && m.Epoch != 0
			continue
		}
		free, err := t.shift(ctx, s, m)
		if err != nil {
			return nil, nil, false, err
		}
		done[i] = true
		awaited = awaited || final(m.To) && (s.awaited || joins)
		if free {
			freed = append(freed, s.key)
		}
		if s.lends {
			lenders = append(lenders, s.id)
		}
		if s.lender != "" {
			lenders = append(lenders, s.lender)
		}
	}
	if gs, err = t.grantAll(ctx, freed); err != nil || len(lenders) == 0 {
		return done, gs, awaited, err
	}
	more, err := t.lend(ctx, lenders)
	return done, append(gs, more...), awaited, err
}

// allowed refuses what no caller may ask for, whatever the row's state.
func allowed(m job.Move) error {
	ok := true
	switch {
	case m.Park != nil && m.To != job.Parked:
		ok = false
	case m.To == "":
		ok = final(m.From)
	case final(m.From):
		ok = false
	case m.To == m.From:
	case m.To == job.Running, m.To == job.Waiting:
		ok = false
	case m.To == job.Ready:
		ok = m.From != job.Waiting
	}
	if !ok {
		return fmt.Errorf("sqlite: no move of %s from %q to %q", m.ID, m.From, m.To)
	}
	return nil
}

// shift applies one transition and says whether a turn became free.
func (t *tx) shift(ctx context.Context, s standing, m job.Move) (freed bool, err error) {
	if m.To == "" {
		return false, t.remove(ctx, s.seq)
	}
	u := update{}
	if err := t.fields(ctx, &u, s, m); err != nil {
		return false, err
	}
	to, line, err := t.line(ctx, &u, s, m)
	if err != nil {
		return false, err
	}
	if to != s.state {
		u.set("state", string(to))
		if s.state == job.Running {
			u.set("run_until", nil)
		}
		switch {
		case final(to):
			u.set("ended", t.now.UnixMicro())
		case to == job.Ready, to == job.Waiting:
			t.Hint(job.QueueTopic(s.queue))
		}
	}
	if err := u.exec(ctx, t, s.seq); err != nil {
		return false, err
	}
	for _, e := range m.Notes {
		if err := t.note(ctx, s.seq, e); err != nil {
			return false, err
		}
	}
	if s.state == job.Parked && to != job.Parked {
		if err := t.unpark(ctx, s.seq, m.Wakes != nil); err != nil {
			return false, err
		}
	}
	if m.Park != nil {
		if err := t.park(ctx, s.seq, m.Park); err != nil {
			return false, err
		}
	}
	if to == job.Waiting && s.state != job.Waiting && line == any(waits) {
		if err := t.arrive(ctx, s.key); err != nil {
			return false, err
		}
	}
	if !s.holds() || line == any(holds) || line == any(borrows) {
		return false, nil
	}
	left, err := t.bequeath(ctx, s)
	return !left && s.line.Int64 == holds, err
}

// line decides where the job stands afterwards: in which state, and how in the line of its key.
func (t *tx) line(ctx context.Context, u *update, s standing, m job.Move) (to job.State, line any, err error) {
	to = m.To
	if !s.line.Valid {
		return to, nil, nil
	}
	turn, lender := s.holds() && !m.Free, ""
	switch {
	case to != job.Ready:
	case turn && s.lends:
		out, err := t.lentOut(ctx, s.id)
		if err != nil {
			return to, nil, err
		}
		if out {
			to = job.Waiting
		}
	case !turn:
		var need bool
		if lender, err = t.lenderOf(ctx, s.lender, s.key); err != nil {
			return to, nil, err
		}
		if lender != s.lender {
			u.set("lender", lender)
		}
		if need = lender != ""; !need {
			if need, err = t.needsTurn(ctx, s.key); err != nil {
				return to, nil, err
			}
		}
		if need {
			to = job.Waiting
		}
	}
	switch {
	case final(to):
		line = nil
	case turn:
		line = int(s.line.Int64)
	case to == job.Waiting && s.state == job.Waiting:
		line = int(s.line.Int64)
	case to == job.Waiting:
		if line = waits; lender != "" {
			line = begs
		}
		if s.place == 0 {
			place, err := t.nextSeqs(ctx, 1)
			if err != nil {
				return to, nil, err
			}
			u.set("place", place*syncqueue.Gap)
		}
	default:
		line = aside
	}
	if line != any(int(s.line.Int64)) {
		u.set("line", line)
		switch line {
		case any(waits), any(begs):
			u.set("since", nil)
			if !s.joined {
				u.set("joined", t.now.UnixMicro())
			}
		case any(aside):
			u.set("since", nil)
		}
	}
	return to, line, nil
}

// fields are the changes that do not depend on the line. Zero values leave a field as it is.
func (t *tx) fields(ctx context.Context, u *update, s standing, m job.Move) error {
	if m.Raise {
		epoch, err := t.nextEpoch(ctx)
		if err != nil {
			return err
		}
		u.set("epoch", epoch)
	}
	if !m.RunAt.IsZero() {
		u.set("run_at", m.RunAt.UnixMicro())
	}
	if m.Attempt != 0 {
		u.set("attempt", m.Attempt)
	}
	if m.Lost != 0 || m.ResetLost {
		u.set("lost", map[bool]int{false: m.Lost}[m.ResetLost])
	}
	if m.Result != nil {
		u.set("result", []byte(m.Result))
	}
	flags, err := t.lendingFlags(ctx, s, m)
	if err != nil {
		return err
	}
	if flags != s.flags {
		u.set("flags", int64(flags))
	}
	if m.Priority != nil {
		u.set("priority", *m.Priority)
	}
	if m.Cancel != nil && !s.cancelled {
		at := m.Cancel.At
		if at.IsZero() {
			at = t.now
		}
		u.set("cancel_at", us(at))
		u.set("cancel_by", m.Cancel.By)
		u.set("cancel_reason", m.Cancel.Reason)
	}
	for _, f := range []struct {
		col   string
		v     any
		given bool
	}{{"error", m.Error, m.Error != nil}, {"progress", m.Progress, m.Progress != nil}, {"wakes", m.Wakes, m.Wakes != nil}} {
		if f.given {
			if err := u.json(f.col, f.v); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove deletes a job with all its parts.
func (t *tx) remove(ctx context.Context, seq int64) error {
	return t.all(ctx, []string{
		`DELETE FROM drover_job WHERE seq = ?`, `DELETE FROM drover_body WHERE seq = ?`,
		`DELETE FROM drover_step WHERE seq = ?`, `DELETE FROM drover_journal WHERE seq = ?`,
		`DELETE FROM drover_topic WHERE seq = ?`, `DELETE FROM drover_inbox WHERE seq = ?`,
	}, seq)
}

// update names only what changes, so that SQLite touches only those indexes.
type update struct {
	cols []string
	args []any
}

func (u *update) set(col string, v any) {
	u.cols, u.args = append(u.cols, col+" = ?"), append(u.args, v)
}

func (u *update) json(col string, v any) error {
	text, err := jsonOf(v, false)
	u.set(col, text)
	return err
}

func (u *update) exec(ctx context.Context, t *tx, seq int64) error {
	query := `UPDATE drover_job SET ` + strings.Join(append(u.cols, "rev = rev + 1", "updated = ?"), ", ") + ` WHERE seq = ?`
	_, err := t.exec(ctx, query, append(u.args, t.now.UnixMicro(), seq)...)
	return err
}
