package job

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/drover-cloud/drover/store"
)

const (
	maxNotes    = 1000
	maxNoteData = 16 << 10
)

// Note adds a row to the running job's journal: text of at most 4 KiB, data as JSON of at most 16 KiB; an error as data marks
// a failure. After 1000 rows of one run the rest is dropped, which a last row says. [ErrLost] when the claim is lost,
// [ErrInvalid] or [ErrTooLarge] for data that cannot be stored.
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
	r.mu.Lock()
	r.notes++
	n := r.notes
	r.mu.Unlock()
	switch {
	case n > maxNotes:
		return nil
	case n == maxNotes:
		e = Entry{Text: "journal full: further rows of this run are dropped", Failure: true}
	}
	return r.log(ctx, e)
}

// Journal lists the rows of a job's journal in order. [ErrNotFound] when the job is unknown.
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
