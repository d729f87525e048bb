// Package places finds places in lines, for all stores.
package places

import "github.com/drover-cloud/drover/syncqueue"

const (
	most   = 10_000 // rows that a renumbering touches, unless that many places are used up
	enough = 1 << 8 // room between rows that makes a renumbering worth while
	first  = 32     // rows that it looks at first
)

// Row is a waiter's place.
type Row struct{ Seq, Place int64 }

// Before finds a place right before hi. below answers the n rows of the line that stand before it, nearest first, without
// the one that moves. If no place is left there, some of them get another one, lower than theirs, in the same order.
func Before(hi int64, below func(n int) ([]Row, error)) (place int64, moved []Row, err error) {
	rows, err := below(1)
	if err != nil {
		return 0, nil, err
	}
	if len(rows) == 0 {
		return some(hi - syncqueue.Gap), nil, nil
	}
	if gap := hi - rows[0].Place; gap > 3 {
		return some(hi - gap/2), nil, nil
	}
	for n := first; ; n = next(n) {
		if rows, err = below(n + 1); err != nil {
			return 0, nil, err
		}
		step, least := int64(syncqueue.Gap), int64(enough)
		if n >= most-1 {
			least = 4
		}
		if len(rows) > n { // who stands before these stays
			step = (hi - rows[n].Place) / int64(n+2)
			rows = rows[:n]
		}
		if step >= least {
			place, moved = spread(hi, step, rows)
			return place, moved, nil
		}
	}
}

func next(n int) int {
	if n < most-1 {
		return min(4*n, most-1)
	}
	return 4 * n
}

// some is place, or the one before it where that says that there is none.
func some(place int64) int64 {
	if place == 0 {
		return -1
	}
	return place
}

// spread puts rows at least step before each other.
func spread(hi, step int64, rows []Row) (place int64, moved []Row) {
	place = some(hi - step)
	last := place
	for _, r := range rows {
		if r.Place <= last-step {
			break
		}
		last = some(last - step)
		moved = append(moved, Row{r.Seq, last})
	}
	return place, moved
}
