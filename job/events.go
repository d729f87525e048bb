package job

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Event tells a [Sink] what became of a job. Args, results and Identity are not in it.
type Event struct {
	Type          string // submit, update, complete
	JobID, Kind   string
	State         State
	Rev           int64
	Parent        string
	Resource      string
	Key           syncqueue.Key
	Progress      Progress
	Code          string
	Node, Account string
	At            time.Time
}

// publish hands one event to the sink. A final state makes it complete, whatever typ says.
func (m *Manager) publish(ctx context.Context, tx store.Tx, typ string, r *Row) (err error) {
	if m.cfg.Events == nil {
		return nil
	}
	if r.State.Final() {
		typ = "complete"
	}
	e := Event{
		Type: typ, JobID: r.ID, Kind: r.Kind, State: r.State, Rev: r.Rev, Parent: r.Parent, Resource: r.Resource,
		Key: r.Sync, Progress: r.Progress, Node: m.env.Node, Account: r.Account, At: tx.Now(),
	}
	if r.Error != nil {
		e.Code = r.Error.Code
	}
	defer func() {
		if v := recover(); v != nil {
			m.meters.dropped(ctx)
			m.log.Error("event dropped: the sink panicked", "job", e.JobID, "type", e.Type, "panic", fmt.Sprint(v))
		}
	}()
	return m.cfg.Events.Publish(ctx, tx, e)
}

func (m *Manager) publishAll(ctx context.Context, tx store.Tx, typ string, rows []Row) error {
	if m.cfg.Events == nil {
		return nil
	}
	for i := range rows {
		if err := m.publish(ctx, tx, typ, &rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// publishIDs publishes jobs as they are now in this transaction.
func (m *Manager) publishIDs(ctx context.Context, tx store.Tx, ids []string) error {
	if m.cfg.Events == nil || len(ids) == 0 {
		return nil
	}
	found, err := m.store.List(ctx, tx, Find{IDs: ids, Limit: len(ids)})
	if err != nil {
		return err
	}
	return m.publishAll(ctx, tx, "update", found.Rows)
}

func (m *Manager) publishRuns(ctx context.Context, tx store.Tx, rs []*run) error {
	ids := make([]string, len(rs))
	for i, r := range rs {
		ids[i] = r.row.ID
	}
	return m.publishIDs(ctx, tx, ids)
}
