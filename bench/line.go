package main

import (
	"context"
	"sync"
	"time"
)

// line watches the handlers of jobs with keys: job num has the key num % keys, limit 1, first in first out.
type line struct {
	keys                 int
	violations, overlaps float64

	mu      sync.Mutex
	last    map[int]int
	running map[int]int
	ended   time.Time // of the last handler, of any key
	gaps    []float64 // from one end to the next start, in ms
}

func newLine(keys int) *line { return &line{keys: keys} }

// fresh is the side with nothing seen yet.
func (l *line) fresh(s side) side {
	return func(ctx context.Context, dsn string) (float64, error) {
		l.mu.Lock()
		l.last, l.running, l.ended = map[int]int{}, map[int]int{}, time.Time{}
		l.mu.Unlock()
		return s(ctx, dsn)
	}
}

func (l *line) work(_ context.Context, num int) error {
	key := num % l.keys
	l.mu.Lock()
	if last, ok := l.last[key]; ok && last >= num {
		l.violations++
	}
	l.last[key] = num
	if l.running[key]++; l.running[key] > 1 {
		l.overlaps++
	}
	if !l.ended.IsZero() && l.keys == 1 {
		l.gaps = append(l.gaps, time.Since(l.ended).Seconds()*1e3)
	}
	l.mu.Unlock() // another handler of the key could come in here
	l.mu.Lock()
	l.running[key]--
	l.ended = time.Now()
	l.mu.Unlock()
	return nil
}

// p5 measures nothing but hand-off.
func p5(b *bench) (figures, error) {
	line := newLine(1)
	l := backlog{n: b.size(20_000, 6_000), tune: tuned, shape: distinct(1), work: line.work}
	got, err := b.byTurns(line.fresh(l.side))
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], more: map[string]float64{
		"gap p50 ms": quantile(line.gaps, 0.5), "gap p99 ms": quantile(line.gaps, 0.99),
		"order violations": line.violations, "overlaps": line.overlaps,
	}}, nil
}
