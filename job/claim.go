package job

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// oldestEvery is how often a claim takes the oldest jobs whatever their priority, so that none starves.
const oldestEvery = 10

func (m *Manager) wantsClaim() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.more && !m.stopping && m.anyFree()
}

// claim takes jobs for the free slots and starts them.
func (m *Manager) claim(ctx context.Context) error {
	var c Claim
	var got Claimed
	var at time.Time
	in := m.inOne
	m.mu.Lock()
	closed := m.closed()
	m.mu.Unlock()
	if closed || m.heard() {
		in = m.inTx
	}
	err := in(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		if c.Max == 0 && !m.reserve(&c, closed) {
			return nil
		}
		at, c.Seqs = m.env.Clock.Now(), nil
		if closed {
			if c.Seqs, err = m.kin(ctx, tx); err != nil || len(c.Seqs) == 0 {
				return err
			}
		}
		if got, err = m.store.Claim(ctx, tx, c); err != nil {
			return err
		}
		m.leave(&got)
		if len(got.Rows) > 0 { // Started is now; without any, the next probe tells what is due
			m.noteNext(got.Rows[0].Started, &got)
		}
		return m.publishAll(ctx, tx, began, got.Rows)
	})
	m.meters.since(m.meters.claims, at)
	m.claimed(&c, &got, err)
	m.start(got.Rows, c, at)
	switch {
	case err == nil:
		m.spareRows(got.Rows, c.Into)
	case errors.Is(err, store.ErrConflict): // the store says that the session is over: it will notice
		m.log.Debug("job claim refused: session not live")
		return nil
	}
	return err
}

// reserve takes the free slots for a claim. It is called inside the transaction; closed is what the claim is made for.
func (m *Manager) reserve(c *Claim, closed bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.more = false
	if m.stopping {
		return false
	}
	if m.closed() != closed {
		m.more = true
		return false
	}
	c.Session, c.Kinds = m.bound.token, m.served
	c.Free, c.Max = m.take(m.cfg.ClaimBatch)
	if c.Max == 0 {
		m.more = true
		return false
	}
	if !m.heard() { // sinks may keep rows
		c.Into, m.spare.rows = m.spare.rows, nil
	}
	m.round.claims++
	c.Oldest = m.round.claims%oldestEvery == 0
	return true
}

// spareRows keeps the memory of a claim's rows, which runs have copied, for the next one.
func (m *Manager) spareRows(rows, into []Row) {
	if m.heard() {
		return
	}
	if cap(rows) == 0 {
		rows = into
	}
	clear(rows)
	m.mu.Lock()
	m.spare.rows = rows[:0]
	m.mu.Unlock()
}

// claimed notes what a claim told.
func (m *Manager) claimed(c *Claim, got *Claimed, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Max == 0 {
		return
	}
	if err != nil {
		m.adopt = !errors.Is(err, store.ErrConflict)
		m.more = m.adopt
		got.Rows = nil
		return
	}
	m.hold = len(got.Rows) >= c.Max && slices.ContainsFunc(got.Rows, func(r Row) bool { return !r.handedOn() }) // what claims find first is what hand-ons could have started
	m.more = m.more || got.More || len(got.Rows) >= c.Max
	m.cancels = m.cancels || got.Cancels
	if m.remote && len(got.Rows) > 0 && !m.tick.IsZero() {
		m.empties, m.tick = 0, earliest(m.tick, m.env.Clock.Now().Add(m.cfg.Poll))
	}
	if got.Sweep || got.Due {
		m.tick = time.Time{}
	}
}

// handedOn says that the job, which starts for the first time, has been given its turn while it could not start at once.
func (r *Row) handedOn() bool { return r.Turn && r.Runs == 1 && r.Rev > 2 }

// adoptUnknown starts jobs that run under this session in the store only: a claim whose commit seemed to fail has
// happened. It waits until no flush is under way that might start jobs.
func (m *Manager) adoptUnknown(ctx context.Context) error {
	m.mu.Lock()
	if !m.adopt || m.starting > 0 {
		m.mu.Unlock()
		return nil
	}
	token, starts := m.bound.token, m.starts
	known := make(map[key]bool, len(m.runs))
	for k := range m.runs {
		known[k] = true
	}
	m.mu.Unlock()
	rows, err := m.runningUnder(ctx, token)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.starting > 0 || m.starts != starts {
		m.mu.Unlock()
		return nil // next round
	}
	m.adopt = false
	m.mu.Unlock()
	unknown := rows[:0]
	for _, r := range rows {
		if !known[key{r.ID, r.Epoch}] {
			unknown = append(unknown, r)
		}
	}
	m.start(unknown, Claim{Session: token}, m.env.Clock.Now())
	return nil
}

func (m *Manager) runningUnder(ctx context.Context, token lease.Token) (rows []Row, err error) {
	err = m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		found, err := m.store.List(ctx, tx, Find{Sessions: []int64{token.Epoch}, Limit: maxWorkers})
		rows = found.Rows
		return err
	})
	return rows, err
}
