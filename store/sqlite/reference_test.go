package sqlite_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// The same random operations leave the same jobs and lines as in the memory store, which is the reference.
func TestSameAsMemory(t *testing.T) {
	t.Parallel()
	seeds := 20
	switch {
	case testing.Short():
		seeds = 6
	case os.Getenv("DROVER_LONG") != "":
		seeds = 500
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newPair(t, uint64(seed)).run(80) })
	}
}

func (p *pair) run(ops int) {
	p.open()
	steps := []func(){p.insert, p.insert, p.insert, p.claim, p.claim, p.finish, p.finish, p.finish, p.due, p.cancel, p.signal, p.signal, p.policy, p.log, p.retain, p.restart, p.tick}
	for n := range ops {
		i := p.rnd.IntN(len(steps))
		steps[i]()
		p.compare(fmt.Sprintf("after step %d (kind %d)", n, i))
		if p.Failed() {
			return
		}
	}
}

func (p *pair) open() {
	p.same("open", func(ctx context.Context, s testkit.Stores, i int, tx store.Tx) (any, error) {
		t, err := s.Leases().Open(ctx, tx, lease.Info{Name: "n", State: lease.Active}, "p", time.Hour)
		p.token[i] = t
		return t.Epoch, err
	})
}

func (p *pair) tick() { p.clock.Advance(time.Duration(p.rnd.IntN(2000)) * time.Millisecond) }

func (p *pair) insert() {
	var rows []job.Row
	for range 1 + p.rnd.IntN(3) {
		r := p.row()
		rows = append(rows, r)
		if !slices.Contains(p.ids, r.ID) {
			p.ids = append(p.ids, r.ID)
		}
	}
	p.same("insert", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		out, err := s.Jobs().Insert(ctx, tx, slices.Clone(rows))
		for i := range out {
			out[i].Rev = 0
		}
		return out, err
	})
}

// row is a random request, at times in conflict with an earlier one.
func (p *pair) row() job.Row {
	p.names++
	now := p.clock.Now()
	r := job.Row{Job: job.Job{ID: fmt.Sprintf("%03d", p.names), Kind: p.pick("k1", "k2"), Queue: p.pick("q1", "q2"), Priority: p.rnd.IntN(3),
		Args: []byte(`{"a":1}`), Resource: p.pick("", "vm/1", "vm/2"), Sync: syncqueue.Key{Kind: p.pick("vm", "host"), ID: p.pick("1", "2")}}}
	if p.rnd.IntN(4) == 0 {
		r.Sync = syncqueue.Key{}
	}
	if p.rnd.IntN(5) == 0 {
		r.RunAt = now.Add(time.Duration(p.rnd.IntN(3000)) * time.Millisecond)
	}
	if p.rnd.IntN(5) == 0 {
		r.Deadline = now.Add(time.Duration(p.rnd.IntN(9000)) * time.Millisecond)
	}
	switch n := p.rnd.IntN(8); {
	case n == 0:
		r.Idem, r.Account = p.pick("i", "j"), p.pick("a", "b")
	case n == 1:
		r.Unique = p.pick("u", "w")
	case n == 2 && len(p.ids) > 0:
		r.Parent, r.Name, r.Root = p.ids[p.rnd.IntN(len(p.ids))], p.pick("x", "y"), p.ids[0]
	case n == 3 && len(p.ids) > 0:
		r.ID = p.ids[p.rnd.IntN(len(p.ids))]
	case n == 4:
		r.Timeout, r.Identity = time.Second, map[string]string{"account": "a"}
	}
	return r
}

func (p *pair) pick(ss ...string) string { return ss[p.rnd.IntN(len(ss))] }

func (p *pair) wants(i int) job.Claim {
	return job.Claim{Session: p.token[i], Kinds: []string{"k1", "k2"}, Free: map[string]int{"q1": 500, "q2": 500}, Max: 500}
}

func (p *pair) claim() {
	kinds := []string{"k1", "k2"}
	if p.narrow { // with more turns, who is next behind a head of another kind is met now or in the next claim
		kinds = kinds[p.rnd.IntN(2):]
	}
	oldest := p.rnd.IntN(4) == 0
	p.same("claim", func(ctx context.Context, s testkit.Stores, i int, tx store.Tx) (any, error) {
		c := p.wants(i)
		c.Kinds, c.Oldest = kinds, oldest
		got, err := s.Jobs().Claim(ctx, tx, c)
		got.Rows = plain(got.Rows)
		return got, err
	})
}

// live are the rows of a state in the memory store.
func (p *pair) live(states ...job.State) (rows []job.Row) {
	in(p, p.both[0], func(ctx context.Context, tx store.Tx) error {
		f, err := p.both[0].Jobs().List(ctx, tx, job.Find{Query: &job.Query{States: states, Limit: 500}})
		rows = f.Rows
		return err
	})
	return rows
}

// move is a random way out of running.
func (p *pair) move(r job.Row) job.Move {
	m := job.Move{ID: r.ID, From: job.Running, Epoch: r.Epoch, To: job.Succeeded, Result: []byte(`1`), Uncancelled: p.rnd.IntN(3) == 0}
	switch p.rnd.IntN(9) {
	case 0:
		m.To, m.Error = job.Failed, &job.Error{Code: "internal", Text: "no"}
	case 1:
		m.To, m.RunAt, m.Attempt = job.Scheduled, p.clock.Now().Add(time.Duration(p.rnd.IntN(2000))*time.Millisecond), r.Attempt+1
	case 2:
		m.To, m.Free = job.Parked, p.rnd.IntN(2) == 0
		if p.rnd.IntN(4) > 0 {
			m.Park = &job.Parking{Conditions: []byte(`{"c":1}`), Topics: []string{p.pick("t", "u"), "v"}, WakeAt: p.clock.Now().Add(time.Duration(p.rnd.IntN(3000)) * time.Millisecond)}
			for range p.rnd.IntN(4) {
				m.Park.Jobs = append(m.Park.Jobs, p.ids[p.rnd.IntN(len(p.ids))])
			}
		}
	case 3:
		m.To = job.Ready
	case 4:
		m.Epoch -= int64(p.rnd.IntN(3))
	case 5:
		m.To, m.Free, m.Result = job.Running, true, nil // the turn released early
	case 6:
		m.To, m.Result, m.Cancel, m.Uncancelled = job.Running, nil, &job.CancelRequest{By: "me", Reason: "why"}, false
	}
	return m
}

func (p *pair) finish() {
	var ms []job.Move
	for _, r := range p.live(job.Running) {
		if p.rnd.IntN(2) == 0 {
			ms = append(ms, p.move(r))
		}
	}
	start := p.rnd.IntN(2) == 0
	p.same("finish", func(ctx context.Context, s testkit.Stores, i int, tx store.Tx) (any, error) {
		if !start {
			return s.Jobs().Move(ctx, tx, ms)
		}
		out, err := s.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: ms, Start: p.wants(i)})
		out.Started = plain(out.Started)
		out.Awaited = false // one may say so without need
		return out, err
	})
	p.moves("repeat", slices.DeleteFunc(slices.Clone(ms), func(m job.Move) bool { return m.To == job.Running }))
}

func (p *pair) moves(what string, ms []job.Move) {
	p.same(what, func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		return s.Jobs().Move(ctx, tx, ms)
	})
}

func (p *pair) due() {
	var ms []job.Move
	p.same("due", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		f, err := s.Jobs().List(ctx, tx, job.Find{Due: "scheduled"})
		ms = nil
		for _, r := range f.Rows {
			ms = append(ms, job.Move{ID: r.ID, From: job.Scheduled, Epoch: r.Epoch, To: job.Ready})
		}
		d, err2 := s.Jobs().List(ctx, tx, job.Find{Due: "deadline"})
		return [][]job.Row{plain(f.Rows), plain(d.Rows)}, cmp.Or(err, err2)
	})
	for _, r := range p.live(job.Parked) {
		ms = append(ms, job.Move{ID: r.ID, From: job.Parked, Epoch: r.Epoch, To: job.Ready, Wakes: []job.Wake{{Why: "time", Payload: []byte("x")}}})
	}
	p.same("promote", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		return s.Jobs().Move(ctx, tx, ms)
	})
}

func (p *pair) cancel() {
	var ms []job.Move
	for _, r := range p.live(job.Waiting, job.Ready, job.Parked, job.Scheduled) {
		if p.rnd.IntN(4) == 0 {
			ms = append(ms, job.Move{ID: r.ID, From: r.State, Epoch: r.Epoch, To: job.Cancelled, Cancel: &job.CancelRequest{Reason: "r"}, Mark: job.Held})
		}
	}
	p.same("cancel", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		return s.Jobs().Move(ctx, tx, ms)
	})
}

// signal tells a topic, a job, and those who have joined what is final now.
func (p *pair) signal() {
	ss := []job.Signal{{Topic: p.pick("t", "u", "v"), Limit: 2, Payload: []byte(p.pick("1", "2"))}}
	if len(p.ids) > 0 {
		ss = append(ss, job.Signal{Topic: "job/" + p.ids[p.rnd.IntN(len(p.ids))]})
	}
	p.same("signal", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		f, err := s.Jobs().List(ctx, tx, job.Find{IDs: append([]string{}, p.ids...)})
		ended := job.Signal{Ended: []string{}}
		for _, r := range f.Rows {
			if r.State.Final() {
				ended.Ended = append(ended.Ended, r.ID)
			}
		}
		var seen []any
		for _, one := range append(ss, ended) {
			out, e := s.Jobs().Signal(ctx, tx, one)
			out.Rows = plain(out.Rows)
			seen, err = append(seen, out), cmp.Or(err, e)
		}
		due, e := s.Jobs().List(ctx, tx, job.Find{Due: "parked", Waits: true})
		return append(seen, plain(due.Rows)), cmp.Or(err, e)
	})
}

func (p *pair) policy() {
	row := syncqueue.PolicyRow{Kind: "host", Policy: syncqueue.Policy{Limit: p.rnd.IntN(4)}}
	if p.narrow {
		row.Limit = p.rnd.IntN(2)
	}
	switch p.rnd.IntN(4) {
	case 0:
		row = syncqueue.PolicyRow{Kind: "vm", ID: p.pick("1", "2"), Policy: syncqueue.Policy{Limit: 1, Paused: p.rnd.IntN(2) == 0}}
	case 1:
		row.ID, row.Limit = "1", 1
	}
	p.same("policy", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		return s.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{row})
	})
}

func (p *pair) log() {
	var es []job.Entry
	for _, r := range p.live(job.Running) {
		e := job.Entry{JobID: r.ID, Epoch: r.Epoch, Node: "n", Step: p.pick("", "s1", "s2"), Text: p.pick("", "note"), Data: []byte(`2`), Resource: p.pick("", "vm/3"), Topic: p.pick("", "t", "u")}
		switch p.rnd.IntN(4) {
		case 0:
			e.Progress = &job.Progress{Percent: p.rnd.IntN(100), Note: "n"}
		case 1:
			e.Mark = job.NoReturn
		case 2:
			e.Seal = &job.Seal{State: job.Failed, Error: &job.Error{Code: "c", Text: "t", Meta: map[string]string{"a": "b"}}}
		}
		es = append(es, e)
	}
	p.same("may fail", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		return nil, s.Jobs().Log(ctx, tx, es)
	})
}

func (p *pair) retain() {
	p.same("retain", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		f, err := s.Jobs().List(ctx, tx, job.Find{Due: "retain", Before: tx.Now().Add(-time.Second), NotKinds: []string{"k2"}, Limit: 3})
		var ms []job.Move
		for _, r := range f.Rows {
			ms = append(ms, job.Move{ID: r.ID, From: r.State, Epoch: r.Epoch})
		}
		if err == nil {
			_, err = s.Jobs().Move(ctx, tx, ms)
		}
		return plain(f.Rows), err
	})
}

// restart gives the node a new session, and the jobs of the old one away.
func (p *pair) restart() {
	if p.rnd.IntN(3) > 0 {
		return
	}
	p.open()
	p.same("sweep", func(ctx context.Context, s testkit.Stores, _ int, tx store.Tx) (any, error) {
		dead, err := s.Leases().Sweep(ctx, tx, 10)
		if err != nil {
			return nil, err
		}
		sessions := []int64{}
		for _, d := range dead {
			sessions = append(sessions, d.Epoch)
		}
		f, err := s.Jobs().List(ctx, tx, job.Find{Sessions: sessions, SkipLocked: true})
		slices.SortFunc(f.Rows, func(a, b job.Row) int { return cmp.Compare(a.Seq, b.Seq) })
		var ms []job.Move
		for _, r := range f.Rows {
			ms = append(ms, job.Move{ID: r.ID, From: job.Running, Epoch: r.Epoch, To: job.Ready, Raise: true, Lost: r.Lost + 1})
		}
		done, err2 := s.Jobs().Move(ctx, tx, ms)
		return []any{sessions, plain(f.Rows), done}, cmp.Or(err, err2)
	})
}
