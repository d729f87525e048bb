package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/job"
)

// adjusting are the verbs that change one job, or several in the same way.
func (a *app) adjusting() []*cli.Command {
	reason := &cli.StringFlag{Name: "reason", Usage: "`TEXT` kept with the job"}
	return []*cli.Command{
		{
			Name: "hold", Usage: "park jobs that do not run, until they are woken", ArgsUsage: "ID…", Action: a.adjust(-1, nil, source.Hold),
			Description: example("drover jobs hold 3f2a1c9e"),
		},
		{
			Name: "wake", Usage: "wake parked jobs", ArgsUsage: "ID…", Description: example("drover jobs wake 3f2a1c9e"),
			Action: a.adjust(-1, nil, source.Wake),
		},
		{
			Name: "reprioritise", Aliases: []string{"reprioritize"}, Usage: "change a job's priority, -100 to 100, the lowest runs first", ArgsUsage: "ID N",
			Action: a.adjustTo(a.priority), Description: example("drover jobs reprioritise 3f2a1c9e 10"),
		},
		{
			Name: "reschedule", Usage: "change when a scheduled job is due", ArgsUsage: "ID WHEN", Action: a.adjustTo(a.schedule),
			Description: "WHEN is RFC 3339, how long from now, like 2h, or now.\n\n" + example("drover jobs reschedule 3f2a1c9e 2h"),
		},
		{
			Name: "fence", Usage: "fail a running job although its handler has not returned, and hand its turn on", ArgsUsage: "ID",
			Action: a.jobsFence, Flags: []cli.Flag{reason},
			Description: "For a handler that hangs and whose effects are known to have ended.\n\n" + example("drover jobs fence -yes -reason 'host is off' 3f2a1c9e"),
		},
	}
}

type deed func(s source, ctx context.Context, id string) error

// adjust does something to each job, and shows them as they are then.
func (a *app) adjust(most int, fixed []string, do deed) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		args := fixed
		if fixed == nil {
			var err error
			if args, err = want(c, 1, most); err != nil {
				return err
			}
		}
		t, err := a.connect(ctx)
		if err != nil {
			return err
		}
		ids, many, err := a.names(args)
		if err != nil {
			return err
		}
		var js []*job.Job
		failed := a.each(ctx, t, ids, many, func(ctx context.Context, id string) error {
			if err := do(t, ctx, id); err != nil {
				return err
			}
			j, err := t.Get(ctx, id)
			if err == nil {
				js = append(js, j)
			}
			return err
		})
		return a.report(jobView(), js, many, failed)
	}
}

// adjustTo is adjust of one job with a value.
func (a *app) adjustTo(parse func(value string) (deed, error)) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		args, err := want(c, 2, 2)
		if err != nil {
			return err
		}
		do, err := parse(args[1])
		if err != nil {
			return err
		}
		return a.adjust(1, args[:1], do)(ctx, c)
	}
}

func (a *app) priority(value string) (deed, error) {
	n, err := strconv.Atoi(strings.Replace(value, minus, "-", 1))
	if err != nil {
		return nil, usage("priority %q: must be a whole number", value)
	}
	return func(s source, ctx context.Context, id string) error { return s.SetPriority(ctx, id, n) }, nil
}

func (a *app) schedule(value string) (deed, error) {
	at := a.now
	if d, err := time.ParseDuration(value); err == nil {
		at = at.Add(d)
	} else if value != "now" {
		if at, err = time.Parse(time.RFC3339, value); err != nil {
			return nil, usage("%q: must be an instant like 2026-01-02T15:04:05Z, how long from now, like 2h, or now", value)
		}
	}
	return func(s source, ctx context.Context, id string) error { return s.Reschedule(ctx, id, at) }, nil
}

func (a *app) jobsFence(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 1, 1)
	if err != nil {
		return err
	}
	if err := a.confirm("fence job "+args[0], args[0]); err != nil {
		return err
	}
	why := c.String("reason")
	return a.adjust(1, args, func(s source, ctx context.Context, id string) error { return s.Fence(ctx, id, why) })(ctx, c)
}
