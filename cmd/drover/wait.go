package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/drover-cloud/drover/job"
)

// seen is what the watch over one job saw.
type seen struct {
	i   int
	job *job.Job
	err error
}

// await waits until all jobs are final, showing what they do, and answers them as last seen. A job that ended otherwise than
// good is an error with code 1. When ctx ends first, the answer says how to go on waiting.
func (a *app) await(ctx context.Context, t *target, ids []string, good job.State) ([]*job.Job, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	a.env.Go("jobs", func() { defer close(stopped); _ = t.Run(ctx) }) // it asks the store for all in one
	defer func() { cancel(nil); <-stopped }()

	updates := make(chan seen)
	for i, id := range ids {
		a.env.Go("watch/"+id, func() {
			for j, err := range t.Watch(ctx, id) {
				select {
				case updates <- seen{i, j, err}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	js, err := a.follow(ctx, ids, updates)
	if err != nil {
		return js, err
	}
	var bad []string
	for _, j := range js {
		if j.State != good {
			bad = append(bad, strings.TrimSuffix("job "+j.ID+" "+string(j.State)+": "+note(j), ": "))
		}
	}
	if len(bad) > 0 {
		return js, &coded{badEnd, errors.New(strings.Join(bad[:min(len(bad), 10)], "; "))}
	}
	return js, nil
}

// follow takes updates until all jobs are final.
func (a *app) follow(ctx context.Context, ids []string, updates <-chan seen) ([]*job.Job, error) {
	p := &progress{a: a, env: a.env, start: a.env.Clock.Now(), jobs: make([]*job.Job, len(ids))}
	left := len(ids)
	tick := a.env.Clock.After(redraw)
	for left > 0 {
		select {
		case <-ctx.Done():
		case <-tick:
			p.draw(false)
			tick = a.env.Clock.After(redraw)
		case u := <-updates:
			if u.err != nil && ctx.Err() == nil {
				p.draw(true)
				return p.known(), fmt.Errorf("job %s: %w", ids[u.i], u.err)
			}
			if u.err == nil {
				if p.update(u.i, u.job); u.job.State.Final() {
					left--
				}
			}
		}
		if ctx.Err() != nil {
			p.draw(true)
			a.note("not waiting any more; the jobs go on. To wait again: drover jobs wait %s", strings.Join(p.unfinished(ids), " "))
			return p.known(), ended(ctx)
		}
	}
	p.draw(true)
	return p.known(), nil
}
