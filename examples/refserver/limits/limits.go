// Package limits bounds how often something may happen: requests of a key, failures of an address. What is counted is one node's
// own and gone when it stops.
package limits

import (
	"sync"
	"time"
)

// many is how many keys are remembered. When there are more, those that tell nothing any more are dropped, and all if these are
// not most of them.
const many = 10_000

// Clock tells the time.
type Clock interface{ Now() time.Time }

// Buckets are token buckets by key. A nil *Buckets lets all pass.
type Buckets struct {
	clock Clock
	rate  float64 // tokens per second
	burst float64

	mu sync.Mutex
	by map[string]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// NewBuckets refills each bucket at rate per second, up to burst; nil if rate is 0.
func NewBuckets(clock Clock, rate, burst int) *Buckets {
	if rate <= 0 {
		return nil
	}
	return &Buckets{clock: clock, rate: float64(rate), burst: float64(max(1, burst)), by: map[string]bucket{}}
}

// Take takes a token of the key, or tells how long until there is one.
func (b *Buckets) Take(key string) (wait time.Duration) {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.now(key)
	if k.left < 1 {
		return time.Duration((1 - k.left) / b.rate * float64(time.Second))
	}
	k.left--
	if len(b.by) >= many {
		b.forget()
	}
	b.by[key] = k
	return 0
}

func (b *Buckets) now(key string) bucket {
	now := b.clock.Now()
	k, ok := b.by[key]
	if !ok {
		return bucket{b.burst, now}
	}
	if passed := now.Sub(k.at); passed > 0 {
		k.left, k.at = min(b.burst, k.left+passed.Seconds()*b.rate), now
	}
	return k
}

// forget drops buckets that are full.
func (b *Buckets) forget() {
	for key := range b.by {
		if b.now(key).left >= b.burst {
			delete(b.by, key)
		}
	}
	if len(b.by) > many/2 {
		clear(b.by)
	}
}

// Failures block a key for a while after too many failures. A nil *Failures blocks nobody.
type Failures struct {
	clock  Clock
	most   int
	window time.Duration

	mu sync.Mutex
	by map[string]failures
}

type failures struct {
	n     int
	until time.Time
}

// NewFailures blocks a key that failed most times within window, until window after its last failure.
func NewFailures(clock Clock, most int, window time.Duration) *Failures {
	return &Failures{clock: clock, most: most, window: window, by: map[string]failures{}}
}

// Blocked tells how long the key is blocked.
func (f *Failures) Blocked(key string) time.Duration {
	if f == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.by[key]; k.n >= f.most {
		return max(0, k.until.Sub(f.clock.Now()))
	}
	return 0
}

// Failed counts a failure of the key.
func (f *Failures) Failed(key string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	if len(f.by) >= many {
		for key, k := range f.by {
			if !now.Before(k.until) {
				delete(f.by, key)
			}
		}
		if len(f.by) > many/2 {
			clear(f.by)
		}
	}
	k := f.by[key]
	if !now.Before(k.until) {
		k.n = 0
	}
	f.by[key] = failures{k.n + 1, now.Add(f.window)}
}
