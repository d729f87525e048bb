// Package items keeps what hosts enter into lines beside jobs: as jobs of a queue that nobody claims from. Who is granted a turn
// is Ready, who was taken is Parked with its turn, and whoever holds it stands in its Progress.
package items

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Queue is the jobs' queue and kind of items.
const Queue = syncqueue.ItemQueue

// Items does it with the jobs of any store.
type Items struct {
	Jobs job.Store
	// Admit grants the free turns of keys in whose line items have arrived.
	Admit func(ctx context.Context, tx store.Tx) error
}

// Enter puts an item into the line of its key.
func (s Items) Enter(ctx context.Context, tx store.Tx, id string, i syncqueue.Item) (syncqueue.Item, error) {
	row := job.Row{Job: job.Job{ID: id, Root: id, Kind: Queue, Queue: Queue, Sync: i.Key, Resource: i.Content, MaxAttempts: 1}}
	rows, err := s.Jobs.Insert(ctx, tx, []job.Row{row})
	if err != nil {
		return i, err
	}
	if rows[0].Met != "" {
		return i, fmt.Errorf("items: %s is there already: %w", id, store.ErrConflict)
	}
	i.Seq, i.Place, i.Enqueued = rows[0].Seq, rows[0].Place, rows[0].Created
	return i, nil
}

// Take gives granted items to t.Holder, or what t.Dead held.
func (s Items) Take(ctx context.Context, tx store.Tx, t syncqueue.Take) ([]syncqueue.Item, error) {
	state := job.Ready
	if t.Dead != nil {
		state = job.Parked
	} else if err := s.Admit(ctx, tx); err != nil {
		return nil, err
	}
	rows, err := s.find(ctx, tx, state, func(r *job.Row) bool { return t.Dead == nil || slices.Contains(t.Dead, r.Progress.Note) }, t.Max)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	moves := make([]job.Move, len(rows))
	for i := range rows {
		moves[i] = job.Move{ID: rows[i].ID, From: state, To: job.Parked, Epoch: rows[i].Epoch, Raise: true, Progress: &job.Progress{Note: t.Holder}}
	}
	done, err := s.Jobs.Move(ctx, tx, moves)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i := range rows {
		if done[i] {
			ids = append(ids, rows[i].ID)
		}
	}
	found, err := s.Jobs.List(ctx, tx, job.Find{IDs: ids, Limit: len(ids)})
	if err != nil {
		return nil, err
	}
	out := make([]syncqueue.Item, len(found.Rows))
	for i := range found.Rows {
		out[i] = item(&found.Rows[i])
	}
	slices.SortFunc(out, func(a, b syncqueue.Item) int { return cmp.Compare(place(a), place(b)) })
	return out, nil
}

// place is where an item stands, or would if its key had a limit.
func place(i syncqueue.Item) int64 {
	if i.Place == 0 {
		return i.Seq * syncqueue.Gap
	}
	return i.Place
}

func item(r *job.Row) syncqueue.Item {
	return syncqueue.Item{
		Seq: r.Seq, Place: r.Place, Key: r.Sync, Content: r.Resource, Holder: r.Progress.Note, Epoch: r.Epoch, Enqueued: r.Created, Since: r.Updated,
	}
}

// find goes through the items in a state, oldest first, for those that fit.
func (s Items) find(ctx context.Context, tx store.Tx, state job.State, fits func(*job.Row) bool, most int) (rows []job.Row, err error) {
	q := job.Query{Queues: []string{Queue}, States: []job.State{state}, Limit: 500}
	for {
		found, err := s.Jobs.List(ctx, tx, job.Find{Query: &q, Limit: q.Limit})
		if err != nil {
			return nil, err
		}
		for i := range found.Rows {
			if fits(&found.Rows[i]) {
				rows = append(rows, found.Rows[i])
			}
		}
		if q.After = found.Next; q.After == "" || len(rows) >= most {
			return rows[:min(len(rows), most)], nil
		}
	}
}

// Release ends an item, or puts it back at its place. Of one that is gone, or that somebody else has taken since: false.
func (s Items) Release(ctx context.Context, tx store.Tx, i syncqueue.Item, back bool) (bool, error) {
	found, err := s.Jobs.List(ctx, tx, job.Find{Resources: []string{i.Content}})
	if err != nil {
		return false, err
	}
	at := slices.IndexFunc(found.Rows, func(r job.Row) bool { return r.Seq == i.Seq && r.Queue == Queue })
	if at < 0 || found.Rows[at].Epoch != i.Epoch {
		return false, nil
	}
	r := &found.Rows[at]
	if back {
		if r.State != job.Parked {
			return false, nil
		}
		return s.move(ctx, tx, job.Move{ID: r.ID, From: job.Parked, To: job.Ready, Epoch: r.Epoch, Free: true, Raise: true, Progress: &job.Progress{}})
	}
	done, err := s.move(ctx, tx, job.Move{ID: r.ID, From: r.State, To: job.Succeeded, Epoch: r.Epoch})
	if err != nil || !done {
		return false, err
	}
	return s.move(ctx, tx, job.Move{ID: r.ID, From: job.Succeeded, Epoch: r.Epoch})
}

func (s Items) move(ctx context.Context, tx store.Tx, m job.Move) (bool, error) {
	done, err := s.Jobs.Move(ctx, tx, []job.Move{m})
	return err == nil && done[0], err
}

// Fill puts contents and holders of items into what a store lists by their ids.
func (s Items) Fill(ctx context.Context, tx store.Tx, list []syncqueue.Item) error {
	var ids []string
	for i := range list {
		if strings.HasPrefix(list[i].Content, syncqueue.ItemID) {
			ids = append(ids, list[i].Content)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := s.Jobs.List(ctx, tx, job.Find{IDs: ids, Limit: len(ids)})
	if err != nil {
		return err
	}
	for _, r := range found.Rows {
		for i := range list {
			if list[i].Content == r.ID {
				list[i].Content, list[i].Holder = r.Resource, r.Progress.Note
			}
		}
	}
	return nil
}
