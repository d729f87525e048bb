package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

func (a *app) jobs() *cli.Command {
	reason := &cli.StringFlag{Name: "reason", Usage: "`TEXT` kept with the job"}
	many := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringSliceFlag{Name: "filter", Usage: "instead of ids: all jobs with `KEY=VALUE`, a flag of jobs list; repeatable"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only list them"},
			&cli.BoolFlag{Name: "wait", Usage: "until all are final"},
		}
	}
	return &cli.Command{
		Name: "jobs", Usage: "list, follow and steer jobs",
		Description: example("drover jobs list -state running,waiting"),
		Commands: append([]*cli.Command{
			{
				Name: "list", Usage: "list jobs, the live ones unless told otherwise", Action: a.jobsList,
				Description: example("drover jobs list -state failed -created-after 24h -o wide"),
				Flags: append(filterFlags(),
					&cli.StringFlag{Name: "sort", Usage: "`ORDER`: created or -created", Value: "created"},
					&cli.IntFlag{Name: "limit", Usage: "at most `N`, 0 = all", Value: 100},
					&cli.StringFlag{Name: "after", Usage: "go on behind `CURSOR`, the \"next\" of an earlier list"}),
			},
			{
				Name: "show", Aliases: []string{"get"}, Usage: "show one job", ArgsUsage: "ID", Action: a.jobsShow,
				Description: example("drover jobs show -journal 3f2a1c9e"),
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "journal", Usage: "with its journal"},
					&cli.BoolFlag{Name: "timeline", Usage: "with its timeline: what became of it, and when"},
				},
			},
			{
				Name: "wait", Usage: "wait until jobs are final", ArgsUsage: "ID…", Action: a.jobsWait,
				Description: example("drover jobs wait 3f2a1c9e -timeout 5m"),
			},
			{
				Name: "cancel", Usage: "ask for the end of jobs, wherever they run", ArgsUsage: "ID…", Action: a.jobsCancel,
				Description: example("drover jobs cancel -wait -reason 'wrong host' 3f2a1c9e"),
				Flags:       append(many(), reason),
			},
			{
				Name: "retry", Usage: "make new jobs of failed and cancelled ones", ArgsUsage: "ID…", Action: a.jobsRetry,
				Description: example("drover jobs list -state failed -o id | drover jobs retry -"),
				Flags:       append(many(), &cli.BoolFlag{Name: "keep-steps", Usage: "steps that are finished are not run again"}),
			},
			{
				Name: "tail", Usage: "follow a job's journal until it is final, or with -server what happens to all jobs", ArgsUsage: "[ID]", Action: a.jobsTail,
				Description: example("drover jobs tail 3f2a1c9e"),
			},
			{
				Name: "flow", Usage: "list what became of the steps of a job's flows", ArgsUsage: "ID", Action: a.jobsFlow,
				Description: example("drover jobs flow 3f2a1c9e"),
			},
			{
				Name: "stats", Usage: "count the live jobs by state", Action: a.jobsStats, Description: example("drover jobs stats"),
			},
			{
				Name: "blocked", Usage: "list the jobs that do not get on, and why; none is a healthy cluster", Action: a.jobsBlocked,
				Description: example("drover jobs blocked"),
			},
		}, a.adjusting()...),
	}
}

// jobView shows jobs in lists.
func jobView() view[*job.Job] {
	return view[*job.Job]{
		id:     func(j *job.Job) string { return j.ID },
		object: func(j *job.Job) any { return jobjson.Of(j) },
		columns: []column[*job.Job]{
			{head: "ID", cell: func(a *app, j *job.Job) string { return a.shortID(j.ID) }},
			{head: "STATE", cell: func(_ *app, j *job.Job) string { return string(j.State) }, color: stateColor},
			{head: "KIND", cell: func(_ *app, j *job.Job) string { return j.Kind }},
			{head: "ABOUT", cell: func(_ *app, j *job.Job) string { return dash(about(j)) }},
			{head: "DONE", cell: func(_ *app, j *job.Job) string { return percent(j) }, right: true},
			{head: "TRY", cell: func(_ *app, j *job.Job) string { return attempt(j) }},
			{head: "NODE", cell: func(_ *app, j *job.Job) string { return dash(j.Session) }},
			{head: "CREATED", cell: func(a *app, j *job.Job) string { return a.when(j.Created) }},
			{head: "STARTED", wide: true, cell: func(a *app, j *job.Job) string { return a.when(j.Started) }},
			{head: "ENDED", wide: true, cell: func(a *app, j *job.Job) string { return a.when(j.Ended) }},
			{head: "POOL", wide: true, cell: func(_ *app, j *job.Job) string { return j.Queue }},
			{head: "PRIORITY", wide: true, cell: func(_ *app, j *job.Job) string { return itoa(j.Priority) }, right: true},
			{head: "ACCOUNT", wide: true, cell: func(_ *app, j *job.Job) string { return dash(j.Identity["account"]) }},
			{head: "NOTE", cell: func(_ *app, j *job.Job) string { return note(j) }},
		},
	}
}

func stateColor(s string) string {
	switch job.State(s) {
	case job.Running:
		return "36"
	case job.Succeeded:
		return "32"
	case job.Failed:
		return "31"
	case job.Cancelled, job.Parked:
		return "33"
	}
	return ""
}

// about is the resource, or the key it takes turns on.
func about(j *job.Job) string {
	if j.Resource == "" && j.Sync.Kind != "" {
		return j.Sync.String()
	}
	return j.Resource
}

func percent(j *job.Job) string {
	if j.Progress == (job.Progress{}) {
		return "-"
	}
	return fmt.Sprintf("%d%%", j.Progress.Percent)
}

// attempt counts failures, of as many as are allowed where that is known.
func attempt(j *job.Job) string {
	if j.MaxAttempts == 0 {
		return itoa(j.Attempt)
	}
	return fmt.Sprintf("%d/%d", j.Attempt, j.MaxAttempts)
}

// note is the error's first line, else what the handler says it does.
func note(j *job.Job) string {
	s := strings.TrimSpace(j.Progress.Step + " " + j.Progress.Note)
	if j.Error != nil {
		s, _, _ = strings.Cut(j.Error.Error(), "\n")
	} else if !j.CancelAt.IsZero() && !j.State.Final() {
		s = "cancel requested"
	}
	if r := []rune(s); len(r) > 80 {
		s = string(r[:79]) + "…"
	}
	return s
}

func (a *app) jobsList(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	limit, sort := c.Int("limit"), c.String("sort")
	if limit < 0 {
		return usage("-limit %d: must not be negative", limit)
	}
	if !slices.Contains([]string{"created", "-created"}, sort) {
		return usage("-sort %s: must be created or -created", sort)
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	q, err := a.query(ctx, t, c)
	if err != nil {
		return err
	}
	q.Newest, q.After = sort == "-created", c.String("after")
	js, next, err := t.atMost(ctx, q, limit)
	if err != nil {
		return err
	}
	if err := list(a, jobView(), js, next); err != nil {
		return err
	}
	if next != "" && a.format != "json" {
		a.note("there are more: -after %s, or -limit 0", next)
	}
	return nil
}

func (a *app) jobsShow(ctx context.Context, c *cli.Command) error {
	t, id, err := a.one(ctx, c)
	if err != nil {
		return err
	}
	j, err := t.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	var journal []job.Entry
	if c.Bool("journal") {
		for e, err := range t.Journal(ctx, id) {
			if err != nil {
				return err
			}
			journal = append(journal, e)
		}
	}
	var spans []jobjson.Span
	if c.Bool("timeline") {
		if spans, err = t.Timeline(ctx, id); err != nil {
			return err
		}
	}
	place, err := t.place(ctx, j)
	if err != nil {
		return err
	}
	v := jobView()
	v.object = func(j *job.Job) any {
		o := wholeOf(j)
		for _, e := range journal {
			o.Journal = append(o.Journal, entryOf(e))
		}
		o.Timeline = spans
		return o
	}
	return show(a, v, j, func() string { return a.details(j, place) + a.timeline(spans) + a.journal(journal) })
}

// place says in words where a waiting job stands in its line.
func (t *target) place(ctx context.Context, j *job.Job) (string, error) {
	if j.State != job.Waiting {
		return "", nil
	}
	l, err := t.Line(ctx, j.Sync)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(l.Waiters, func(i jobjson.Item) bool { return i.Content == j.ID })
	if at < 0 {
		return "", nil // its turn has come meanwhile
	}
	s := fmt.Sprintf("number %d of %d on %s", at+1, len(l.Waiters), j.Sync)
	var holders []string
	for _, h := range l.Holders[:min(len(l.Holders), 3)] {
		holders = append(holders, tail8(h.Content))
	}
	if len(holders) > 0 {
		s += ", behind " + strings.Join(holders, " ")
	}
	return s, nil
}
