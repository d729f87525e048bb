package main

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

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

type statObject struct {
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Limit    int    `json:"limit"` // 0 = unlimited
	Running  int    `json:"running"`
	Waiting  int    `json:"waiting"`
	OldestMS int64  `json:"oldest_ms"` // the longest present wait
}

func statView() view[syncqueue.Stat] {
	return view[syncqueue.Stat]{
		id: func(s syncqueue.Stat) string { return s.Key.String() },
		object: func(s syncqueue.Stat) any {
			return statObject{s.Key.Kind, s.Key.ID, s.Level, s.Running, s.Pending, s.Oldest.Milliseconds()}
		},
		columns: []column[syncqueue.Stat]{
			{head: "KEY", cell: func(_ *app, s syncqueue.Stat) string { return s.Key.String() }},
			{head: "LIMIT", cell: func(_ *app, s syncqueue.Stat) string { return limitText(s.Level) }, right: true},
			{head: "RUNNING", cell: func(_ *app, s syncqueue.Stat) string { return itoa(s.Running) }, right: true},
			{head: "WAITING", cell: func(_ *app, s syncqueue.Stat) string { return itoa(s.Pending) }, right: true},
			{head: "OLDEST", cell: func(_ *app, s syncqueue.Stat) string { return short(s.Oldest) }, right: true},
		},
	}
}

func limitText(n int) string {
	if n <= 0 {
		return "none"
	}
	return itoa(n)
}

var orders = map[string]func(x, y syncqueue.Stat) int{
	"key":     func(x, y syncqueue.Stat) int { return x.Key.Compare(y.Key) },
	"waiting": func(x, y syncqueue.Stat) int { return cmp.Or(cmp.Compare(y.Pending, x.Pending), x.Key.Compare(y.Key)) },
	"oldest":  func(x, y syncqueue.Stat) int { return cmp.Or(cmp.Compare(y.Oldest, x.Oldest), x.Key.Compare(y.Key)) },
}

func (a *app) queuesList(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	order, limit := orders[c.String("sort")], c.Int("limit")
	if order == nil {
		return usage("-sort %s: must be key, waiting or oldest", c.String("sort"))
	}
	if limit < 0 {
		return usage("-limit %d: must not be negative", limit)
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	stats, err := t.allKeys(ctx, c.String("kind"))
	if err != nil {
		return err
	}
	stats = slices.DeleteFunc(stats, func(s syncqueue.Stat) bool { return s.Pending < c.Int("min-waiting") })
	slices.SortFunc(stats, order)
	if limit > 0 && len(stats) > limit {
		a.note("there are %d more: -limit 0", len(stats)-limit)
		stats = stats[:limit]
	}
	return list(a, statView(), stats, "")
}

// allKeys lists the keys with a line, page by page.
func (t *target) allKeys(ctx context.Context, kind string) (all []syncqueue.Stat, err error) {
	const page = 1000
	f := syncqueue.Filter{Kind: kind, Limit: page}
	for {
		stats, err := t.lines.Keys(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, stats...)
		if len(stats) < page {
			return all, nil
		}
		f.After = syncqueue.Item{Key: stats[page-1].Key}.Cursor(true)
	}
}

type itemObject struct {
	Key     *keyObject `json:"key,omitempty"` // where lines of several are listed
	Job     string     `json:"job"`
	State   string     `json:"state"` // holding, waiting
	Place   int64      `json:"place"`
	Seq     int64      `json:"seq"`
	Node    string     `json:"node,omitempty"`
	Epoch   int64      `json:"epoch,omitempty"`
	Arrived stamp      `json:"arrived"`
	Since   stamp      `json:"since,omitzero"` // its turn began
}

func holding(since time.Time) string {
	if since.IsZero() {
		return "waiting"
	}
	return "holding"
}

func itemView() view[syncqueue.Item] {
	return view[syncqueue.Item]{
		id: func(i syncqueue.Item) string { return i.Content },
		object: func(i syncqueue.Item) any {
			return itemObject{
				Job: i.Content, State: holding(i.Since), Place: i.Place, Seq: i.Seq, Node: i.Holder, Epoch: i.Epoch,
				Arrived: stamp(i.Enqueued), Since: stamp(i.Since),
			}
		},
		columns: []column[syncqueue.Item]{
			{head: "JOB", cell: func(a *app, i syncqueue.Item) string { return a.shortID(i.Content) }},
			{head: "STATE", cell: func(_ *app, i syncqueue.Item) string { return holding(i.Since) }},
			{head: "NODE", cell: func(_ *app, i syncqueue.Item) string { return dash(i.Holder) }},
			{head: "ARRIVED", cell: func(a *app, i syncqueue.Item) string { return a.when(i.Enqueued) }},
			{head: "SINCE", cell: func(a *app, i syncqueue.Item) string { return a.when(i.Since) }},
			{head: "EPOCH", cell: func(_ *app, i syncqueue.Item) string { return strconv.FormatInt(i.Epoch, 10) }, right: true, wide: true},
			{head: "PLACE", cell: func(_ *app, i syncqueue.Item) string { return strconv.FormatInt(i.Place, 10) }, right: true, wide: true},
		},
	}
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
	items, err := t.lines.List(ctx, k)
	if err != nil {
		return err
	}
	return list(a, itemView(), items, "")
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
	if k.ID != "" {
		err = t.lines.SetKeyLimit(ctx, k, n)
	} else {
		err = t.lines.SetLimit(ctx, k.Kind, n)
	}
	if err != nil {
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
