package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

func millis(ms int64) string {
	if ms <= 0 {
		return "-"
	}
	return short(time.Duration(ms) * time.Millisecond)
}

// stateObject is how many jobs are in a state.
type stateObject struct {
	State job.State `json:"state"`
	Jobs  int       `json:"jobs"`
}

// jobsStats counts the live jobs.
func (a *app) jobsStats(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	counts, err := t.Counts(ctx)
	if err != nil {
		return err
	}
	all := make([]stateObject, len(live))
	for i, s := range live {
		all[i] = stateObject{s, counts[s]}
	}
	return list(a, view[stateObject]{
		id:     func(o stateObject) string { return string(o.State) },
		object: func(o stateObject) any { return o },
		columns: []column[stateObject]{
			{head: "STATE", cell: func(_ *app, o stateObject) string { return string(o.State) }, color: stateColor},
			{head: "JOBS", cell: func(_ *app, o stateObject) string { return itoa(o.Jobs) }, right: true},
		},
	}, all, "")
}

func blockedView() view[jobjson.Blocked] {
	return view[jobjson.Blocked]{
		id:     func(b jobjson.Blocked) string { return b.Job.ID },
		object: func(b jobjson.Blocked) any { return b },
		columns: []column[jobjson.Blocked]{
			{head: "ID", cell: func(a *app, b jobjson.Blocked) string { return a.shortID(b.Job.ID) }},
			{head: "WHY", cell: func(_ *app, b jobjson.Blocked) string { return b.Why }},
			{head: "KIND", cell: func(_ *app, b jobjson.Blocked) string { return b.Job.Kind }},
			{head: "ABOUT", cell: func(_ *app, b jobjson.Blocked) string { return dash(about(b.Job.Job())) }},
			{head: "SINCE", cell: func(a *app, b jobjson.Blocked) string { return a.when(timeOf(b.Since)) }},
			{head: "DETAIL", cell: func(a *app, b jobjson.Blocked) string { return blockedText(a, b) }},
		},
	}
}

func blockedText(a *app, b jobjson.Blocked) string {
	switch {
	case b.Holder != "":
		return fmt.Sprintf("behind %s on %s, %d in line", a.shortID(b.Holder), dash(b.Node), b.Line)
	case len(b.Cycle) > 0:
		return "each waits for the next: " + strings.Join(b.Cycle, " ")
	}
	return note(b.Job.Job())
}

// jobsBlocked lists the jobs that do not get on.
func (a *app) jobsBlocked(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	all, err := t.Blocked(ctx)
	if err != nil {
		return err
	}
	return list(a, blockedView(), all, "")
}
