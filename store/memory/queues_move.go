package memory

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/places"
	"github.com/drover-cloud/drover/syncqueue"
)

func (q queues) Move(_ context.Context, x store.Tx, m syncqueue.Move) (i syncqueue.Item, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return i, err
	}
	j := &q.s.jobs
	r := j.numbered(m.Seq)
	if r == nil || final(r.State) || r.Sync == (syncqueue.Key{}) {
		return i, fmt.Errorf("memory: move: nobody waits as %d: %w", m.Seq, store.ErrNotFound)
	}
	l := j.lines[r.lineKey()]
	if r.State != job.Waiting || r.Turn {
		if l.counts(r) {
			return i, fmt.Errorf("memory: move: %d holds a turn of %s: %w", m.Seq, r.Sync, store.ErrConflict)
		}
		return i, fmt.Errorf("memory: move: %d does not wait: %w", m.Seq, store.ErrNotFound)
	}
	switch {
	case m.First:
		m.Before = l.waiters.first().Seq
	case m.Before == 0:
		t.replace(r, t.nextSeq()*syncqueue.Gap)
	}
	if m.Before != 0 && m.Before != m.Seq {
		b := j.numbered(m.Before)
		if b == nil || b.State != job.Waiting || b.Turn || b.lineKey() != r.lineKey() {
			return i, fmt.Errorf("memory: move: %d does not wait for %s: %w", m.Before, r.Sync, store.ErrNotFound)
		}
		if err := t.moveBefore(l, r, b.Place); err != nil {
			return i, err
		}
	}
	if m.Before != m.Seq {
		t.note(job.Entry{JobID: r.ID, Epoch: r.Epoch, Node: m.Node, At: t.now, Text: "moved in line"})
	}
	j.settle(t, nil)
	return j.item(r), nil
}

// numbered is the row with this Seq.
func (j *jobTables) numbered(seq int64) *rec {
	for r := range j.bySeq.after(seq, -1<<63) {
		if r.Seq == seq {
			return r
		}
		break
	}
	return nil
}

// moveBefore puts r before the waiter at hi.
func (t *tx) moveBefore(l *line, r *rec, hi int64) error {
	place, moved, err := places.Before(hi, func(n int) ([]places.Row, error) {
		var rows []places.Row
		for o := range l.waiters.before(hi, -1<<63) {
			if o != r {
				rows = append(rows, places.Row{Seq: o.Seq, Place: o.Place})
			}
			if len(rows) == n {
				break
			}
		}
		return rows, nil
	})
	if err != nil {
		return err
	}
	for _, o := range moved {
		t.replace(t.s.jobs.numbered(o.Seq), o.Place)
	}
	t.replace(r, place)
	return nil
}

func (t *tx) replace(r *rec, place int64) { t.update(r, func(r *rec) { r.Place = place }) }
