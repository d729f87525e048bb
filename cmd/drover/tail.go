package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/job"
)

// jobsTail writes a job's journal as it grows, and its states, until it is final.
func (a *app) jobsTail(ctx context.Context, c *cli.Command) error {
	t, id, err := a.one(ctx, c)
	if err != nil {
		return err
	}
	var all []job.Entry // for -o json, which is one document
	var state job.State
	for n := int64(0); ; {
		j, err := t.jobs.Get(ctx, id)
		if err != nil {
			return fmt.Errorf("job %s: %w", id, err)
		}
		for e, err := range t.jobs.Journal(ctx, id) {
			if err != nil {
				return fmt.Errorf("job %s: %w", id, err)
			}
			if e.N <= n {
				continue
			}
			n, all = e.N, append(all, e)
			if err := a.follows(e); err != nil {
				return err
			}
		}
		if j.State != state {
			a.note("%s", line(j, a.env.Clock.Now().Sub(a.now)))
			state = j.State
		}
		if state.Final() {
			break
		}
		if err := a.env.Sleep(ctx, poll); err != nil {
			a.note("the job goes on. To follow it again: drover jobs tail %s", id)
			return ended(ctx)
		}
	}
	if a.format == "json" {
		return list(a, entryView(), all, "")
	}
	return nil
}

// follows writes one more row of the journal, at once.
func (a *app) follows(e job.Entry) error {
	switch a.format {
	case "json":
		return nil
	case "ndjson":
		return a.line(entryOf(e))
	case "id":
		return a.print(fmt.Sprintln(e.N))
	}
	return a.print(a.entry(e) + "\n")
}

func entryView() view[job.Entry] {
	return view[job.Entry]{object: func(e job.Entry) any { return entryOf(e) }}
}
