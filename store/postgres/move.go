package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Move is the general way of every transition: lock, read, decide in Go, write set by set. What is hot goes another way:
// Claim, sqlFinish, sqlHandOn.
func (j jobs) Move(ctx context.Context, x store.Tx, ms []job.Move) ([]bool, error) {
	t, err := j.s.of(x)
	if err != nil || len(ms) == 0 {
		return nil, err
	}
	done, turns, _, err := t.move(ctx, ms)
	if err == nil && len(turns) > 0 {
		_, err = t.handOn(ctx, turns, job.Claim{})
	}
	if err != nil {
		return nil, fmt.Errorf("postgres: move: %w", err)
	}
	return done, nil
}

const (
	// underRegime is true; it is in statements that lock rows, so that the lock of drover_regime comes before theirs.
	underRegime = `(SELECT count(*) FROM @regime) >= 0`

	// Rows of lines first, then those of holders and runs: the order of claims. By drover_job_pkey and drover_pend_seq.
	sqlLockPend = `
SELECT 1 FROM @pend WHERE ` + underRegime + ` AND seq = ANY (ARRAY(SELECT seq FROM @job WHERE id = ANY ($1::uuid[]))) ORDER BY seq FOR UPDATE`
	sqlLockActive = `SELECT 1 FROM @active WHERE ` + underRegime + ` AND id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE`
	sqlLockDone   = `SELECT 1 FROM @done WHERE ` + underRegime + ` AND seq = ANY (ARRAY(SELECT seq FROM @job WHERE id = ANY ($1::uuid[]))) ORDER BY seq FOR UPDATE`
)

func nothing(func(...any) error) error { return nil }

// move does ms and answers the turns it freed, and whether somebody may have joined what is final now.
func (t *tx) move(ctx context.Context, ms []job.Move) (done []bool, turns []freed, awaited bool, err error) {
	var all []string
	var pend, active, gone bool
	for i := range ms {
		all = append(all, ms[i].ID)
		active = active || ms[i].From == job.Running || !final(ms[i].From)
		pend = pend || ms[i].From != job.Running && !final(ms[i].From)
		gone = gone || final(ms[i].From)
	}
	all = ids(all)
	for _, lock := range []struct {
		want bool
		q    string
	}{{pend, sqlLockPend}, {active, sqlLockActive}, {gone, sqlLockDone}} {
		if lock.want {
			if err := t.query(ctx, lock.q, nothing, all); err != nil {
				return nil, nil, false, err
			}
		}
	}
	rows, err := t.load(ctx, all)
	if err != nil {
		return nil, nil, false, err
	}
	byID := make(map[string]*loaded, len(rows))
	for _, l := range rows {
		byID[l.ID] = l
	}
	p := &plan{tx: t}
	done = make([]bool, len(ms))
	for i := range ms {
		if l := byID[ms[i].ID]; l != nil {
			done[i] = p.decide(l, &ms[i])
		}
	}
	if err := p.number(ctx); err != nil {
		return nil, nil, false, err
	}
	return done, p.turns, p.awaited, p.write(ctx)
}

// legal tells the transitions that callers may ask for, whatever the row.
func legal(from, to job.State) bool {
	switch {
	case final(from):
		return to == ""
	case to == "", from == job.Waiting && to == job.Ready, to == job.Running && from != job.Running, to == job.Waiting && from != job.Waiting:
		return false
	}
	return true
}

// plan is what a batch of moves writes.
type plan struct {
	*tx
	now   time.Time
	moved []*change
	turns []freed

	awaited bool
}

// change is one row on its way.
type change struct {
	*loaded
	m        *job.Move
	needTurn bool // ready if it needs no turn
	held     bool // keeps the turn it holds
	arrival  bool // was first to be looked at in its line
	side     bool // drover_extra is to be written
	noted    bool // only drover_extra is to be written
	place    bool // draws one
	recall   bool // waits for its own turn

	was        string // its line before
	wasLending bool
}

// decide tells whether m is done, and plans it if it changes anything.
func (p *plan) decide(l *loaded, m *job.Move) bool {
	if l.State != m.From || l.Epoch != m.Epoch || m.Uncancelled && !l.CancelAt.IsZero() {
		// Repeated after a commit whose answer was lost: it left Running at this very epoch.
		return m.From == job.Running && m.To != job.Running && l.State != job.Running && l.Epoch == m.Epoch && m.Epoch != 0
	}
	if !legal(m.From, m.To) || m.Park != nil && m.To != job.Parked {
		return false
	}
	c := &change{loaded: l, m: m, arrival: l.part == 1 && l.mode == modeArrival}
	p.moved = append(p.moved, c)
	p.awaited = p.awaited || final(m.To) && l.raw&flagAwaits != 0
	if m.To == "" {
		return true
	}
	c.held = l.Turn && !m.Free && !final(m.To)
	if l.Turn && !c.held {
		p.turns = append(p.turns, l.freedTurn())
	}
	c.was, c.wasLending = l.lineText(), l.Flags&job.Lending != 0
	c.set()
	if m.To == job.Running {
		c.side = true
		c.noted = !m.Raise && !m.Free && m.RunAt.IsZero() && m.Attempt == 0 && m.Lost == 0 && !m.ResetLost && m.Priority == nil && m.Unmark == 0 && m.Mark&job.Lending == 0
	}
	c.needTurn = m.To == job.Ready && !c.held && l.Sync.Kind != ""
	c.Turn = c.held
	return true
}

// set copies the fields of the move that are not zero.
func (c *change) set() {
	m, r := c.m, &c.loaded.Row
	if !m.RunAt.IsZero() {
		r.RunAt = m.RunAt.UTC().Truncate(time.Microsecond)
	}
	if m.Attempt != 0 {
		r.Attempt = m.Attempt
	}
	if m.Lost != 0 || m.ResetLost {
		r.Lost = m.Lost
	}
	if m.Priority != nil {
		r.Priority = *m.Priority
	}
	r.Flags = r.Flags&^m.Unmark | m.Mark
	if m.From == job.Running && m.To != job.Running {
		r.Flags &^= job.Lending | job.Recalled
	}
	c.raw = c.raw&^flagMask | int64(r.Flags)
	toFinal := final(m.To)
	if m.Result != nil {
		r.Result = m.Result
		c.side = c.side || !toFinal
	}
	if m.Error != nil {
		r.Error = m.Error
		c.side = c.side || !toFinal
	}
	if m.Progress != nil {
		r.Progress, c.side = *m.Progress, true
	}
	if m.Wakes != nil {
		r.Wakes, c.side = m.Wakes, true
	}
	if m.Cancel != nil && r.CancelAt.IsZero() {
		r.CancelAt, r.CancelBy, r.CancelReason = m.Cancel.At.UTC().Truncate(time.Microsecond), m.Cancel.By, m.Cancel.Reason
		c.side = true
	}
	if c.loaded.extra { // flags and the open cancel request stand there too
		c.side = true
	}
}

// number draws epochs and places, and reads now and who needs a turn.
func (p *plan) number(ctx context.Context) error {
	p.now = p.Now()
	if err := p.settleLending(ctx); err != nil {
		return err
	}
	var keys []string
	epochs := 0
	for _, c := range p.moved {
		if c.m.Cancel != nil && c.m.Cancel.At.IsZero() && c.CancelBy == c.m.Cancel.By && c.CancelAt.IsZero() {
			c.CancelAt = p.now
		}
		if c.m.Raise {
			epochs++
		}
		if c.needTurn && !isLent(c.line) {
			keys = append(keys, keyText(c.Sync))
		}
	}
	loose := map[string]bool{}
	if len(keys) > 0 {
		slices.Sort(keys)
		err := p.query(ctx, sqlLines, func(scan func(...any) error) error {
			var l line
			err := scan(&l.key, &l.limit, &l.paused, (*ints)(&l.slots), &l.slow)
			loose[l.key] = l.limit == 0 && !l.paused
			return err
		}, slices.Compact(keys))
		if err != nil {
			return err
		}
	}
	places := 0
	for _, c := range p.moved {
		c.needTurn = c.needTurn && (isLent(c.line) || !loose[keyText(c.Sync)])
		c.place = c.needTurn && c.Place == 0
		if c.place {
			places++
		}
	}
	if epochs+places == 0 {
		return nil
	}
	var es, ps ints
	err := p.query(ctx, `SELECT ARRAY(SELECT nextval('@epoch') FROM generate_series(1, $1::int)), ARRAY(SELECT nextval('@seq') FROM generate_series(1, $2::int))`,
		func(scan func(...any) error) error { return scan(&es, &ps) }, epochs, places)
	if err != nil {
		return err
	}
	for _, c := range p.moved {
		if c.m.Raise {
			c.Epoch, es = es[0], es[1:]
		}
		if c.place {
			c.Place, ps = ps[0]*syncqueue.Gap, ps[1:]
		}
	}
	return nil
}

// mode of drover_pend that the change leads to.
func (c *change) toMode() int16 {
	switch c.m.To {
	case job.Ready:
		switch {
		case c.recall:
			return modeRecalls
		case c.needTurn:
			return modeArrival
		case c.Sync.Kind == "" || c.held:
			return modeReady
		}
		return modeLoose
	case job.Scheduled:
		return modeScheduled
	case job.Waiting:
		return c.mode
	}
	return modeParked
}

// ranBefore: its RunAt is its row's own, not drover_job's.
func (c *change) ranBefore() bool { return c.Runs > 0 }
