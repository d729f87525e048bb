package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// p12 is one round of seconds whatever the machine: the lease decides.
func p12(b *bench) (figures, error) {
	const n = 1_000
	ttl := time.Duration(b.size(30, 5)) * time.Second
	got, err := b.once(func(ctx context.Context, dsn string) (float64, error) { return takeover(ctx, dsn, n, ttl) })
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], more: map[string]float64{"lease, s": ttl.Seconds(), "later than the lease, s": median(got[0]) - ttl.Seconds()}}, nil
}

// takeover kills the node that runs n jobs, and says after how many seconds another one runs them all.
func takeover(ctx context.Context, dsn string, n int, ttl time.Duration) (float64, error) {
	d, err := newDrover(ctx, dsn, noWork, submitOnly)
	if err != nil {
		return 0, err
	}
	defer d.close()
	if err := d.fill(ctx, n, nil); err != nil {
		return 0, err
	}
	o := order{DSN: dsn, Workers: 2 * n, TTL: ttl, Hold: true}
	nodes, err := startNodes(2, o)
	defer nodes.kill()
	if err != nil {
		return 0, err
	}
	victim, survivor := nodes[0], nodes[1]
	if err := errors.Join(victim.run(), reaches(ctx, &victim.started, n), survivor.run()); err != nil {
		return 0, err
	}
	time.Sleep(time.Second) // the survivor serves
	start := time.Now()
	victim.kill()
	if err := reachesIn(ctx, &survivor.started, n, ttl+30*time.Second); err != nil { // for one lease nothing happens
		return 0, err
	}
	took := time.Since(start)
	survivor.tell()
	if err := survivor.wait(); err != nil {
		return 0, err
	}
	if again := survivor.started.Load(); again != int64(n) {
		return 0, fmt.Errorf("%d jobs were started %d times after the kill", n, again)
	}
	return took.Seconds(), d.succeeded(ctx, n)
}

func p13(b *bench) (figures, error) {
	const nodes = 4
	off := 0.0
	l := b.trivial()
	got, err := b.byTurns(func(ctx context.Context, dsn string) (float64, error) {
		v, most, err := together(ctx, dsn, l.n, nodes)
		off = max(off, most)
		return v, err
	}, l.side)
	if err != nil {
		return figures{}, err
	}
	more := share(got[0], got[1])
	more["most off the mean"] = off
	return figures{drover: got[0], more: more}, nil
}

// together works n jobs with several nodes, which serve before the queue is opened, until the last has stored its last, and
// says how far a node's share was off the mean at most.
func together(ctx context.Context, dsn string, n, count int) (rate, off float64, err error) {
	d, err := newDrover(ctx, dsn, noWork, submitOnly)
	if err != nil {
		return 0, 0, err
	}
	defer d.close()
	if err := d.fill(ctx, n, nil); err != nil {
		return 0, 0, err
	}
	if err := d.jobs.PauseQueue(ctx, "default"); err != nil {
		return 0, 0, err
	}
	nodes, err := startNodes(count, order{DSN: dsn, Workers: 2_000, Tuned: true})
	defer nodes.kill()
	if err != nil {
		return 0, 0, err
	}
	for _, x := range nodes {
		if err := x.run(); err != nil {
			return 0, 0, err
		}
	}
	time.Sleep(2 * time.Second) // all serve
	start := time.Now()
	if err := d.jobs.ResumeQueue(ctx, "default"); err != nil {
		return 0, 0, err
	}
	for nodes.sum() < n {
		if ctx.Err() != nil || time.Since(start) > 2*time.Minute {
			return 0, 0, fmt.Errorf("%d of %d jobs were worked", nodes.sum(), n)
		}
		time.Sleep(time.Millisecond)
	}
	for _, x := range nodes {
		x.tell()
	}
	for _, x := range nodes {
		err = errors.Join(err, x.wait())
	}
	took := time.Since(start)
	if err != nil {
		return 0, 0, err
	}
	mean := float64(n) / float64(count)
	for _, x := range nodes {
		off = max(off, math.Abs(float64(x.started.Load())-mean)/mean)
	}
	return float64(n) / took.Seconds(), off, d.succeeded(ctx, n)
}

// cluster is node processes.
type cluster []*node

// startNodes starts nodes and waits until they are ready to run.
func startNodes(n int, o order) (c cluster, err error) {
	for range n {
		x, err := startNode(o)
		if err != nil {
			return c, err
		}
		c = append(c, x)
	}
	for _, x := range c {
		select {
		case <-x.ready:
		case <-x.ended:
			return c, fmt.Errorf("a node ended: %w", x.err)
		}
	}
	return c, nil
}

func (c cluster) sum() (n int) {
	for _, x := range c {
		n += int(x.started.Load())
	}
	return n
}

// kill ends what still runs.
func (c cluster) kill() {
	for _, x := range c {
		x.kill()
	}
}
