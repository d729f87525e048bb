package job

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover/store"
)

// batch is what one flush writes. It is taken once, inside the transaction, and kept when that is repeated.
type batch struct {
	taken   bool
	outs    []*outcome
	kept    []*outcome // what outs was taken from
	freed   int        // turns it may hand on, at most
	start   Claim      // what of them may start here
	began   time.Time
	started []Row
	done    []bool
	parked  []Row // if the store tells
	moves   []Move
	turns   []Turn // of a plain batch
	awaited bool   // somebody may have joined what is final now
}

// flush stores a batch of outcomes. While the store is down it tries again as long as the session is trusted: the same
// moves, which are answered as done if they were. After that the jobs run again elsewhere.
func (m *Manager) flush(ctx context.Context) {
	m.gather()
	b := m.newBatch()
	defer m.freeBatch(b)
	for wait := firstBackoff; ; wait = min(2*wait, maxBackoff) {
		err := m.write(ctx, b)
		if err == nil {
			break
		}
		m.giveUpStart(b)
		if ctx.Err() == nil && m.stillTrusted(b) {
			m.log.Warn("job outcomes not stored", "err", err, "again", wait)
			if m.env.Sleep(ctx, wait) == nil {
				continue
			}
		}
		m.settle(b.outs)
		b.outs = nil
		break
	}
	m.flushed(b)
}

// batches are kept for the next flushes: they are large.
var batches = sync.Pool{New: func() any { return &batch{} }}

func (m *Manager) newBatch() *batch {
	if !m.lean() {
		return &batch{}
	}
	return batches.Get().(*batch)
}

func (m *Manager) freeBatch(b *batch) {
	if !m.lean() {
		return
	}
	clear(b.moves)
	clear(b.kept)
	clear(b.turns)
	*b = batch{kept: b.kept[:0], moves: b.moves[:0], turns: b.turns[:0]}
	batches.Put(b)
}

// flushInline is flush for Step: one try per batch.
func (m *Manager) flushInline(ctx context.Context) error {
	for m.beginFlush() {
		b := &batch{}
		err := m.write(ctx, b)
		if err != nil {
			m.giveUpStart(b)
			m.putBack(b)
		}
		m.flushed(b)
		if err != nil {
			return err
		}
	}
	return nil
}

// write is one try.
func (m *Manager) write(ctx context.Context, b *batch) error {
	if m.lean() { // a store that saves statements is not one whose schedule is explored: the batch may be taken here
		if !b.taken {
			m.takeBatch(b)
		}
		if b.plain() && !m.heard() {
			return m.inOne(ctx, func(ctx context.Context, tx store.Tx) error { return m.finishPlain(ctx, tx, b) })
		}
	}
	return m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if !b.taken {
			m.takeBatch(b)
		}
		if len(b.outs) == 0 {
			return nil
		}
		b.began, b.started, b.turns, b.parked = m.env.Clock.Now(), nil, nil, nil
		return m.finish(ctx, tx, b)
	})
}

// plain says that all that is to be written are results: no clock, no journal, no second look.
func (b *batch) plain() bool {
	return !slices.ContainsFunc(b.outs, func(o *outcome) bool {
		o.run.mu.Lock()
		defer o.run.mu.Unlock()
		return o.err != nil || o.run.sealing || o.run.abandoned()
	})
}

// finishPlain is finish for a plain batch: one call of the store.
func (m *Manager) finishPlain(ctx context.Context, tx store.Tx, b *batch) error {
	b.began, b.started = m.env.Clock.Now(), nil
	b.moves, b.turns = slices.Grow(b.moves[:0], len(b.outs)), slices.Grow(b.turns[:0], len(b.outs))
	joined := false
	for _, o := range b.outs {
		mv, _ := m.decide(o, nil)
		b.moves, b.turns = append(b.moves, mv), append(b.turns, o.run.turn())
		joined = joined || o.run.row.Parent != "" || o.run.row.Lender != ""
		tx.Hint(o.run.topic)
	}
	if joined { // or borrows its turn: there is more to do then than a store can in one go
		b.turns = nil
	}
	if len(b.outs) == 0 {
		return nil
	}
	if err := m.move(ctx, tx, b); err != nil || !b.awaited {
		return err
	}
	return m.after(ctx, tx, b.ended(), true)
}

// takeBatch takes what is pending, sorted, and the slots that hand-ons may use.
func (m *Manager) takeBatch(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.taken = true
	m.untaken--
	n := min(len(m.pending), m.cfg.FinishBatch)
	if share := len(m.runs) / maxFlushes; share >= busy && m.pending[0].run.row.Turn { // those in line behind them start in two flights, too
		n = min(n, share)
	}
	m.taken = max(n, m.taken*7/8)
	b.kept = append(b.kept[:0], m.pending[:n]...)
	b.outs = b.kept
	rest := copy(m.pending, m.pending[n:])
	clear(m.pending[rest:])
	m.pending = m.pending[:rest]
	if rest > 0 {
		poke(m.pump)
	}
	slices.SortFunc(b.outs, func(x, y *outcome) int { return byJob(x.run, y.run) })
	b.moves = slices.Grow(b.moves, n)
	m.allowStart(b)
}

// allowStart reserves a slot for each turn that the batch may hand on. Manager.mu is held.
func (m *Manager) allowStart(b *batch) {
	for _, o := range b.outs {
		if o.run.row.Sync.Kind != "" {
			b.freed++
		}
	}
	if b.freed == 0 || m.fin == nil || m.remote || m.hold || m.closed() || m.stopping || m.adopt || m.bound.release == nil {
		return
	}
	c := Claim{Session: m.bound.token, Kinds: m.served}
	if c.Free, c.Max = m.take(b.freed); c.Max > 0 {
		b.start = c
		m.starting++
	}
}

// giveUpStart makes a batch that was not stored, as far as is known, start nothing: what it started, if it happened, is
// adopted.
func (m *Manager) giveUpStart(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.started = nil
	if b.start.Max == 0 {
		return
	}
	m.giveBack(b.start.Free)
	m.starting--
	m.adopt = true
	b.start = Claim{}
	poke(m.wake)
}

// stillTrusted drops what can no longer be written and says whether anything is left to write.
func (m *Manager) stillTrusted(b *batch) bool {
	if !b.taken {
		m.mu.Lock()
		token := m.bound.token
		m.mu.Unlock()
		return m.trusted(token)
	}
	kept := b.outs[:0]
	var dropped []*outcome
	for _, o := range b.outs {
		if !o.run.isLost() && m.trusted(*o.run.token) {
			kept = append(kept, o)
		} else {
			dropped = append(dropped, o)
		}
	}
	b.outs = kept
	m.settle(dropped)
	for _, o := range dropped {
		m.meters.stale(o.run, "store away")
	}
	return len(kept) > 0
}

// putBack returns a batch that was not stored.
func (m *Manager) putBack(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append(b.outs, m.pending...)
	b.outs = nil
}

// finish decides each outcome and writes the batch.
func (m *Manager) finish(ctx context.Context, tx store.Tx, b *batch) error {
	if err := m.readSeals(ctx, tx, b.outs); err != nil {
		return err
	}
	if err := m.readChildren(ctx, tx, b.outs); err != nil {
		return err
	}
	if err := m.readEntered(ctx, tx, b.outs); err != nil {
		return err
	}
	b.moves = slices.Grow(b.moves[:0], len(b.outs))
	for _, o := range b.outs {
		mv, note := m.decide(o, tx.Now)
		mv.Notes = m.runNotes(o, &mv, note)
		b.moves = append(b.moves, mv)
	}
	if err := m.move(ctx, tx, b); err != nil {
		return err
	}
	if err := m.settleRefused(ctx, tx, b); err != nil {
		return err
	}
	if err := m.announce(ctx, tx, b); err != nil {
		return err
	}
	return m.settleParked(ctx, tx, b)
}

// move writes the moves, and starts what they hand on if the store can.
func (m *Manager) move(ctx context.Context, tx store.Tx, b *batch) error {
	if m.fin == nil {
		done, err := m.store.Move(ctx, tx, b.moves)
		b.done, b.awaited = done, true
		return err
	}
	got, err := m.fin.Finish(ctx, tx, Finish{Moves: b.moves, Start: b.start, Turns: b.turns})
	b.done, b.started, b.awaited, b.parked = got.Done, got.Started, got.Awaited, got.Parked
	return err
}

// settleRefused looks at moves that were refused because a cancel request came first: those jobs are cancelled.
func (m *Manager) settleRefused(ctx context.Context, tx store.Tx, b *batch) error {
	var ids []string
	at := map[string]int{}
	for i, mv := range b.moves {
		if !b.done[i] && mv.Uncancelled {
			ids = append(ids, mv.ID)
			at[mv.ID] = i
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := m.store.List(ctx, tx, Find{IDs: ids, Limit: len(ids)})
	if err != nil {
		return err
	}
	var again []Move
	for _, row := range found.Rows {
		i := at[row.ID]
		if row.State == Running && row.Epoch == b.moves[i].Epoch && !row.CancelAt.IsZero() {
			b.moves[i] = m.cancelledMove(b.outs[i], row.CancelReason, tx.Now)
			b.moves[i].Notes = m.runNotes(b.outs[i], &b.moves[i], nil)
			again = append(again, b.moves[i])
		}
	}
	if len(again) == 0 {
		return nil
	}
	done, err := m.store.Move(ctx, tx, again)
	if err != nil {
		return err
	}
	b.awaited = true
	for j, mv := range again {
		b.done[at[mv.ID]] = done[j]
	}
	return nil
}

// flushed ends a flush: what it started runs, what it wrote is settled.
func (m *Manager) flushed(b *batch) {
	m.meters.handedOn(b.started, b.began)
	m.start(b.started, b.start, b.began)
	m.mu.Lock()
	m.flushes--
	if !b.taken {
		m.untaken--
	}
	if b.start.Max > 0 {
		m.starting--
		m.starts++
	}
	if b.freed > b.start.Max && len(b.outs) > 0 {
		m.more = true
	}
	m.mu.Unlock()
	m.settle(b.outs)
	m.meters.since(m.meters.finishes, b.began)
	ended := tallyOf(m.meters.nFinished)
	for i, o := range b.outs {
		m.meters.finished(o, &b.moves[i], b.done[i], ended)
		if b.moves[i].To == Scheduled && b.done[i] {
			m.dueAt(o.wait)
		}
	}
	ended.flush()
	m.waits.finished(b.outs)
}

// settle forgets runs whose outcome is stored or dropped.
func (m *Manager) settle(outs []*outcome) {
	m.mu.Lock()
	for _, o := range outs {
		o.run.pool.unflushed--
		delete(m.runs, key{o.run.row.ID, o.run.row.Epoch})
	}
	flush, claim, idle := m.wantsFlush(), m.more && !m.stopping, m.empty()
	m.mu.Unlock()
	if flush {
		poke(m.pump)
	}
	if claim {
		poke(m.wake)
	}
	if idle {
		poke(m.idle)
	}
}

// logEach writes journal rows; those of jobs that are no longer ours are left out.
func (m *Manager) logEach(ctx context.Context, tx store.Tx, es []Entry) error {
	if len(es) == 0 {
		return nil
	}
	err := m.store.Log(ctx, tx, es)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	for _, e := range es {
		if err := m.store.Log(ctx, tx, []Entry{e}); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return nil
}
