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
	Began         bool // a run begins with this update

	row *Row
}

// Job is the job as the event leaves it, with what the event itself does not tell: Args, Result, Error, Identity, Runs. It is
// for sinks of the same process; nil for an Event that the Manager did not make.
func (e Event) Job() *Job {
	if e.row == nil {
		return nil
	}
	return e.row.public()
}

// began is the type of an update with which a run begins.
const began = "began"

// publish hands one event to the sinks. A final state makes it complete, whatever typ says.
func (m *Manager) publish(ctx context.Context, tx store.Tx, typ string, r *Row) error {
	sinks := m.sinksOf(r.Kind)
	if len(sinks) == 0 {
		return nil
	}
	begins := typ == began
	if begins {
		typ = "update"
	}
	if r.State.Final() {
		typ = "complete"
	}
	e := Event{
		Type: typ, Began: begins, row: r, JobID: r.ID, Kind: r.Kind, State: r.State, Rev: r.Rev, Parent: r.Parent, Resource: r.Resource,
		Key: r.Sync, Progress: r.Progress, Node: m.env.Node, Account: r.Account, At: tx.Now(),
	}
	if r.Error != nil {
		e.Code = r.Error.Code
	}
	for _, s := range sinks {
		if err := m.publishTo(ctx, tx, s, e); err != nil {
			return err
		}
	}
	return nil
}

// sinksOf are the Manager's and the kind's.
func (m *Manager) sinksOf(kind string) (sinks []Sink) {
	if m.cfg.Events != nil {
		sinks = append(sinks, m.cfg.Events)
	}
	if m.sinks.Load() {
		if k := m.kindNamed(kind); k != nil && k.opt.sink != nil {
			sinks = append(sinks, k.opt.sink)
		}
	}
	return sinks
}

// heard says whether any event has a sink.
func (m *Manager) heard() bool { return m.cfg.Events != nil || m.sinks.Load() }

func (m *Manager) publishTo(ctx context.Context, tx store.Tx, s Sink, e Event) (err error) {
	defer func() {
		if v := recover(); v != nil {
			m.meters.dropped(ctx)
			m.log.Error("event dropped: the sink panicked", "job", e.JobID, "type", e.Type, "panic", fmt.Sprint(v))
		}
	}()
	return s.Publish(ctx, tx, e)
}

func (m *Manager) publishAll(ctx context.Context, tx store.Tx, typ string, rows []Row) error {
	if !m.heard() {
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
	if !m.heard() || len(ids) == 0 {
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
