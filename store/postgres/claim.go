package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// claims are the forms of sqlClaim: [behind the last one, from the head, only some by name][oldest first].
var claims = func() (all [3][2]string) {
	for form := range 3 {
		for oldest := range 2 {
			q := sqlClaim
			if form >= formHead {
				part := strings.Split(q, "/*from*/")
				q = strings.Replace(part[0], "\nWITH me AS", sqlHeads, 1) + sqlFromHeads + part[2] + sqlTellHeads
			}
			if oldest == 1 {
				q = strings.NewReplacer("/*oldest", "", "oldest*/", "").Replace(q)
			}
			if form == formOnly {
				part := strings.Split(q, "/*halted*/")
				q = strings.NewReplacer("/*only", "", "only*/", "").Replace(part[0] + stopped + part[2])
			}
			all[form][oldest] = q
		}
	}
	return all
}()

const (
	formHead = 1 + iota
	formOnly
)

// candidate is a row that a claim met.
type candidate struct {
	position
	id, kind, key, queue string
	place                int64
	class                int64
}

// probeEvery is how often a claim that came back full is followed by a probe.
const probeEvery = 100 * time.Millisecond

// claiming is one call of Claim.
type claiming struct {
	*tx
	job.Claim
	got    []job.Row
	left   []candidate
	parked int64
	cut    bool // waiters filled a look: what is behind them was not seen
	full   bool
}

func (j jobs) Claim(ctx context.Context, x store.Tx, c job.Claim) (out job.Claimed, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	cl := &claiming{tx: t, Claim: c, got: c.Into[:0]}
	if c.Max > 0 {
		if err := cl.all(ctx); err != nil {
			return out, fmt.Errorf("postgres: claim: %w", err)
		}
	}
	out.Rows, out.More = cl.got, c.Seqs == nil && (cl.full || cl.cut || len(cl.left) > 0)
	if !t.s.every(t.s.probes, c.Session.Epoch, probeEvery) && cl.full {
		return out, nil
	}
	return out, cl.probe(ctx, &out)
}

// all claims from every queue that has room, by name.
func (cl *claiming) all(ctx context.Context) error {
	for again := false; ; again = true {
		for _, q := range cl.queues() {
			if n := min(cl.Free[q], cl.Max-len(cl.got)); n > 0 {
				if err := cl.queue(ctx, q, n); err != nil {
					return err
				}
			}
		}
		if err := cl.foreign(ctx); err != nil {
			return err
		}
		retry, err := cl.leftovers(ctx)
		if err != nil {
			return err
		}
		if !retry || again {
			break
		}
		cl.left = nil
	}
	sortStarted(cl.got, cl.Oldest)
	return cl.extras(ctx, cl.got)
}

func (cl *claiming) queues() (names []string) {
	for q, n := range cl.Free {
		if n > 0 {
			names = append(names, q)
		}
	}
	slices.Sort(names)
	return names
}

// queue claims from the cursor, and if that was not enough from the head, as often as it may.
func (cl *claiming) queue(ctx context.Context, queue string, n int) error {
	if cl.Seqs != nil {
		_, err := cl.look(ctx, nil, nil, lookHead, queue, n)
		return err
	}
	cur := cl.s.cursor(cl.Session.Epoch, queue, cl.Kinds)
	for short := false; ; short = true {
		from, mode := cl.s.from(cur, short)
		if short && mode != lookHead {
			return nil
		}
		met, err := cl.look(ctx, cur, from, mode, queue, n)
		if err != nil || met >= n {
			cl.full = cl.full || err == nil
			return err
		}
		if n -= met; mode == lookHead {
			return nil
		}
	}
}

func (cl *claiming) look(ctx context.Context, cur *cursor, from []position, mode lookMode, queue string, n int) (int, error) {
	form := 0
	if mode == lookHead {
		from, form = nil, formHead
	}
	if cl.Seqs != nil {
		form = formOnly
	}
	prios, ats, seqs := make([]int64, len(from)), make([]time.Time, len(from)), make([]int64, len(from))
	for i, p := range from {
		prios[i], ats[i], seqs[i] = int64(p.priority), p.runAt, p.seq
	}
	oldest := 0
	if cl.Oldest && (mode == lookHead || len(from) > 1) {
		oldest = 1
	}
	began, parked := cl.s.env.Clock.Now(), cl.parked
	var met, heads []position
	s := starter{candidate: candidate{queue: queue}, session: cl.Session.Node, sessionEpoch: cl.Session.Epoch}
	err := cl.swift(ctx, claims[form][oldest], func(scan func(...any) error) error {
		if err := s.scan(scan); err != nil {
			return err
		}
		switch s.what {
		case 1, 4:
			if len(cl.got) == cap(cl.got) && cl.got != nil { // it may well be a full batch
				cl.got = slices.Grow(cl.got, n)
			}
			if err := cl.add(&s); err != nil {
				return err
			}
			met = append(met, s.position)
		case 2:
			c := s.candidate
			c.queue, c.class = queue, s.epoch
			cl.left = append(cl.left, c)
			met = append(met, s.position)
		case 3:
			cl.parked += s.seq
		case 5:
			heads = append(heads, position{priority: s.priority})
		}
		return nil
	}, append([]any{queue, n, cl.Session.Epoch, prios, ats, seqs, list(cl.Kinds)}, cl.only8()...)...)
	if err != nil {
		return 0, err
	}
	if len(met) > 0 {
		cl.saw(s.now)
	}
	if cl.Seqs != nil {
		return len(met), nil // what others are there was not looked at
	}
	cl.cut = cl.cut || cl.parked > parked && len(met)+int(cl.parked-parked) >= n
	cl.s.seen(cur, mode, cl.s.env.Clock.Now().Sub(began), len(met) >= n, append(heads, met...))
	return len(met), nil
}

// only8 is the argument that formOnly has more.
func (cl *claiming) only8() []any {
	if cl.Seqs == nil {
		return nil
	}
	return []any{cl.Seqs}
}

func sortStarted(rows []job.Row, oldest bool) {
	order := func(a, b *job.Row) int {
		p := cmp.Compare(a.Priority, b.Priority)
		if oldest {
			p = 0
		}
		return cmp.Or(p, a.RunAt.Compare(b.RunAt), cmp.Compare(a.Seq, b.Seq))
	}
	for i := 1; i < len(rows); i++ { // mostly they are in order already, and rows are large
		if order(&rows[i-1], &rows[i]) > 0 {
			slices.SortFunc(rows, func(a, b job.Row) int { return order(&a, &b) })
			return
		}
	}
}
