package main

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/job"
)

// latencies are submit-to-start times on an idle node, in milliseconds: of singles, each 200 ms or so after the last, and of
// seconds, 30 ms after a single.
type latencies struct {
	first, second []float64
	started       chan int
}

func newLatencies() *latencies { return &latencies{started: make(chan int, 10)} }

func (l *latencies) work(_ context.Context, num int) error {
	l.started <- num
	return nil
}

// measure takes n singles, every other with a second, and gives the median of the singles.
func (l *latencies) measure(n int, submit func(num int) error) (float64, error) {
	var mine []float64
	for i := range n {
		time.Sleep(170 * time.Millisecond)
		d, err := l.one(2*i, submit)
		if err != nil {
			return 0, err
		}
		mine = append(mine, d)
		if i%2 == 1 {
			continue
		}
		time.Sleep(30 * time.Millisecond)
		if d, err = l.one(2*i+1, submit); err != nil {
			return 0, err
		}
		l.second = append(l.second, d)
	}
	l.first = append(l.first, mine...)
	return median(mine), nil
}

func (l *latencies) one(num int, submit func(num int) error) (float64, error) {
	start := time.Now()
	if err := submit(num); err != nil {
		return 0, err
	}
	for {
		select {
		case got := <-l.started:
			if got != num {
				return 0, errors.New("a job ran twice")
			}
			return time.Since(start).Seconds() * 1e3, nil
		case <-time.After(10 * time.Second):
			return 0, errors.New("a job did not start within 10 s")
		}
	}
}

func p8(b *bench) (figures, error) {
	n := b.size(200, 40)
	our, their := newLatencies(), newLatencies()
	ours := func(ctx context.Context, dsn string) (float64, error) {
		d, err := newDrover(ctx, dsn, our.work)
		if err != nil {
			return 0, err
		}
		defer d.close()
		d.start(ctx)
		time.Sleep(time.Second)
		v, err := our.measure(n, func(num int) error {
			_, err := d.jobs.Submit(ctx, job.Request{Kind: "bench", Args: args{num}})
			return err
		})
		return v, errors.Join(err, d.finish())
	}
	theirs := func(ctx context.Context, dsn string) (float64, error) {
		r, err := newRiver(ctx, dsn, their.work)
		if err != nil {
			return 0, err
		}
		defer r.close()
		if err := r.client.Start(ctx); err != nil {
			return 0, err
		}
		time.Sleep(time.Second)
		v, err := their.measure(n, func(num int) error {
			_, err := r.client.Insert(ctx, riverArgs{num}, nil)
			return err
		})
		return v, errors.Join(err, r.client.Stop(ctx))
	}
	got, err := b.byTurns(ours, theirs, b.limit(insertNotify(2)))
	if err != nil {
		return figures{}, err
	}
	p50 := quantile(our.first, 0.5)
	return figures{drover: got[0], alternative: got[1], limit: got[2], more: map[string]float64{
		"p50 ms": p50, "p99 ms": quantile(our.first, 0.99), "second later than first, p50 ms": quantile(our.second, 0.5) - p50,
		"River p99 ms": quantile(their.first, 0.99), "River second p50 ms": quantile(their.second, 0.5),
	}}, nil
}
