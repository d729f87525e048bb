package drover

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Policy of supervised restarts. Zero fields are the defaults.
type Policy struct {
	Initial     time.Duration // first delay, 1 s
	Factor      float64       // from delay to delay, 2
	Max         time.Duration // longest delay, 30 s
	Jitter      float64       // share of the delay, 0.2 for ±20 %; negative = none
	Healthy     time.Duration // a run this long forgets earlier failures, 60 s
	MaxFailures int           // more than these within Window: give up, 5
	Window      time.Duration // 60 s
}

// Backoff is p as a function for Restart: each call is a failure and gives the delay before the next run; a negative one
// means give up. It keeps its own count by the real clock (in a testing/synctest bubble: the bubble's).
func Backoff(p Policy) func() time.Duration {
	var mu sync.Mutex
	var r *restarts
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if r == nil { // a seed that differs between processes, and repeats in a bubble
			r = newRestarts(p, rand.NewPCG(uint64(now.UnixNano()), 0))
		}
		return r.next(now)
	}
}

// restarts counts the failures of one component.
type restarts struct {
	p     Policy
	rand  rand.Source
	fails []time.Time
	base  time.Duration // delay before jitter
	due   time.Time     // when the run after the last failure began
}

func newRestarts(p Policy, src rand.Source) *restarts {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&p.Initial, time.Second)
	def(&p.Max, 30*time.Second)
	def(&p.Healthy, time.Minute)
	def(&p.Window, time.Minute)
	if p.Factor < 1 {
		p.Factor = 2
	}
	if p.Jitter == 0 {
		p.Jitter = 0.2
	}
	p.Jitter = min(max(p.Jitter, 0), 1)
	if p.MaxFailures <= 0 {
		p.MaxFailures = 5
	}
	return &restarts{p: p, rand: src}
}

// last reports whether the next failure within the window is one too many.
func (r *restarts) last() bool { return len(r.fails) == r.p.MaxFailures }

// next records a failure at now: the delay before the next run, negative to give up.
func (r *restarts) next(now time.Time) time.Duration {
	if len(r.fails) > 0 && now.Sub(r.due) >= r.p.Healthy {
		r.fails, r.base = nil, 0
	}
	for len(r.fails) > 0 && now.Sub(r.fails[0]) > r.p.Window {
		r.fails = r.fails[1:]
	}
	r.fails = append(r.fails, now)
	if len(r.fails) > r.p.MaxFailures {
		return -1
	}
	if r.base == 0 {
		r.base = r.p.Initial
	} else {
		r.base = time.Duration(min(float64(r.base)*r.p.Factor, float64(r.p.Max)))
	}
	d := max(spread(r.rand, min(r.base, r.p.Max), r.p.Jitter), 0)
	r.due = now.Add(d)
	return d
}
