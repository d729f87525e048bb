package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
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
		o := pauseObject{Kind: k.Kind, ID: k.ID, Paused: on}
		if err := t.PauseLine(ctx, k, on); err != nil {
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
	to := c.String("before")
	if n := given(c.Bool(first), c.Bool(last), to != ""); n != 1 {
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
	id, err := t.resolve(ctx, args[1])
	if err != nil {
		return err
	}
	switch {
	case c.Bool(first):
		to = first
	case c.Bool(last):
		to = last
	default:
		if to, err = t.resolve(ctx, to); err != nil {
			return err
		}
	}
	err = t.Move(ctx, k, id, to)
	if errors.Is(err, store.ErrNotFound) {
		return failure(notFound, "job %s does not wait in the line of %s any more", args[1], k)
	}
	if err != nil {
		return err
	}
	return a.showLine(ctx, t, k)
}

func given(all ...bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
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
	l, err := t.Line(ctx, k)
	if err != nil {
		return err
	}
	var ids []string
	for _, i := range l.Waiters {
		ids = append(ids, i.Content)
	}
	var js []*job.Job
	failed := a.each(ctx, t, ids, true, func(ctx context.Context, id string) error {
		if err := t.Cancel(ctx, id, c.String("reason")); err != nil {
			return err
		}
		j, err := t.Get(ctx, id)
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
	t, err := a.databaseOnly(ctx, "queues blocked", "; a server has: drover jobs blocked")
	if err != nil {
		return err
	}
	items, err := t.local.queue.Blocked(ctx, c.Duration("older"))
	if err != nil {
		return err
	}
	keyOf := map[string]string{} // by content
	v := itemView()
	v.columns = append([]column[jobjson.Item]{{head: "KEY", cell: func(_ *app, i jobjson.Item) string { return keyOf[i.Content] }}}, v.columns...)
	all := make([]jobjson.Item, len(items))
	for n, i := range items {
		all[n] = jobjson.Item{Content: i.Content, Seq: i.Seq, Holder: i.Holder, Epoch: i.Epoch, Enqueued: stamp(i.Enqueued), Since: stamp(i.Since)}
		keyOf[i.Content] = i.Key.String()
	}
	v.object = func(i jobjson.Item) any { return keyedItem{keyOf[i.Content], i} }
	return list(a, v, all, "")
}

// keyedItem is an item where those of several lines are listed.
type keyedItem struct {
	Key string `json:"key"`
	jobjson.Item
}
