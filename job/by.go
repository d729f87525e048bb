package job

import (
	"context"

	"github.com/drover-cloud/drover/store"
)

type byKey struct{}

// By says who asks for what is called with the ctx: the verbs of an operator ([Manager.Cancel], Hold, SetPriority, Reschedule,
// Fence, Wake of one job, Retry) then leave a line in the job's journal that names them, and CancelBy is who. why may be empty.
func By(ctx context.Context, who, why string) context.Context {
	return context.WithValue(ctx, byKey{}, [2]string{who, why})
}

// askedBy is who asks, and why, if [By] said so.
func askedBy(ctx context.Context) (who, why string, told bool) {
	by, told := ctx.Value(byKey{}).([2]string)
	return by[0], by[1], told
}

// byNote is the line for a verb that somebody asks for; nil: nobody is named.
func (m *Manager) byNote(ctx context.Context, row *Row, verb string) []Entry {
	who, why, told := askedBy(ctx)
	if !told {
		return nil
	}
	return []Entry{m.noteOf(row, false, verb+" by "+who, why)}
}

// recordBy writes the line for a verb that is done and was no move of the job.
func (m *Manager) recordBy(ctx context.Context, id, verb string) {
	if _, _, told := askedBy(ctx); !told {
		return
	}
	_, err := m.steer(ctx, id, "", func(ctx context.Context, _ store.Tx, row *Row) (*Move, error) {
		if row.State.Final() {
			return nil, nil
		}
		return &Move{ID: row.ID, From: row.State, To: row.State, Epoch: row.Epoch, Notes: m.byNote(ctx, row, verb)}, nil
	})
	if err != nil {
		m.log.Warn("job: the journal has no line of who asked", "job", id, "verb", verb, "err", err)
	}
}
