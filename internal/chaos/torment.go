package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// verb is what a torment does.
type verb string

const (
	sigkill verb = "SIGKILL"
	sigstop verb = "SIGSTOP"
	hole    verb = "black hole"
	crash   verb = "PostgreSQL SIGKILL"
)

// act is one torment.
type act struct {
	verb     verb
	gap      time.Duration // before it
	victim   uint64
	leases   float64 // how long
	sameName bool
}

// plan is all torments in their order, drawn by the seed alone.
func plan(o *options) []act {
	r := rand.New(rand.NewPCG(o.seed, 1))
	var acts []act
	add := func(v verb, n int) {
		for range n {
			acts = append(acts, act{verb: v})
		}
	}
	add(sigkill, o.plan.Kills)
	add(sigstop, o.plan.Stops)
	add(hole, o.plan.Holes)
	r.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	n := o.plan.Crashes // spread, as the server needs its seconds to come back
	for i := range n {
		at := (i + 1) * (len(acts) + 1) / (n + 1)
		acts = append(acts[:at], append([]act{{verb: crash}}, acts[at:]...)...)
	}
	for i := range acts {
		a := &acts[i]
		a.gap = time.Duration(r.ExpFloat64() * float64(o.Gap))
		a.victim, a.sameName = r.Uint64(), r.IntN(2) == 0
		u := r.Float64()
		a.leases = 3 + 7*u*u
	}
	return acts
}

// torment does the plan, in step with the feeders: it is done when they are.
func (h *harness) torment(ctx context.Context) {
	acts := plan(h.o)
	for i, a := range acts {
		h.acted.Store(int64(i))
		h.awaitFed(ctx, i, len(acts))
		select {
		case <-ctx.Done():
		case <-time.After(a.gap):
		}
		if ctx.Err() != nil {
			return
		}
		if err := h.do(ctx, a); err != nil {
			h.fail(fmt.Errorf("%s: %w", a.verb, err))
			return
		}
	}
	h.acted.Store(int64(len(acts)))
}

// awaitFed waits until as large a part of the jobs is fed.
func (h *harness) awaitFed(ctx context.Context, i, of int) {
	for ctx.Err() == nil && h.fed.Load()*int64(of) < int64(i-of/50)*int64(h.o.Jobs) {
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *harness) do(ctx context.Context, a act) (err error) {
	long := time.Duration(a.leases * float64(h.o.Lease))
	who := ""
	switch a.verb {
	case sigkill:
		if who = h.crew.kill(a.victim, a.sameName); who != "" {
			h.did.Kills++
		}
	case sigstop:
		if who = h.crew.freeze(ctx, a.victim, long, a.sameName); who != "" {
			h.did.Stops++
		}
	case hole:
		h.proxy.BlackHole()
		h.did.Holes++
		time.AfterFunc(long, h.proxy.Heal)
	case crash:
		began := time.Now()
		if err = h.server.Crash(); err == nil {
			err = h.revive()
		}
		h.did.Crashes++
		h.away = max(h.away, time.Since(began))
	}
	h.say("%-18s %-8s %.1f leases", a.verb, who, a.leases)
	return err
}

// revive starts PostgreSQL again; a backend that outlived the postmaster may still hold its memory for a moment.
func (h *harness) revive() (err error) {
	for range 5 {
		if err = h.server.Revive(); err == nil {
			return nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	return err
}
