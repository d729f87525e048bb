package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover/store"
)

const waitChunk = 500 // ids per query

// waits are the callers that wait for jobs. While the manager runs, one goroutine asks the store for all of them.
type waits struct {
	wake chan struct{} // for the poller

	mu      sync.Mutex // held for memory only
	subs    map[string][]*sub
	dirty   map[string]bool // ids that have changed
	serving bool
	changes chan struct{} // closed when serving changes
}

// sub is one waiter. Its channel holds the last row seen; nil: the job is gone.
type sub struct {
	id string
	c  chan *Row
}

func (w *waits) init() {
	w.wake, w.changes = make(chan struct{}, 1), make(chan struct{})
	w.subs, w.dirty = map[string][]*sub{}, map[string]bool{}
}

func (w *waits) add(id string) *sub {
	s := &sub{id, make(chan *Row, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subs[id] = append(w.subs[id], s)
	return s
}

func (w *waits) remove(s *sub) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.DeleteFunc(w.subs[s.id], func(o *sub) bool { return o == s })
	if len(left) > 0 {
		w.subs[s.id] = left
		return
	}
	delete(w.subs, s.id)
	delete(w.dirty, s.id)
}

// mark makes the poller look at these jobs, as far as somebody waits for them.
func (w *waits) mark(ids ...string) {
	marked := false
	w.mu.Lock()
	for _, id := range ids {
		if len(w.subs[id]) > 0 {
			w.dirty[id], marked = true, true
		}
	}
	w.mu.Unlock()
	if marked {
		poke(w.wake)
	}
}

func (w *waits) none() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.subs) == 0
}

// changed marks the jobs of runs that started or reported.
func (w *waits) changed(rs []*run) {
	if w.none() {
		return
	}
	for _, r := range rs {
		w.mark(r.row.ID)
	}
}

// finished marks the jobs of a batch.
func (w *waits) finished(outs []*outcome) {
	if w.none() {
		return
	}
	for _, o := range outs {
		if w.mark(o.run.row.ID); o.run.row.Lender != "" { // it may wait for its turn
			w.mark(o.run.row.Lender)
		}
	}
}

// take is what to ask the store for: all ids, or those that have changed; sorted.
func (w *waits) take(all bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]string, 0, len(w.dirty))
	if all {
		for id := range w.subs {
			ids = append(ids, id)
		}
	} else {
		for id := range w.dirty {
			ids = append(ids, id)
		}
	}
	clear(w.dirty)
	slices.Sort(ids)
	return ids
}

func (w *waits) deliver(id string, row *Row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.subs[id] {
		select {
		case <-s.c: // the newer one counts
		default:
		}
		s.c <- row
	}
}

func (w *waits) serve(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serving = on
	close(w.changes)
	w.changes = make(chan struct{})
}

func (w *waits) close() { w.serve(false) }

func (w *waits) served() (bool, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serving, w.changes
}

// pollWaits asks the store for the jobs that somebody waits for: those that changed at once, all of them once per Poll.
func (m *Manager) pollWaits(ctx context.Context) {
	m.waits.serve(true)
	defer m.waits.close() // also when it is cut off: who waits looks for himself then
	var timer <-chan time.Time
	for {
		if timer == nil { // also while nobody waits: whether somebody does is asked when it fires
			timer = m.env.Clock.After(m.cfg.Poll)
		}
		all := false
		select {
		case <-ctx.Done():
		case <-m.waits.wake:
			all = fired(timer)
		case <-timer:
			all = true
			fired(m.waits.wake)
		}
		if all {
			timer = nil
		}
		if ctx.Err() != nil {
			return
		}
		if err := m.askWaits(ctx, all); err != nil {
			m.log.Debug("jobs waited for not read", "err", err)
		}
	}
}

func (m *Manager) askWaits(ctx context.Context, all bool) error {
	if m.waits.idle(all) {
		return nil
	}
	var ids []string
	taken := false
	rows := map[string]*Row{}
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if !taken {
			ids, taken = m.waits.take(all), true
		}
		for chunk := range slices.Chunk(ids, waitChunk) {
			found, err := m.store.List(ctx, tx, Find{IDs: chunk, Limit: len(chunk)})
			if err != nil {
				return err
			}
			for i := range found.Rows {
				rows[found.Rows[i].ID] = &found.Rows[i]
			}
		}
		return nil
	})
	if err != nil {
		return err // the next poll asks for all
	}
	for _, id := range ids {
		m.waits.deliver(id, rows[id])
	}
	return nil
}

func (w *waits) idle(all bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.subs) == 0 || !all && len(w.dirty) == 0
}

// watcher sees a job's revisions one after another.
type watcher struct {
	m    *Manager
	sub  *sub
	hint <-chan struct{}
	stop func()
}

// watch subscribes before it looks, so that nothing falls between.
func (m *Manager) watch(ctx context.Context, id string) (*watcher, *Job, error) {
	id, ok := canonicalID(id)
	if !ok {
		return nil, nil, ErrNotFound
	}
	w := &watcher{m: m, sub: m.waits.add(id), stop: func() {}}
	if m.cfg.Notify != nil {
		w.hint, w.stop = m.cfg.Notify.Wake(JobTopic(id))
	}
	j, err := m.Get(ctx, id)
	if err != nil {
		w.close()
		return nil, nil, err
	}
	return w, j, nil
}

func (w *watcher) close() {
	w.stop()
	w.m.waits.remove(w.sub)
}

// next waits for a revision after rev.
func (w *watcher) next(ctx context.Context, rev int64) (*Job, error) {
	for {
		serving, changes := w.m.waits.served()
		var timer <-chan time.Time
		if !serving {
			timer = w.m.env.Clock.After(w.m.cfg.Poll)
		}
		var row *Row
		var err error
		var hinted, told bool
		select {
		case <-ctx.Done():
		case <-changes:
			continue
		case <-w.hint:
			hinted = true
		case <-timer:
		case row = <-w.sub.c:
			told = true
		}
		hinted = fired(w.hint) || hinted
		if hinted && serving {
			w.m.waits.mark(w.sub.id)
		}
		if !told {
			select {
			case row = <-w.sub.c:
				told = true
			default:
			}
		}
		switch {
		case told && row == nil:
			err = ErrNotFound
		case !told && !serving && ctx.Err() == nil:
			row, err = w.look(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, ErrNotFound):
			return nil, err
		case err == nil && row != nil && row.Rev > rev:
			return row.public(), nil
		}
	}
}

// look asks for the one job, while no poller does.
func (w *watcher) look(ctx context.Context) (row *Row, err error) {
	err = w.m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		row, err = w.m.load(ctx, tx, w.sub.id)
		return err
	})
	return row, err
}

// Wait waits until the job is final, on whatever node it runs, and answers it. When ctx ends first it answers the job as
// last seen and ctx's error. Other errors: [ErrNotFound], or the store's when the first look fails. How the job ended is
// its own matter: see [Result]. Inside a handler, the handler's slot is lent to other jobs meanwhile; when
// 10 000 block so on this node, [ErrOverloaded]. Its turn is lent to its descendants of the same key, one after another; Wait
// returns when it has the turn back. Of any other job that waits for a key which the handler holds: [syncqueue.ErrReentrant].
func (m *Manager) Wait(ctx context.Context, id string) (*Job, error) {
	if m.prompt { // most jobs that are asked for one after another are final by then
		if j, err := m.Get(ctx, id); err != nil || j.State.Final() {
			return j, err
		}
	}
	w, j, err := m.watch(ctx, id)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if j.State.Final() {
		return j, nil
	}
	back, err := runOf(ctx).block(ctx, j.ID)
	if err != nil {
		return j, err
	}
	defer back()
	for !j.State.Final() {
		n, err := w.next(ctx, j.Rev)
		if err != nil {
			return j, err
		}
		j = n
	}
	return j, nil
}

// block lends what a handler has that blocks until id is final: its slot and its turn.
func (r *run) block(ctx context.Context, id string) (back func(), err error) {
	turn, err := r.reentrant(ctx, id)
	if err != nil {
		return nil, err
	}
	slot, err := r.lend(id)
	if err != nil || !turn {
		return slot, err
	}
	recall, err := r.lendTurn(ctx)
	if err != nil {
		slot()
		return nil, err
	}
	return func() {
		recall()
		slot()
	}, nil
}

// lend frees the slot of a handler that blocks in a wait for a job; the answer takes it back at once. A nil run has none.
func (r *run) lend(id string) (back func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	shift := func(n int) bool {
		r.m.mu.Lock()
		defer r.m.mu.Unlock()
		if n < 0 && r.m.blocked >= maxBlocked {
			return false
		}
		r.pool.executing += n
		r.pool.blocked -= n
		r.m.blocked -= n
		return true
	}
	if !shift(-1) {
		return nil, fmt.Errorf("%w: %d handlers block in Wait", ErrOverloaded, maxBlocked)
	}
	poke(r.m.wake)
	r.mu.Lock()
	more := r.more()
	more.waitsFor = append(slices.Clone(more.waitsFor), id)
	r.mu.Unlock()
	return func() {
		shift(1)
		r.mu.Lock()
		i := slices.Index(more.waitsFor, id)
		more.waitsFor = slices.Delete(slices.Clone(more.waitsFor), i, i+1)
		r.mu.Unlock()
	}, nil
}
