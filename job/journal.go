package job

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/drover-cloud/drover/store"
)

const (
	maxNoteData = 16 << 10
	claimedText = "claimed"
)

// Note adds a row to the running job's journal: text of at most 4 KiB, data as JSON of at most 16 KiB; an error as data marks
// a failure. A job's journal has 1000 rows: those that come later are dropped, and one more says how many. [ErrLost] when the
// claim is lost, [ErrInvalid] or [ErrTooLarge] for data that cannot be stored.
func Note(ctx context.Context, text string, data any) error {
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	e := Entry{Text: cut(text, maxErrorText)}
	if e.Text == "" {
		return invalid("Text", "is empty")
	}
	if failure, ok := data.(error); ok {
		e.Failure, data = true, encode(failure)
	}
	if data != nil {
		if e.Data, err = json.Marshal(data); err != nil {
			return invalid("Data", "%T cannot be encoded: %v", data, err)
		}
		if len(e.Data) > maxNoteData {
			return fmt.Errorf("job: Data: %d bytes, most are %d: %w", len(e.Data), maxNoteData, ErrTooLarge)
		}
	}
	return r.log(ctx, e)
}

// Journal lists the rows of a job's journal in order. Beside what handlers note the Manager writes to it what becomes of a job that
// does not simply succeed: "claimed", for each run that failed, was lost, parked, cancelled or fenced, and then that; and why it
// woke, and who cancelled it. [ErrNotFound] when the job is unknown.
func (m *Manager) Journal(ctx context.Context, id string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var found Found
		err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			found, err = m.find(ctx, tx, Find{IDs: []string{id}, Journal: true})
			return err
		})
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for _, e := range found.Journal {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// claimedNote tells of the claim with which the present run of row began.
func claimedNote(row *Row, span string) Entry {
	e := Entry{JobID: row.ID, Epoch: row.Epoch, Node: row.Session, At: row.Started, Text: claimedText}
	data := map[string]any{"run": row.Runs}
	if span != "" {
		data["span"] = span
	}
	e.Data, _ = json.Marshal(data) // a number and a text
	return e
}

// noteOf is what the manager itself tells of a job.
func (m *Manager) noteOf(row *Row, failure bool, text, more string) Entry {
	if more != "" {
		text += ": " + more
	}
	return Entry{JobID: row.ID, Epoch: row.Epoch, Node: m.env.Node, Failure: failure, Text: cut(text, maxErrorText)}
}

// runNotes are what the journal keeps of a run that ended so; nothing if it just succeeded, or goes on later as it wanted.
func (m *Manager) runNotes(o *outcome, mv *Move, failure *Entry) []Entry {
	row := &o.run.row
	var how Entry
	switch {
	case failure != nil:
		how = *failure
	case mv.To == Parked:
		how = m.noteOf(row, false, "parked", "")
	case (mv.To == Cancelled || mv.To == Failed) && mv.Error != nil:
		how = m.noteOf(row, true, mv.Error.Text, "")
	default:
		return nil
	}
	return []Entry{claimedNote(row, o.run.span.traceparent()), how}
}

// wakeNotes tell why a parked job goes on.
func (m *Manager) wakeNotes(row *Row, mv *Move) {
	if mv.From != Parked || mv.To == Parked {
		return
	}
	var why []string
	for i, w := range mv.Wakes {
		if i == 5 {
			why = append(why, "…")
			break
		}
		why = append(why, strings.TrimSpace(w.Why+" "+w.Name))
	}
	text := "woken"
	if mv.To.Final() {
		text = string(mv.To)
	}
	mv.Notes = append(mv.Notes, m.noteOf(row, false, text, strings.Join(why, ", ")))
}
