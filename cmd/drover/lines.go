package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// lineVerbs steer the lines of keys.
func (a *app) lineVerbs() []*cli.Command {
	return []*cli.Command{
		{
			Name: "pause", Usage: "grant no turn of a kind's keys, or of one key, until it is resumed", ArgsUsage: "KIND[/ID]", Action: a.queuesPause(true),
			Description: example("drover queues pause vm/42"),
		},
		{
			Name: "resume", Usage: "end a pause", ArgsUsage: "KIND[/ID]", Action: a.queuesPause(false),
			Description: example("drover queues resume vm/42"),
		},
		{
			Name: "move", Usage: "move a waiting job within its line", ArgsUsage: "KIND/ID JOB", Action: a.queuesMove,
			Description: example("drover queues move vm/42 3f2a1c9e -first"),
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "first", Usage: "to the head of the line"},
				&cli.BoolFlag{Name: "last", Usage: "to its end"},
				&cli.StringFlag{Name: "before", Usage: "before the waiting `JOB`"},
			},
		},
		{
			Name: "clear", Usage: "cancel all jobs that wait in a line; who holds a turn goes on", ArgsUsage: "KIND/ID", Action: a.queuesClear,
			Description: example("drover queues clear -yes vm/42"),
			Flags:       []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "`TEXT` kept with the jobs"}},
		},
		{
			Name: "blocked", Usage: "list those who wait for a turn for long, after the one they wait for", Action: a.queuesBlocked,
			Description: example("drover queues blocked -older 5m"),
			Flags:       []cli.Flag{&cli.DurationFlag{Name: "older", Usage: "for `TIME` at least", Value: defaultOlder}},
		},
	}
}

type pauseObject struct {
	Kind   string `json:"kind"`
	ID     string `json:"id,omitempty"`
	Paused bool   `json:"paused"`
}

func (a *app) queuesPause(on bool) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		args, err := want(c, 1, 1)
		if err != nil {
			return err
		}
		k, err := parseTarget(args[0])
		if err != nil {
			return err
		}
		t, err := a.connect(ctx)
		if err != nil {
			return err
		}
		q, o := t.lines, pauseObject{Kind: k.Kind, ID: k.ID, Paused: on}
		switch {
		case o.ID == "" && on:
			err = q.PauseKind(ctx, o.Kind)
		case o.ID == "":
			err = q.ResumeKind(ctx, o.Kind)
		case on:
			err = q.Pause(ctx, k)
		default:
			err = q.Resume(ctx, k)
		}
		if err != nil {
			return err
		}
		return show(a, view[pauseObject]{
			id:     func(pauseObject) string { return args[0] },
			object: func(o pauseObject) any { return o },
			columns: []column[pauseObject]{
				{head: "KEY", cell: func(*app, pauseObject) string { return args[0] }},
				{head: "STATE", cell: func(_ *app, o pauseObject) string { return pausedText(o.Paused) }},
			},
		}, o, nil)
	}
}

// queuesMove moves a waiter and shows the line as it is then.
func (a *app) queuesMove(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 2, 2)
	if err != nil {
		return err
	}
	first, last, before := c.Bool("first"), c.Bool("last"), c.String("before")
	if n := given(first, last, before != ""); n != 1 {
		return usage("give one of -first, -last and -before JOB")
	}
	k, err := parseKey(args[0])
	if err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	seq, err := t.seqIn(ctx, k, args[1])
	if err != nil {
		return err
	}
	switch {
	case first:
		err = t.lines.MoveFirst(ctx, seq)
	case last:
		err = t.lines.Move(ctx, seq, 0)
	default:
		var other int64
		if other, err = t.seqIn(ctx, k, before); err == nil {
			err = t.lines.Move(ctx, seq, other)
		}
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return failure(notFound, "job %s does not wait in the line of %s any more", args[1], k)
	case err != nil:
		return err
	}
	items, err := t.lines.List(ctx, k)
	if err != nil {
		return err
	}
	return list(a, itemView(), items, "")
}

func given(all ...bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// seqIn finds a job in the line of a key.
func (t *target) seqIn(ctx context.Context, k syncqueue.Key, name string) (int64, error) {
	id, err := t.resolve(ctx, name)
	if err != nil {
		return 0, err
	}
	items, err := t.lines.List(ctx, k)
	if err != nil {
		return 0, err
	}
	for _, i := range items {
		if i.Content == id {
			return i.Seq, nil
		}
	}
	return 0, failure(notFound, "job %s is not in the line of %s", id, k)
}

func (a *app) queuesClear(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 1, 1)
	if err != nil {
		return err
	}
	k, err := parseKey(args[0])
	if err != nil {
		return err
	}
	if err := a.confirm("clear the line of "+args[0], args[0]); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	items, err := t.lines.List(ctx, k)
	if err != nil {
		return err
	}
	var ids []string
	for _, i := range items {
		if i.Since.IsZero() {
			ids = append(ids, i.Content)
		}
	}
	var js []*job.Job
	failed := a.each(ctx, t, ids, true, func(ctx context.Context, id string) error {
		if _, err := t.jobs.Cancel(ctx, id, c.String("reason")); err != nil {
			return err
		}
		j, err := t.jobs.Get(ctx, id)
		if err == nil {
			js = append(js, j)
		}
		return err
	})
	return a.report(jobView(), js, true, failed)
}

const defaultOlder = 10 * time.Minute // as of the blocked report of jobs

func (a *app) queuesBlocked(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	items, err := t.lines.Blocked(ctx, c.Duration("older"))
	if err != nil {
		return err
	}
	v := itemView()
	v.columns = append([]column[syncqueue.Item]{{head: "KEY", cell: func(_ *app, i syncqueue.Item) string { return i.Key.String() }}}, v.columns...)
	plain := v.object
	v.object = func(i syncqueue.Item) any {
		o, _ := plain(i).(itemObject)
		o.Key = jobjson.KeyOf(i.Key)
		return o
	}
	return list(a, v, items, "")
}
