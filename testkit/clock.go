package testkit

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// Clock is a manual clock for Step tests: time moves by Add alone. Safe for concurrent use.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []timer // in order of when, then of After
}

type timer struct {
	when time.Time
	ch   chan time.Time
}

// Now is the clock's time; it starts at 2000-01-01 00:00 UTC.
func (c *Clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.start() }

// start sets the first instant. The caller holds c.mu.
func (c *Clock) start() time.Time {
	if c.now.IsZero() {
		c.now = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return c.now
}

// After gives a channel that gets the time when Add has moved d past now; d ≤ 0 fires at once.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := timer{when: c.start().Add(d), ch: make(chan time.Time, 1)}
	if d <= 0 {
		t.ch <- c.now
		return t.ch
	}
	i, _ := slices.BinarySearchFunc(c.timers, t, func(a, b timer) int { return cmp.Or(a.when.Compare(b.when), -1) })
	c.timers = slices.Insert(c.timers, i, t)
	return t.ch
}

// Add moves the clock on by d ≥ 0 and fires what falls due, in order.
func (c *Clock) Add(d time.Duration) {
	if d < 0 {
		panic("testkit: Clock.Add of less than 0")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.start().Add(d)
	for len(c.timers) > 0 && !c.timers[0].when.After(end) {
		t := c.timers[0]
		c.timers = c.timers[1:]
		t.ch <- t.when
	}
	c.now = end
}

// Inline gives an Env on a manual clock, for tests that call Step themselves. Ids and randomness are the same in every
// run; log lines are dropped.
func Inline() (drover.Env, *Clock) {
	c := new(Clock)
	ids := rand.New(rand.NewPCG(1, 5))
	var mu sync.Mutex
	return drover.Env{
		Node: "n1", Clock: c, Rand: rand.NewPCG(1, 100),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		NewID: func() string {
			mu.Lock()
			defer mu.Unlock()
			return uuid7(c.Now(), ids)
		},
	}, c
}

// uuid7 is a version 7 UUID of now and random bits.
func uuid7(now time.Time, r *rand.Rand) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16|7<<12|r.Uint64()>>52)
	binary.BigEndian.PutUint64(b[8:], 2<<62|r.Uint64()>>2)
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
