package job

import (
	"context"
	"errors"
	"slices"

	"github.com/drover-cloud/drover/store"
)

// maxWriters is how many transactions of gathered entries are under way at once: while one waits for the commit, the other
// fills.
const maxWriters = 2

// logs gathers what handlers write beside their jobs, so that many share one commit; guarded by Manager.mu.
type logs struct {
	pending []*logged // not yet taken
	writers int
}

// logged is an entry whose handler waits for the commit.
type logged struct {
	Entry
	done chan struct{}
	err  error
}

var errUnwritten = errors.New("job: the entry was not written")

// writeLog stores one entry. Where the store's transactions cost round trips, those of handlers that come meanwhile go
// together; elsewhere each has its own.
func (m *Manager) writeLog(ctx context.Context, e Entry) error {
	if m.one == nil {
		return m.inTx(ctx, func(ctx context.Context, tx store.Tx) error { return m.logAll(ctx, tx, []Entry{e}) })
	}
	// Without a call nothing is sent; but a ctx inside another transaction is told so, instead of waiting for itself.
	if err := m.inOne(ctx, func(context.Context, store.Tx) error { return nil }); err != nil {
		return err
	}
	l := &logged{Entry: e, done: make(chan struct{}), err: errUnwritten}
	m.mu.Lock()
	m.logs.pending = append(m.logs.pending, l)
	begin := m.logs.writers < maxWriters
	if begin {
		m.logs.writers++
	}
	base := m.base
	m.mu.Unlock()
	if begin {
		m.env.Go("log", func() { m.writeLogs(context.WithoutCancel(base)) })
	}
	<-l.done
	return l.err
}

// writeLogs writes batch after batch until nothing is pending.
func (m *Manager) writeLogs(ctx context.Context) {
	for {
		m.mu.Lock()
		n := min(len(m.logs.pending), m.cfg.FinishBatch)
		ls := slices.Clone(m.logs.pending[:n])
		m.logs.pending = slices.Delete(m.logs.pending, 0, n)
		if n == 0 {
			m.logs.writers--
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		m.writeBatch(ctx, ls)
	}
}

// writeBatch writes entries together. If the store refuses one it refuses all, so they are tried by halves; a commit whose
// answer was lost is an error for all.
func (m *Manager) writeBatch(ctx context.Context, ls []*logged) {
	told := false
	defer func() {
		if !told { // also if the store panics
			for _, l := range ls {
				close(l.done)
			}
		}
	}()
	es := make([]Entry, len(ls))
	for i, l := range ls {
		es[i] = l.Entry
	}
	undone := false
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		err := m.logAll(ctx, tx, es)
		undone = err != nil
		return err
	})
	if undone && err != nil && len(ls) > 1 {
		told = true
		m.writeBatch(ctx, ls[:len(ls)/2])
		m.writeBatch(ctx, ls[len(ls)/2:])
		return
	}
	for _, l := range ls {
		l.err = err
	}
}

// logAll writes entries, and tells those who watch the jobs what they see of it.
func (m *Manager) logAll(ctx context.Context, tx store.Tx, es []Entry) error {
	if err := m.store.Log(ctx, tx, es); err != nil {
		return err
	}
	var ids []string
	seen := map[string]bool{}
	for i := range es {
		if id := es[i].JobID; (es[i].Progress != nil || es[i].Resource != "") && !seen[id] {
			seen[id], ids = true, append(ids, id)
			tx.Hint(JobTopic(id))
		}
	}
	return m.publishIDs(ctx, tx, ids)
}
