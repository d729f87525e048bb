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
	pools, err := t.poolList(ctx)
	if err != nil {
		return err
	}
	all := make([]stateObject, len(live))
	for i, s := range live {
		all[i].State = s
		for _, p := range pools {
			all[i].Jobs += p.Jobs[s]
		}
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

type blockedObject struct {
	Job    jobObject     `json:"job"`
	Why    string        `json:"why"`
	Since  stamp         `json:"since"`
	Holder *holderObject `json:"holder,omitempty"`
	Line   int           `json:"line,omitempty"`
	Cycle  []string      `json:"cycle,omitempty"`
}

type holderObject struct {
	Job   string `json:"job"`
	Node  string `json:"node,omitempty"`
	Since stamp  `json:"since"`
}

func blockedView() view[job.Blocked] {
	return view[job.Blocked]{
		id: func(b job.Blocked) string { return b.Job.ID },
		object: func(b job.Blocked) any {
			o := blockedObject{Job: jobjson.Of(b.Job), Why: b.Why, Since: stamp(b.Since), Line: b.Line, Cycle: b.Cycle}
			if b.Holder.Content != "" {
				o.Holder = &holderObject{b.Holder.Content, b.Holder.Holder, stamp(b.Holder.Since)}
			}
			return o
		},
		columns: []column[job.Blocked]{
			{head: "ID", cell: func(a *app, b job.Blocked) string { return a.shortID(b.Job.ID) }},
			{head: "WHY", cell: func(_ *app, b job.Blocked) string { return b.Why }},
			{head: "KIND", cell: func(_ *app, b job.Blocked) string { return b.Job.Kind }},
			{head: "ABOUT", cell: func(_ *app, b job.Blocked) string { return dash(about(b.Job)) }},
			{head: "SINCE", cell: func(a *app, b job.Blocked) string { return a.when(b.Since) }},
			{head: "DETAIL", cell: func(a *app, b job.Blocked) string { return blockedText(a, b) }},
		},
	}
}

func blockedText(a *app, b job.Blocked) string {
	switch {
	case b.Holder.Content != "":
		return fmt.Sprintf("behind %s on %s, %d in line", a.shortID(b.Holder.Content), dash(b.Holder.Holder), b.Line)
	case len(b.Cycle) > 0:
		return "each waits for the next: " + strings.Join(b.Cycle, " ")
	}
	return note(b.Job)
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
	all, err := t.jobs.Blocked(ctx)
	if err != nil {
		return err
	}
	return list(a, blockedView(), all, "")
}
