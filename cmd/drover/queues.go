package main

import (
	"context"
	"slices"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/syncqueue"
)

func (a *app) queues() *cli.Command {
	return &cli.Command{
		Name: "queues", Usage: "see the lines that jobs stand in for their turns, and set how many have one",
		Description: example("drover queues list -sort waiting"),
		Commands: append([]*cli.Command{
			{
				Name: "list", Usage: "list the keys with a line", Action: a.queuesList,
				Description: example("drover queues list -kind vm -sort oldest"),
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "kind", Usage: "of this `KIND`"},
					&cli.IntFlag{Name: "min-waiting", Usage: "with at least `N` waiters"},
					&cli.StringFlag{Name: "sort", Usage: "`ORDER`: key, waiting or oldest, the most first", Value: "key"},
					&cli.IntFlag{Name: "limit", Usage: "at most `N`, 0 = all", Value: 100},
				},
			},
			{
				Name: "show", Usage: "show a line: who has a turn, who waits, in order", ArgsUsage: "KIND/ID", Action: a.queuesShow,
				Description: example("drover queues show vm/42"),
			},
			{
				Name: "limit", Usage: "set how many turns a kind's keys, or one key, have at once; 0 = unlimited", ArgsUsage: "KIND[/ID] N",
				Action: a.queuesLimit, Description: example("drover queues limit vm 1"),
			},
		}, a.lineVerbs()...),
	}
}

func lineView() view[jobjson.Line] {
	return view[jobjson.Line]{
		id:     func(l jobjson.Line) string { return keyText(l.Key) },
		object: func(l jobjson.Line) any { return l },
		columns: []column[jobjson.Line]{
			{head: "KEY", cell: func(_ *app, l jobjson.Line) string { return keyText(l.Key) }},
			{head: "LIMIT", cell: func(_ *app, l jobjson.Line) string { return limitText(l.Limit) }, right: true},
			{head: "RUNNING", cell: func(_ *app, l jobjson.Line) string { return itoa(l.Holders) }, right: true},
			{head: "WAITING", cell: func(_ *app, l jobjson.Line) string { return itoa(l.Waiting) }, right: true},
			{head: "OLDEST", cell: func(_ *app, l jobjson.Line) string { return millis(l.Oldest) }, right: true},
			{head: "STATE", cell: func(_ *app, l jobjson.Line) string { return pausedText(l.Paused) }},
		},
	}
}

func keyText(k jobjson.Key) string { return syncqueue.Key{Kind: k.Kind, ID: k.ID}.String() }

func limitText(n int) string {
	if n <= 0 {
		return "none"
	}
	return itoa(n)
}

func (a *app) queuesList(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	order, limit := c.String("sort"), c.Int("limit")
	if !jobjson.SortLines(nil, order) {
		return usage("-sort %s: must be key, waiting or oldest", order)
	}
	if limit < 0 {
		return usage("-limit %d: must not be negative", limit)
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	all, err := t.Lines(ctx, c.String("kind"))
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(l jobjson.Line) bool { return l.Waiting < c.Int("min-waiting") })
	jobjson.SortLines(all, order)
	if limit > 0 && len(all) > limit {
		a.note("there are %d more: -limit 0", len(all)-limit)
		all = all[:limit]
	}
	return list(a, lineView(), all, "")
}

func holding(i jobjson.Item) string {
	if i.Since.IsZero() {
		return "waiting"
	}
	return "holding"
}

func itemView() view[jobjson.Item] {
	return view[jobjson.Item]{
		id:     func(i jobjson.Item) string { return i.Content },
		object: func(i jobjson.Item) any { return i },
		columns: []column[jobjson.Item]{
			{head: "JOB", cell: func(a *app, i jobjson.Item) string { return a.shortID(i.Content) }},
			{head: "STATE", cell: func(_ *app, i jobjson.Item) string { return holding(i) }},
			{head: "NODE", cell: func(_ *app, i jobjson.Item) string { return dash(i.Holder) }},
			{head: "ARRIVED", cell: func(a *app, i jobjson.Item) string { return a.when(timeOf(i.Enqueued)) }},
			{head: "SINCE", cell: func(a *app, i jobjson.Item) string { return a.when(timeOf(i.Since)) }},
			{head: "EPOCH", cell: func(_ *app, i jobjson.Item) string { return strconv.FormatInt(i.Epoch, 10) }, right: true, wide: true},
			{head: "PLACE", cell: func(_ *app, i jobjson.Item) string { return itoa(i.Place) }, right: true, wide: true},
		},
	}
}

// showLine shows who has a turn and who waits.
func (a *app) showLine(ctx context.Context, t *target, k syncqueue.Key) error {
	l, err := t.Line(ctx, k)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.document(l)
	}
	if l.Paused {
		a.note("%s is paused, by its %s", k, l.Why)
	}
	return list(a, itemView(), slices.Concat(l.Holders, l.Waiters), "")
}

func (a *app) queuesShow(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 1, 1)
	if err != nil {
		return err
	}
	k, err := parseKey(args[0])
	if err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	return a.showLine(ctx, t, k)
}

type limitObject struct {
	Kind  string `json:"kind"`
	ID    string `json:"id,omitempty"`
	Limit int    `json:"limit"`
}

func (a *app) queuesLimit(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 2, 2)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return usage("limit %q: must be a number", args[1])
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	k, err := parseTarget(args[0])
	if err != nil {
		return err
	}
	if err := t.Limit(ctx, k, n); err != nil {
		return err
	}
	o := limitObject{Kind: k.Kind, ID: k.ID, Limit: n}
	v := view[limitObject]{
		id:     func(o limitObject) string { return args[0] },
		object: func(o limitObject) any { return o },
		columns: []column[limitObject]{
			{head: "KEY", cell: func(*app, limitObject) string { return args[0] }},
			{head: "LIMIT", cell: func(_ *app, o limitObject) string { return limitText(o.Limit) }, right: true},
		},
	}
	return show(a, v, o, nil)
}
