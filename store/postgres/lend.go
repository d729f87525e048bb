package postgres

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// Borrowers of a turn stand in a line of their own. Its key is lentKind, then number and id of the lender, then their real key;
// its kind is in drover_regime, so that its one turn is granted under a row of drover_line only. A turn that a lender gave up
// while somebody borrows it is kept by a row of drover_active that stands for no job: its seq is the lender's, negative.
const (
	lentKind = "\x1d"
	heirMark = "\x1e" // in what sqlFinish answers

	sqlLender = `
SELECT j.seq, j.key, j.lender::text, EXISTS (SELECT 1 FROM @active a WHERE a.id = j.id AND a.key IS NOT NULL AND a.slot IS NOT NULL)
  OR EXISTS (SELECT 1 FROM @active g WHERE g.id = md5('lent' || j.id::text)::uuid)
FROM @job j WHERE j.id = $1::uuid`

	// The lender's rows are marked before the lock of the line is taken: locks of lines come last.
	sqlLendPend   = `UPDATE @pend SET flags = coalesce(flags, 0) | 8388608 WHERE seq = $1 AND coalesce(flags, 0) & 8388608 = 0`
	sqlLendActive = `UPDATE @active SET flags = coalesce(flags, 0) | 8388608 WHERE id = $1::uuid AND coalesce(flags, 0) & 8388608 = 0`

	// sqlLends: how the lenders $1, $2 of lines stand: do they lend; do they wait for their turn; have they been recalled; has
	// their turn been left to the borrowers.
	sqlLends = `
SELECT l.id::text, g.id IS NOT NULL OR a.slot IS NULL OR coalesce(p.mode = 5, false) OR a.session IS NOT NULL AND coalesce(a.flags, 0) & 1536 = 512,
  coalesce(p.mode = 6, false), a.session IS NOT NULL AND coalesce(a.flags, 0) & 1024 <> 0, g.id IS NOT NULL
FROM unnest($1::uuid[], $2::bigint[]) l(id, seq)
LEFT JOIN LATERAL (SELECT id, slot, session, flags FROM @active WHERE @active.id = l.id AND key IS NOT NULL OFFSET 0) a ON true
LEFT JOIN LATERAL (SELECT mode FROM @pend WHERE @pend.seq = l.seq OFFSET 0) p ON true
LEFT JOIN LATERAL (SELECT id FROM @active WHERE @active.id = md5('lent' || l.id::text)::uuid OFFSET 0) g ON true`

	// Who has locked the lender may wait for the lock of its line, so nobody waits for the lender under that lock.
	sqlGoesOn = `
UPDATE @pend SET mode = 0, rev = rev + 1, updated = now() WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM @pend WHERE seq = $1 AND mode = 6 FOR UPDATE SKIP LOCKED)) RETURNING queue, priority, run_at`
	sqlHasBack = `
UPDATE @active SET flags = flags & ~1536, rev = rev + 1 WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM @active WHERE id = $1::uuid AND session IS NOT NULL AND flags & 1024 <> 0 FOR NO KEY UPDATE SKIP LOCKED))`
	sqlHasBackX = `UPDATE @extra SET flags = flags & ~1536 WHERE id = $1::uuid AND flags & 1536 <> 0`

	sqlBorrowed = `SELECT EXISTS (SELECT 1 FROM @active WHERE key = $1) OR EXISTS (SELECT 1 FROM @pend WHERE key = $1 AND mode IN (1, 2))`
	sqlLeave    = `
INSERT INTO @active (id, seq, epoch, place, started, rev, runs, slot, key) VALUES (md5('lent' || $1::text)::uuid, -$2::bigint, 0, $3, now(), 0, 0, $4, $5)
ON CONFLICT (id) DO NOTHING RETURNING 1`
	sqlSpend = `DELETE FROM @active WHERE id = md5('lent' || $1::text)::uuid AND seq < 0 RETURNING key, coalesce(place, 0)`
)

// lender names a lender and the key its borrowers have.
type lender struct {
	seq int64
	id  string
	key string // text
}

// line is the key of those who borrow from it.
func (l lender) line() string {
	return lentKind + keySep + strconv.FormatInt(l.seq, 10) + "." + l.id + keySep + l.key
}

func isLent(key string) bool { return strings.HasPrefix(key, lentKind) }

// lenderOf reads the key of a line of borrowers.
func lenderOf(key string) (l lender, ok bool) {
	if !isLent(key) {
		return l, false
	}
	part := strings.SplitN(key, keySep, 3)
	if len(part) < 3 {
		return l, false
	}
	seq, id, _ := strings.Cut(part[1], ".")
	n, err := strconv.ParseInt(seq, 10, 64)
	return lender{n, id, part[2]}, err == nil
}

// realKey is the key that jobs in a line have.
func realKey(line string) syncqueue.Key {
	if l, ok := lenderOf(line); ok {
		return parseKey(l.key)
	}
	return parseKey(line)
}

// borrowFrom is whose turn a job of key borrows, that of id or of whom that borrows from; false if they have none any more. The
// line of who borrows from it stays locked, so that the turn is not given up without regard to this job.
func (t *tx) borrowFrom(ctx context.Context, id, key string) (l lender, ok bool, err error) {
	for id != "" && isID(id) {
		var has bool
		var seq int64
		var its, above sql.NullString
		look := func() error {
			seq, has, above.String = 0, false, ""
			return t.query(ctx, sqlLender, func(scan func(...any) error) error { return scan(&seq, &its, &above, &has) }, id)
		}
		if err := look(); err != nil {
			return l, false, err
		}
		if has && its.String == key {
			l = lender{seq, id, key}
			if _, err := t.exec(ctx, sqlLendPend, seq); err != nil {
				return l, false, err
			}
			if _, err := t.exec(ctx, sqlLendActive, id); err != nil {
				return l, false, err
			}
			if _, err := t.exec(ctx, sqlLock, []string{l.line()}); err != nil {
				return l, false, err
			}
			if err := look(); err != nil || has {
				return l, has, err
			}
		}
		id = above.String
	}
	return lender{}, false, nil
}

// insertBorrowers finds whose turns rows borrow. They are inserted under the key of that line; the answer puts the real one back.
func (t *tx) insertBorrowers(ctx context.Context, out []job.Row) (after func() error, err error) {
	var at []int
	for i := range out {
		if out[i].Lender == "" || out[i].Met != "" {
			continue
		}
		l, ok, err := t.borrowFrom(ctx, out[i].Lender, keyText(out[i].Sync))
		if err != nil {
			return nil, err
		}
		out[i].Lender = ""
		if ok {
			out[i].Lender, out[i].Sync = l.id, parseKey(l.line())
			at = append(at, i)
		}
	}
	return func() error {
		for _, i := range at {
			out[i].Sync = realKey(keyText(out[i].Sync))
			_, err := t.exec(ctx, `UPDATE @job SET key = $2, lender = $3::uuid WHERE id = $1::uuid`, out[i].ID, keyText(out[i].Sync), out[i].Lender)
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// lending is how the lender of a line stands.
type lending struct {
	lender
	lends, waits, recalled, left bool
}

// readLenders completes lines of borrowers, which are locked: they are paused while their lender does not lend.
func (t *tx) readLenders(ctx context.Context, lines []line) error {
	var ids []string
	var seqs []int64
	at := map[string]*line{}
	for i := range lines {
		if l, ok := lenderOf(lines[i].key); ok {
			lines[i].lent = &lending{lender: l}
			ids, seqs, at[l.id] = append(ids, l.id), append(seqs, l.seq), &lines[i]
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return t.query(ctx, sqlLends, func(scan func(...any) error) error {
		var id string
		var l lending
		err := scan(&id, &l.lends, &l.waits, &l.recalled, &l.left)
		x := at[id]
		l.lender = x.lent.lender
		*x.lent, x.paused, x.limit = l, !l.lends, 1
		return err
	}, ids, seqs)
}

// giveBack lets lenders go on whose turn nobody has any more: they come before the next borrower.
func (t *tx) giveBack(ctx context.Context, lines []line) error {
	for i := range lines {
		l := lines[i].lent
		if l == nil || len(lines[i].slots) > 0 {
			continue
		}
		var n int64
		var err error
		switch {
		case l.waits:
			err = t.query(ctx, sqlGoesOn, func(scan func(...any) error) error {
				var c candidate
				n++
				err := scan(&c.queue, &c.priority, &c.runAt)
				t.readied(c.queue, c.priority, c.runAt)
				return err
			}, l.seq)
		case l.recalled:
			lines[i].paused = true
			if n, err = t.exec(ctx, sqlHasBack, l.id); err == nil && n > 0 {
				_, err = t.exec(ctx, sqlHasBackX, l.id)
				t.Hint(job.JobTopic(l.id))
			}
		default:
			continue
		}
		if err == nil && n == 0 {
			_, err = t.exec(ctx, sqlArrive, []string{lines[i].key})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// passOn ends what was left to borrowers of locked lines that have none any more, and answers the turns.
func (t *tx) passOn(ctx context.Context, lines []line) (turns []freed, err error) {
	for i := range lines {
		l := lines[i].lent
		if l == nil || !l.left {
			continue
		}
		borrowed := false
		if err := t.query(ctx, sqlBorrowed, into(&borrowed), lines[i].key); err != nil {
			return nil, err
		}
		if borrowed {
			continue
		}
		err := t.query(ctx, sqlSpend, func(scan func(...any) error) error {
			var f freed
			err := scan(&f.key, &f.floor)
			turns = append(turns, f)
			return err
		}, l.id)
		if err != nil {
			return nil, err
		}
	}
	return turns, t.markSlow(ctx, turns)
}

// bequeath leaves turns that lenders gave up to those who borrow them; it answers what is to be handed on instead.
func (t *tx) bequeath(ctx context.Context, turns []freed) ([]freed, error) {
	var subs []string
	for i := range turns {
		if turns[i].lender.id != "" {
			subs = append(subs, turns[i].lender.line())
		}
	}
	if len(subs) == 0 {
		return turns, nil
	}
	slices.Sort(subs)
	if _, err := t.exec(ctx, sqlLock, slices.Compact(subs)); err != nil {
		return nil, err
	}
	rest := turns[:0:0]
	for _, f := range turns {
		if f.lender.id != "" {
			borrowed, left := false, 0
			if err := t.query(ctx, sqlBorrowed, into(&borrowed), f.lender.line()); err != nil {
				return nil, err
			}
			if borrowed {
				if err := t.query(ctx, sqlLeave, into(&left), f.lender.id, f.lender.seq, f.floor, f.slot, f.key); err != nil {
					return nil, err
				}
			}
			if left > 0 {
				f = freed{key: f.lender.line(), slow: true}
			}
		}
		rest = append(rest, f)
	}
	return rest, nil
}

// heir reads what sqlFinish answers for a turn that may be borrowed: number, id, slot and key.
func (f *freed) heir() error {
	text, marked := strings.CutPrefix(f.key, heirMark)
	if !marked {
		return nil
	}
	part := strings.SplitN(text, heirMark, 4)
	if len(part) < 4 {
		return errBusy
	}
	var err error
	if f.lender.seq, err = strconv.ParseInt(part[0], 10, 64); err != nil {
		return err
	}
	if f.slot, err = strconv.ParseInt(part[2], 10, 64); err != nil {
		return err
	}
	f.lender.id, f.key = part[1], part[3]
	f.lender.key = keyText(realKey(f.key))
	return nil
}

// markSlow marks the freed turns of special kinds.
func (t *tx) markSlow(ctx context.Context, turns []freed) error {
	if len(turns) == 0 {
		return nil
	}
	slow := map[string]bool{}
	err := t.query(ctx, `SELECT kind FROM @regime`, func(scan func(...any) error) error {
		var k string
		err := scan(&k)
		slow[k] = true
		return err
	})
	for i := range turns {
		turns[i].slow = slow[parseKey(turns[i].key).Kind]
	}
	return err
}
