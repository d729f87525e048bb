package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drover-cloud/drover/job"
)

// steady submits and works for a while at once. At most 20 000 jobs wait, in batches of 1 000.
type steady struct {
	seconds   int
	worked    atomic.Int64
	submitted int
	rates     []float64 // of each second
}

func (s *steady) work(context.Context, int) error {
	s.worked.Add(1)
	return nil
}

// run holds an old snapshot open from before the first job to after the last.
func (s *steady) run(ctx context.Context, dsn string, submit func(at, k int) error) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for _, q := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM pg_class"} {
		if _, err := c.Exec(ctx, q); err != nil {
			return err
		}
	}
	start := time.Now()
	end := start.Add(time.Duration(s.seconds) * time.Second)
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		last := int64(0)
		for i := range s.seconds {
			time.Sleep(time.Until(start.Add(time.Duration(i+1) * time.Second)))
			now := s.worked.Load()
			s.rates = append(s.rates, float64(now-last))
			last = now
		}
	}()
	for time.Now().Before(end) && err == nil && ctx.Err() == nil {
		if s.submitted-int(s.worked.Load()) > 20_000 {
			time.Sleep(time.Millisecond)
			continue
		}
		err = submit(s.submitted, 1_000)
		s.submitted += 1_000
	}
	<-sampled
	if _, end := c.Exec(ctx, "ROLLBACK"); end != nil {
		return errors.Join(err, end)
	}
	return errors.Join(err, ctx.Err())
}

// mean is of the seconds from, included, to to.
func (s *steady) mean(from, to int) float64 {
	sum := 0.0
	for _, r := range s.rates[from:to] {
		sum += r
	}
	return sum / float64(to-from)
}

// ends are the rates of seconds 2 to 10 and of the last 10; a quick run has fewer.
func (s *steady) ends(b *bench) (early, late float64) {
	k := b.size(10, 6)
	return s.mean(2, k), s.mean(s.seconds-k, s.seconds)
}

func p10(b *bench) (figures, error) {
	seconds := b.size(60, 20)
	more := map[string]float64{}
	ours := func(ctx context.Context, dsn string) (float64, error) {
		s := &steady{seconds: seconds}
		d, err := newDrover(ctx, dsn, s.work, tuned)
		if err != nil {
			return 0, err
		}
		defer d.close()
		d.start(ctx)
		err = s.run(ctx, dsn, func(at, k int) error {
			rs := make([]job.Request, k)
			for i := range rs {
				rs[i] = job.Request{Kind: "bench", Args: args{at + i}}
			}
			_, err := d.jobs.SubmitMany(ctx, rs)
			return err
		})
		if err = errors.Join(err, reaches(ctx, &s.worked, s.submitted), d.finish()); err != nil {
			return 0, err
		}
		early, late := s.ends(b)
		more["share of seconds 2 to 10"], more["seconds 2 to 10"] = late/early, early
		return late, d.succeeded(ctx, s.submitted)
	}
	theirs := func(ctx context.Context, dsn string) (float64, error) {
		s := &steady{seconds: seconds}
		r, err := newRiver(ctx, dsn, s.work, tunedRiver)
		if err != nil {
			return 0, err
		}
		defer r.close()
		if err := r.client.Start(ctx); err != nil {
			return 0, err
		}
		err = s.run(ctx, dsn, func(at, k int) error { return r.insert(ctx, at, k) })
		if err = errors.Join(err, reaches(ctx, &s.worked, s.submitted), r.client.Stop(ctx)); err != nil {
			return 0, err
		}
		early, late := s.ends(b)
		more["River's share"], more["River's seconds 2 to 10"] = late/early, early
		return late, r.completed(ctx, s.submitted)
	}
	got, err := b.once(ours, theirs)
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[1], more: more}, nil
}
