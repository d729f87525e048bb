package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

const askNumber = 100 // jobs; for more, the number is to be typed

// chosen are the jobs that a verb is for, by ids or by -filter. A nil list and no error: it was a dry run.
func (a *app) chosen(ctx context.Context, t *target, c *cli.Command, verb string, states []job.State) (ids []string, many bool, err error) {
	filters := c.StringSlice("filter")
	if len(filters) == 0 {
		args, err := want(c, 1, -1)
		if err != nil {
			return nil, false, err
		}
		if c.Bool("dry-run") {
			return nil, false, usage("-dry-run goes with -filter")
		}
		return a.names(args)
	}
	if c.Args().Present() {
		return nil, false, usage("give ids or -filter, not both")
	}
	q, err := a.pairs(ctx, t, filters)
	if err != nil {
		return nil, false, err
	}
	if len(q.States) == 0 {
		q.States = states
	}
	js, err := t.matching(ctx, q)
	if err != nil {
		return nil, false, err
	}
	if c.Bool("dry-run") {
		a.note("%d would be asked to %s", len(js), verb)
		return nil, true, list(a, jobView(), js, "")
	}
	ids = make([]string, len(js))
	for i, j := range js {
		ids[i] = j.ID
	}
	if len(ids) == 0 {
		return ids, true, nil
	}
	word := "yes"
	if len(ids) > askNumber {
		word = itoa(len(ids))
	}
	return ids, true, a.confirm(fmt.Sprintf("%s %d jobs", verb, len(ids)), word)
}

func (a *app) jobsCancel(ctx context.Context, c *cli.Command) error {
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ids, many, err := a.chosen(ctx, t, c, "cancel", live)
	if err != nil || ids == nil {
		return err
	}
	var js []*job.Job
	accepted := map[string]string{}
	failed := a.each(ctx, t, ids, many, func(ctx context.Context, id string) error {
		if err := t.Cancel(ctx, id, c.String("reason")); err != nil {
			return err
		}
		j, err := t.Get(ctx, id)
		if err != nil {
			return err
		}
		accepted[id] = "requested"
		if j.State == job.Cancelled {
			accepted[id] = "cancelled"
		}
		js = append(js, j)
		return nil
	})
	if c.Bool("wait") && len(js) > 0 && (failed == nil || codeOf(failed) == badEnd) {
		js, err = a.await(ctx, t, idsOf(js), job.Cancelled)
		failed = a.worse(failed, err)
	}
	v := jobView()
	v.object = func(j *job.Job) any {
		o := jobjson.Of(j)
		o.Accepted = accepted[j.ID]
		return o
	}
	return a.report(v, js, many, failed)
}

func (a *app) jobsRetry(ctx context.Context, c *cli.Command) error {
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ids, many, err := a.chosen(ctx, t, c, "retry", []job.State{job.Failed, job.Cancelled})
	if err != nil || ids == nil {
		return err
	}
	var js []*job.Job
	failed := a.each(ctx, t, ids, many, func(ctx context.Context, id string) error {
		j, err := t.Retry(ctx, id, c.Bool("keep-steps"))
		if err == nil {
			js = append(js, j)
		}
		return err
	})
	if c.Bool("wait") && len(js) > 0 && (failed == nil || codeOf(failed) == badEnd) {
		js, err = a.await(ctx, t, idsOf(js), job.Succeeded)
		failed = a.worse(failed, err)
	}
	return a.report(jobView(), js, many, failed)
}

func (a *app) jobsWait(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 1, -1)
	if err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	names, many, err := a.names(args)
	if err != nil {
		return err
	}
	var ids []string
	failed := a.each(ctx, t, names, many, func(ctx context.Context, id string) error {
		_, err := t.Get(ctx, id)
		if err == nil {
			ids = append(ids, id)
		}
		return err
	})
	var js []*job.Job
	if len(ids) > 0 && (failed == nil || codeOf(failed) == badEnd) {
		js, err = a.await(ctx, t, ids, job.Succeeded)
		failed = a.worse(failed, err)
	}
	v := jobView()
	v.object = func(j *job.Job) any { return wholeOf(j) }
	return a.report(v, js, many, failed)
}

// report writes what became of the jobs, one as an object and several as a list, and hands on how it went.
func (a *app) report(v view[*job.Job], js []*job.Job, many bool, failed error) error {
	var err error
	switch {
	case many:
		err = list(a, v, js, "")
	case len(js) == 1:
		err = show(a, v, js[0], nil)
	}
	if err != nil {
		return err
	}
	return failed
}

func idsOf(js []*job.Job) []string {
	ids := make([]string, len(js))
	for i, j := range js {
		ids[i] = j.ID
	}
	return ids
}

// worse is the error with the higher code; the other one is told.
func (a *app) worse(x, y error) error {
	if x == nil || y == nil {
		return cmp.Or(x, y)
	}
	if codeOf(y) > codeOf(x) {
		x, y = y, x
	}
	a.complain(y)
	return x
}
