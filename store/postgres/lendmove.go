package postgres

import (
	"context"
	"slices"

	"github.com/drover-cloud/drover/job"
)

// lineText is the key of the line that a row belongs to.
func (l *loaded) lineText() string {
	if l.line != "" {
		return l.line
	}
	return keyText(l.Sync)
}

// freedTurn is the turn that a row gives up.
func (l *loaded) freedTurn() freed {
	f := freed{key: l.lineText(), floor: l.Place, slot: l.slot.Int64}
	if l.raw&flagLends != 0 {
		f.lender = lender{l.Seq, l.ID, keyText(l.Sync)}
	}
	return f
}

// settleLending decides what depends on who borrows: a lender whose turn is out waits for it, or is recalled; a borrower that
// comes to wait finds its lender. It adds the lines that are to be looked at afterwards.
func (p *plan) settleLending(ctx context.Context) error {
	var subs []string
	for _, c := range p.moved {
		switch {
		case c.m.To == "":
			continue
		case c.raw&flagLends != 0:
			sub := lender{c.Seq, c.ID, keyText(c.Sync)}.line()
			if c.held && (c.m.To == job.Ready || c.m.Unmark&job.Lending != 0) {
				subs = append(subs, sub)
			}
			p.turns = append(p.turns, freed{key: sub})
		}
		if isLent(c.line) && c.part == 1 && (c.mode == modeArrival || c.mode == modeWaiting) && c.m.To != job.Waiting {
			p.turns = append(p.turns, freed{key: c.line})
		}
		if c.needTurn && c.Lender != "" {
			l, ok, err := p.borrowFrom(ctx, c.Lender, keyText(c.Sync))
			if err != nil {
				return err
			}
			if c.line = ""; ok {
				c.line = l.line()
			}
			if l.id != c.Lender {
				c.Lender = l.id
				if _, err := p.exec(ctx, `UPDATE @job SET lender = $2::uuid WHERE id = $1::uuid`, c.ID, nullText(l.id)); err != nil {
					return err
				}
			}
		}
	}
	if len(subs) == 0 {
		return nil
	}
	slices.Sort(subs)
	lines, err := p.lines(ctx, slices.Compact(subs))
	if err != nil {
		return err
	}
	out := map[string]bool{}
	for i := range lines {
		out[lines[i].lent.id] = len(lines[i].slots) > 0
	}
	for _, c := range p.moved {
		if c.m.To == "" || !c.held || !out[c.ID] {
			continue
		}
		if c.m.To == job.Ready {
			c.recall = true
		} else if c.m.Unmark&job.Lending != 0 && c.wasLending {
			c.Flags |= job.Lending | job.Recalled
			c.raw |= int64(job.Lending | job.Recalled)
		}
	}
	return nil
}
