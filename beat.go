package drover

import (
	"slices"
	"sync/atomic"
	"time"
)

const (
	shortStep  = time.Second      // a Step may always take three times this
	firstSteps = 10 * time.Second // the interval of a Loop that has named none
)

// beat is what a Loop tells its Group, in nanoseconds.
type beat struct {
	at    atomic.Int64 // of the next Step; 0 = none
	began atomic.Int64 // of the Step under way; 0 = none
	span  atomic.Int64 // from the last Step to its next; 0 = none named yet
}

func (b *beat) due(next time.Time) {
	if next.IsZero() {
		b.at.Store(0)
		return
	}
	b.at.Store(next.UnixNano())
}

func (b *beat) expect(begin, next time.Time) {
	if !next.IsZero() {
		b.span.Store(int64(max(next.Sub(begin), shortStep)))
	}
}

// stuck reports whether a Step has been under way for more than three times its interval.
func (b *beat) stuck(now time.Time) bool {
	began, span := b.began.Load(), b.span.Load()
	if span == 0 {
		span = int64(firstSteps)
	}
	return began != 0 && now.UnixNano()-began > 3*span
}

// listen adds a Loop's beat to p until end is called. p may be nil.
func (p *part) listen(b *beat) (end func()) {
	if p == nil {
		return func() {}
	}
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.beats = append(p.beats, b)
	return func() {
		p.g.mu.Lock()
		defer p.g.mu.Unlock()
		p.beats = slices.DeleteFunc(p.beats, func(o *beat) bool { return o == b })
	}
}

func (p *part) loops() []*beat {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	return slices.Clone(p.beats)
}

// next is the earliest next Step of p's Loops, zero if there is none.
func (p *part) next() (t time.Time) {
	for _, b := range p.loops() {
		if at := b.at.Load(); at != 0 && (t.IsZero() || at < t.UnixNano()) {
			t = time.Unix(0, at)
		}
	}
	return t
}
