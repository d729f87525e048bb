package memory

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// admitMax bounds the turns that one claim gives to jobs it cannot take itself.
const admitMax = 500

// Claim checks the session only if it may start something.
func (j jobs) Claim(_ context.Context, x store.Tx, c job.Claim) (job.Claimed, error) {
	t, err := j.s.of(x)
	if err != nil {
		return job.Claimed{}, err
	}
	if c.Max > 0 && !j.s.sessionLive(c.Session.Epoch, t.now) {
		return job.Claimed{}, store.ErrConflict
	}
	var out job.Claimed
	d := t.dealer(c)
	if c.Max > 0 {
		d.rows = slices.Grow(c.Into[:0], d.expected())
		for r := d.next(); r != nil; r = d.next() {
			if j.s.jobs.needsTurn(r) && r.State == job.Ready && !r.Turn { // its kind became limited meanwhile
				t.update(r, func(r *rec) { r.joinLine(t) })
			} else {
				d.start(r)
			}
			j.s.jobs.settle(t, nil) // a line with more turns offers its next
		}
		out.Rows = d.rows
		d.admit()
		j.s.jobs.settle(t, nil)
	}
	out.More = d.more()
	j.s.probe(t, c, &out)
	return out, nil
}

// probe answers what else a round has to do, from the heads of the indexes.
func (s *Store) probe(t *tx, c job.Claim, out *job.Claimed) {
	out.Sweep = s.sweepable(t.now)
	if c.Max == 0 {
		out.Settings = s.jobs.settingsOn()
	}
	if h := s.jobs.sessions[c.Session.Epoch]; h != nil {
		out.Cancels = h.cancels.n > 0
	}
	at := func(when time.Time) {
		switch {
		case !when.After(t.now):
			out.Due = true
		case out.Next.IsZero() || when.Before(out.Next):
			out.Next = when
		}
	}
	if r := s.jobs.due.first(); r != nil {
		at(r.RunAt)
	}
	if r := s.jobs.deadlines.first(); r != nil {
		at(r.Deadline)
	}
	if r := s.jobs.wakes.first(); r != nil {
		at(r.waits.wakeAt)
	}
}

// sweepable tells whether sessions are over, or dead ones still run jobs. It looks at one session per node, and one per node that
// runs something: dead ones that are only kept cost nothing.
func (s *Store) sweepable(now time.Time) bool {
	for _, r := range s.leases.open { // any of them will do
		if !s.isLive(r, now) {
			return true
		}
	}
	for epoch := range s.jobs.sessions { // likewise
		if r := s.leases.sessions[epoch]; r != nil && r.State == lease.Dead {
			return true
		}
	}
	return false
}

// sessionBusy tells whether a running job refers to the session: its row must not be forgotten.
func (s *Store) sessionBusy(epoch int64) bool { return s.jobs.sessions[epoch] != nil }

// dealer gives jobs to one session, within its limits.
type dealer struct {
	t     *tx
	c     job.Claim
	mine  []*bucket // that match c
	free  map[*bucket]*int
	only  []*rec // with c.Seqs
	epoch int64  // of all it starts
	rows  []job.Row
}

func (t *tx) dealer(c job.Claim) *dealer {
	d := &dealer{t: t, c: c, free: map[*bucket]*int{}}
	settings := t.s.jobs.settings
	if c.Seqs == nil && settings[job.Maintenance] {
		return d
	}
	for name, n := range c.Free { // order does not matter: next compares all
		q := t.s.jobs.queues[name]
		if q == nil || n <= 0 || settings[job.Paused(name)] {
			continue
		}
		for _, kind := range c.Kinds {
			if b := q.kinds[kind]; b != nil {
				d.mine = append(d.mine, b)
				d.free[b] = &n
			}
		}
	}
	d.only = t.s.jobs.withSeqs(c.Seqs)
	slices.SortFunc(d.only, func(a, b *rec) int {
		if before(a, b, c.Oldest) {
			return -1
		}
		return 1
	})
	return d
}

// withSeqs are the rows of these numbers that are there.
func (j *jobTables) withSeqs(seqs []int64) (rows []*rec) {
	for _, seq := range slices.Compact(slices.Sorted(slices.Values(seqs))) {
		for r := range j.bySeq.after(seq-1, math.MaxInt64) {
			if r.Seq == seq {
				rows = append(rows, r)
			}
			break
		}
	}
	return rows
}

// nextOnly is next of those asked for by name.
func (d *dealer) nextOnly() *rec {
	for _, r := range d.only {
		claimable := r.State == job.Ready || r.State == job.Waiting && d.t.s.jobs.lines[r.lineKey()].offered == r
		if n := d.free[r.bucket]; claimable && n != nil && *n > 0 {
			return r
		}
	}
	return nil
}

// expected bounds how many it will start.
func (d *dealer) expected() int {
	n := 0
	for _, b := range d.mine {
		for _, l := range b.levels {
			n += l.rows.n
		}
	}
	return min(n, d.c.Max)
}

// next is the job to start now, nil at the end.
func (d *dealer) next() *rec {
	var next *rec
	if len(d.rows) >= d.c.Max {
		return nil
	}
	if d.c.Seqs != nil {
		return d.nextOnly()
	}
	for _, b := range d.mine {
		if *d.free[b] == 0 {
			continue
		}
		if r := b.first(d.c.Oldest); r != nil && (next == nil || before(r, next, d.c.Oldest)) {
			next = r
		}
	}
	return next
}

// takes tells whether r may start here and now.
func (d *dealer) takes(r *rec) bool {
	n := d.free[r.bucket]
	return n != nil && *n > 0 && len(d.rows) < d.c.Max
}

// start makes r running; a waiter gets its turn with it.
func (d *dealer) start(r *rec) {
	if d.epoch == 0 {
		d.epoch = d.t.nextEpoch()
	}
	*d.free[r.bucket]--
	wakes := r.Wakes
	d.t.update(r, func(r *rec) {
		if d.t.s.jobs.needsTurn(r) {
			r.takeTurn(d.t, d.t.s.jobs.lineOf(r.lineKey()))
		}
		r.State, r.Epoch, r.Started, r.Wakes = job.Running, d.epoch, d.t.now, nil
		r.Session, r.SessionEpoch = d.c.Session.Node, d.c.Session.Epoch
		r.Runs++
		if r.RunUntil = (time.Time{}); r.Timeout > 0 {
			r.RunUntil = normal(d.t.now.Add(r.Timeout))
		}
		if !r.Deadline.IsZero() && (r.RunUntil.IsZero() || r.Deadline.Before(r.RunUntil)) {
			r.RunUntil = r.Deadline
		}
	})
	row := r.out()
	row.Wakes = wakes
	d.rows = append(d.rows, row)
}

// admit gives free turns to heads of lines that this claim cannot take: others may.
func (d *dealer) admit() {
	for _, b := range d.t.s.jobs.buckets {
		if d.free[b] != nil {
			continue
		}
		for n := 0; b.offers.n > 0 && n < admitMax; n++ {
			d.t.grant(d.t.s.jobs.lines[b.offers.first().lineKey()], nil)
		}
	}
}

// more tells whether a claim would find something: for this node, or to admit for others.
func (d *dealer) more() bool {
	if d.c.Seqs != nil {
		return false
	}
	for _, b := range d.mine {
		if len(b.levels) > 0 {
			return true
		}
	}
	if len(d.mine) > 0 {
		for _, b := range d.t.s.jobs.buckets {
			if b.offers.n > 0 && d.free[b] == nil {
				return true
			}
		}
	}
	return false
}
