package job

import (
	"context"
	"fmt"
	"strings"

	"github.com/drover-cloud/drover/store"
)

const (
	wakeBatch  = 500
	maxPayload = 8 << 10
)

// Wake is WakeWith without a payload.
func (m *Manager) Wake(ctx context.Context, topic string) error {
	_, err := m.WakeWith(ctx, topic, nil)
	if id, is := strings.CutPrefix(topic, "job/"); is && err == nil {
		m.recordBy(ctx, id, "wake")
	}
	return err
}

// WakeWith signals topic, 1 to 128 printable bytes: jobs that are parked on it wake, those that have subscribed to it will
// when they park. It answers how many were reached; none is no error. Many are signalled in batches of 500, a transaction
// each. The handler finds topic and payload, at most 8 KiB, in its job's Wakes, once.
//
// Topic "job/<id>" addresses one job, whatever its state: parked, by [Manager.Hold] or as poison too, it wakes; else the signal
// is seen when it parks. A job keeps at most 64 signals, the same one once. Errors: [ErrInvalid], [ErrTooLarge] (payload);
// for "job/<id>" [ErrNotFound], [ErrFinished], [ErrOverloaded].
func (m *Manager) WakeWith(ctx context.Context, topic string, payload []byte) (n int, err error) {
	topic, err = checkSignal(topic, payload)
	if err != nil {
		return 0, err
	}
	for s := (Signal{Topic: topic, Payload: payload, Limit: wakeBatch}); ; {
		var got Signalled
		err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			got, err = m.signal(ctx, tx, s)
			return err
		})
		if err != nil {
			return n, err
		}
		m.woken(got.Rows)
		if n += got.Reached; got.Next == 0 {
			return n, nil
		}
		s.After = got.Next
	}
}

// WakeTx is WakeWith in the host's transaction: nobody wakes unless it commits. A tx of another store gives
// [store.ErrForeign].
func (m *Manager) WakeTx(ctx context.Context, tx store.Tx, topic string, payload []byte) (n int, err error) {
	topic, err = checkSignal(topic, payload)
	if err != nil {
		return 0, err
	}
	for s := (Signal{Topic: topic, Payload: payload, Limit: wakeBatch}); ; {
		got, err := m.signal(ctx, tx, s)
		if err != nil {
			return 0, err
		}
		if n += got.Reached; got.Next == 0 {
			return n, nil
		}
		s.After = got.Next
	}
}

func checkSignal(topic string, payload []byte) (string, error) {
	if why := badName(topic); why != "" {
		return "", &FieldError{"Topic", why}
	}
	if len(payload) > maxPayload {
		return "", fmt.Errorf("job: Payload: %d bytes, most are %d: %w", len(payload), maxPayload, ErrTooLarge)
	}
	if id, ok := strings.CutPrefix(topic, "job/"); ok {
		id, ok = canonicalID(id)
		if !ok {
			return "", ErrNotFound
		}
		topic = JobTopic(id)
	}
	return topic, nil
}

// signal delivers one batch and wakes whom it makes go on.
func (m *Manager) signal(ctx context.Context, tx store.Tx, s Signal) (Signalled, error) {
	got, err := m.store.Signal(ctx, tx, s)
	if err != nil {
		return got, err
	}
	if strings.HasPrefix(s.Topic, "job/") {
		switch {
		case len(got.Rows) == 0:
			return got, ErrNotFound
		case got.Rows[0].State.Final():
			return got, ErrFinished
		case got.Full:
			return got, fmt.Errorf("%w: the job has %d signals", ErrOverloaded, MaxInbox)
		}
	}
	return got, m.wakeRows(ctx, tx, got.Rows, &outcomes{}) // none ends by a signal
}

// wakeRows moves those parked rows on that may go on, and notes in next which are final by that.
func (m *Manager) wakeRows(ctx context.Context, tx store.Tx, rows []Row, next *outcomes) error {
	var moves []Move
	for i := range rows {
		if mv, ok := wakeMove(&rows[i], tx.Now()); ok {
			m.wakeNotes(&rows[i], &mv)
			moves = append(moves, mv)
		}
	}
	if len(moves) == 0 {
		return nil
	}
	done, err := m.store.Move(ctx, tx, moves)
	if err != nil {
		return err
	}
	var ids []string
	for i, mv := range moves {
		if !done[i] || mv.To == Parked {
			continue
		}
		ids = append(ids, mv.ID)
		if tx.Hint(JobTopic(mv.ID)); mv.To.Final() {
			next.add(mv.ID, mv.To, mv.Error)
		}
	}
	return m.publishIDs(ctx, tx, ids)
}

// woken tells this node what a committed wake has changed.
func (m *Manager) woken(rows []Row) {
	if len(rows) == 0 {
		return
	}
	for i := range rows {
		m.waits.mark(rows[i].ID)
	}
	m.nudge()
}
