package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/flow"
)

type flowObject struct {
	Path    string `json:"path"`
	State   string `json:"state"`
	Cause   string `json:"cause,omitempty"`
	Tries   int    `json:"tries"`
	Started stamp  `json:"started,omitzero"`
	Ended   stamp  `json:"ended,omitzero"`
}

func flowView() view[flow.StepRecord] {
	return view[flow.StepRecord]{
		id: func(s flow.StepRecord) string { return s.Path },
		object: func(s flow.StepRecord) any {
			return flowObject{s.Path, s.State, s.Cause, s.Tries, stamp(s.Started), stamp(s.Ended)}
		},
		columns: []column[flow.StepRecord]{
			{head: "STEP", cell: func(_ *app, s flow.StepRecord) string { return s.Path }},
			{head: "STATE", cell: func(_ *app, s flow.StepRecord) string { return s.State }, color: flowColor},
			{head: "TRIES", cell: func(_ *app, s flow.StepRecord) string { return itoa(s.Tries) }, right: true},
			{head: "STARTED", cell: func(a *app, s flow.StepRecord) string { return a.when(s.Started) }},
			{head: "ENDED", cell: func(a *app, s flow.StepRecord) string { return a.when(s.Ended) }},
			{head: "CAUSE", cell: func(_ *app, s flow.StepRecord) string { return s.Cause }},
		},
	}
}

func flowColor(s string) string {
	switch s {
	case flow.StateDone:
		return "32"
	case flow.StateStarted:
		return "36"
	case flow.StateFailed, flow.StateUndoFailed:
		return "31"
	case flow.StateUndone, flow.StateOwed:
		return "33"
	}
	return ""
}

// jobsFlow lists what became of the steps of the flows in a job, or of a debt.
func (a *app) jobsFlow(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 1, 1)
	if err != nil {
		return err
	}
	t, err := a.databaseOnly(ctx, "jobs flow", "; a server has: drover jobs show -timeline")
	if err != nil {
		return err
	}
	id, err := t.resolve(ctx, args[0])
	if err != nil {
		return err
	}
	var all []flow.StepRecord
	for s, err := range flow.Journal(ctx, t.local.jobs, id) {
		if err != nil {
			return fmt.Errorf("job %s: %w", id, err)
		}
		all = append(all, s)
	}
	return list(a, flowView(), all, "")
}
