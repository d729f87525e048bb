package periodic

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestDues(t *testing.T) {
	t.Parallel()
	sec := func(n int64) time.Time { return time.Unix(n, 0) }
	t.Run("periodic-09 the newest due time after a stall", func(t *testing.T) {
		for _, c := range []struct{ last, d, now, want int64 }{
			{10, 7, 19, 17}, {13, 7, 28, 27}, {781, 88, 1841, 1837}, {1000, 200, 1300, 1200}, {10, 7, 17, 17},
		} {
			for _, s := range []Schedule{Grid(time.Duration(c.d) * time.Second), slow{time.Duration(c.d) * time.Second}} {
				last := Run{Due: sec(c.last)}
				due, _ := s.Next(last)
				p := dues(s, last, due, sec(c.now), 1)
				if len(p.newest) != 1 || !p.newest[0].Equal(sec(c.want)) || !p.next.Equal(sec(c.want+c.d)) || p.n != (c.want-c.last)/c.d {
					t.Errorf("%T %+v: %v, then %v, %d in all", s, c, p.newest, p.next, p.n)
				}
			}
		}
	})
	t.Run("the newest few", func(t *testing.T) {
		for _, s := range []Schedule{Grid(time.Second), slow{time.Second}} {
			p := dues(s, Run{Due: sec(0)}, sec(1), sec(9), 3)
			if fmt.Sprint(p.newest) != fmt.Sprint([]time.Time{sec(7), sec(8), sec(9)}) || p.n != 9 {
				t.Errorf("%T: %v of %d", s, p.newest, p.n)
			}
		}
	})
	t.Run("far behind, a schedule is not walked to the end", func(t *testing.T) {
		began := time.Now()
		p := dues(slow{time.Millisecond}, Run{Due: sec(0)}, sec(1), sec(1e9), 1)
		if !p.next.After(sec(1e9)) || p.n < countLimit || time.Since(began) > 5*time.Second {
			t.Error(p, time.Since(began))
		}
	})
	t.Run("a schedule that ends", func(t *testing.T) {
		p := dues(ending{}, Run{}, sec(1), sec(9), 1)
		if p.n != 3 || !p.next.IsZero() {
			t.Error(p)
		}
	})
}

// slow is a grid that must be walked.
type slow struct{ d time.Duration }

func (s slow) Next(last Run) (time.Time, bool) { return last.Due.Add(s.d), true }

// ending has due times 1, 2 and 3.
type ending struct{}

func (ending) Next(last Run) (time.Time, bool) {
	return last.Due.Add(time.Second), last.Due.Before(time.Unix(3, 0))
}

func TestDecide(t *testing.T) {
	t.Parallel()
	one := pending{newest: []time.Time{time.Unix(1, 0)}, n: 1}
	many := pending{newest: []time.Time{time.Unix(8, 0), time.Unix(9, 0)}, n: 9}
	newest := many.newest[1:]
	for _, c := range []struct {
		name   string
		o      Overlap
		m      Misfire
		active int
		p      pending
		want   decision
	}{
		{"on time", Overlap{}, Misfire{}, 0, one, decision{run: one.newest}},
		{"on time, SkipMissed", Overlap{}, Misfire{Skip: true}, 0, one, decision{run: one.newest}},
		{"Coalesce", Overlap{}, Misfire{}, 0, many, decision{run: newest, missed: 8}},
		{"SkipMissed", Overlap{}, Misfire{Skip: true}, 0, many, decision{skipped: 9}},
		{"CatchUp(2)", Overlap{}, Misfire{CatchUp: 2}, 0, many, decision{run: many.newest, missed: 7}},
		{"NoOverlap", Overlap{}, Misfire{}, 1, one, decision{overran: 1}},
		{"NoOverlap of many", Overlap{}, Misfire{CatchUp: 2}, 1, many, decision{overran: 9}},
		{"Queued", Overlap{Queued: true}, Misfire{}, 1, many, decision{overran: 9, queue: true}},
		{"Parallel(2), one active", Overlap{Parallel: 2}, Misfire{}, 1, one, decision{run: one.newest}},
		{"Parallel(2), two active", Overlap{Parallel: 2}, Misfire{}, 2, one, decision{overran: 1}},
	} {
		got := decide(c.o, c.m, c.active, c.p)
		if !slices.Equal(got.run, c.want.run) || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
