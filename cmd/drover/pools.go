package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func (a *app) pools() *cli.Command {
	return &cli.Command{
		Name: "pools", Usage: "see the pools of workers, and keep them from starting anything",
		Description: example("drover pools list"),
		Commands: []*cli.Command{
			{
				Name: "list", Usage: "list the pools that have live jobs or are paused", Action: a.poolsList,
				Description: example("drover pools list -o wide"),
			},
			{
				Name: "pause", Usage: "start nothing more from a pool, on any node, until it is resumed", ArgsUsage: "POOL", Action: a.poolsPause(true),
				Description: example("drover pools pause default"),
			},
			{
				Name: "resume", Usage: "end a pause", ArgsUsage: "POOL", Action: a.poolsPause(false),
				Description: example("drover pools resume default"),
			},
		},
	}
}

func (a *app) maintenance() *cli.Command {
	verb := func(name, usage string, on bool) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, Action: a.setMaintenance(on), Description: example("drover maintenance " + name)}
	}
	return &cli.Command{
		Name: "maintenance", Usage: "let the whole cluster come to rest: nothing new is taken or started, what runs goes on",
		Description: example("drover maintenance on"),
		Commands: []*cli.Command{
			verb("on", "begin it", true), verb("off", "end it", false),
			{Name: "status", Usage: "tell whether it is on, and how much still runs", Action: a.maintenanceStatus, Description: example("drover maintenance status")},
		},
	}
}

// settings are those of the cluster that are on.
func (t *target) settings(ctx context.Context) (on []string, err error) {
	err = t.store.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		on, err = t.store.Jobs().Set(ctx, tx, nil)
		return err
	})
	return on, err
}

type poolObject struct {
	Pool     string            `json:"pool"`
	Paused   bool              `json:"paused"`
	Jobs     map[job.State]int `json:"jobs"` // the live ones
	OldestMS int64             `json:"oldest_ms"`
}

// poolList is what the cluster has of each pool; no node's workers are known here.
func (t *target) poolList(ctx context.Context) ([]poolObject, error) {
	stats, err := t.jobs.Stats(ctx)
	if err != nil {
		return nil, err
	}
	on, err := t.settings(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range on {
		if name, ok := strings.CutPrefix(s, job.Paused("")); ok {
			if _, known := stats.Queues[name]; !known {
				stats.Queues[name] = job.QueueStats{Depth: map[job.State]int{}}
			}
		}
	}
	var all []poolObject
	for _, name := range slices.Sorted(maps.Keys(stats.Queues)) {
		s := stats.Queues[name]
		all = append(all, poolObject{name, slices.Contains(on, job.Paused(name)), s.Depth, s.Oldest.Milliseconds()})
	}
	return all, nil
}

func poolView() view[poolObject] {
	count := func(s job.State, wide bool) column[poolObject] {
		return column[poolObject]{head: strings.ToUpper(string(s)), cell: func(_ *app, p poolObject) string { return itoa(p.Jobs[s]) }, right: true, wide: wide}
	}
	return view[poolObject]{
		id:     func(p poolObject) string { return p.Pool },
		object: func(p poolObject) any { return p },
		columns: []column[poolObject]{
			{head: "POOL", cell: func(_ *app, p poolObject) string { return p.Pool }},
			{head: "STATE", cell: func(_ *app, p poolObject) string { return pausedText(p.Paused) }},
			count(job.Ready, false), count(job.Running, false), count(job.Waiting, false), count(job.Scheduled, true), count(job.Parked, true),
			{head: "OLDEST", cell: func(_ *app, p poolObject) string { return millis(p.OldestMS) }, right: true},
		},
	}
}

func pausedText(paused bool) string {
	if paused {
		return "paused"
	}
	return "open"
}

func (a *app) poolsList(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	all, err := t.poolList(ctx)
	if err != nil {
		return err
	}
	return list(a, poolView(), all, "")
}

func (a *app) poolsPause(on bool) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		args, err := want(c, 1, 1)
		if err != nil {
			return err
		}
		t, err := a.connect(ctx)
		if err != nil {
			return err
		}
		if on {
			err = t.jobs.PauseQueue(ctx, args[0])
		} else {
			err = t.jobs.ResumeQueue(ctx, args[0])
		}
		if err != nil {
			return err
		}
		all, err := t.poolList(ctx)
		if err != nil {
			return err
		}
		o := poolObject{Pool: args[0], Paused: on, Jobs: map[job.State]int{}}
		if i := slices.IndexFunc(all, func(p poolObject) bool { return p.Pool == args[0] }); i >= 0 {
			o = all[i]
		}
		return show(a, poolView(), o, nil)
	}
}

type maintenanceObject struct {
	On      bool `json:"on"`
	Running int  `json:"running"`
}

func (a *app) setMaintenance(on bool) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if _, err := want(c, 0, 0); err != nil {
			return err
		}
		t, err := a.connect(ctx)
		if err != nil {
			return err
		}
		if err := t.jobs.SetMaintenance(ctx, on); err != nil {
			return err
		}
		return a.showMaintenance(ctx, t)
	}
}

func (a *app) maintenanceStatus(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	return a.showMaintenance(ctx, t)
}

func (a *app) showMaintenance(ctx context.Context, t *target) error {
	on, err := t.settings(ctx)
	if err != nil {
		return err
	}
	stats, err := t.jobs.Stats(ctx)
	if err != nil {
		return err
	}
	state := func(_ *app, o maintenanceObject) string {
		if o.On {
			return "on"
		}
		return "off"
	}
	v := view[maintenanceObject]{
		id:     func(o maintenanceObject) string { return state(a, o) },
		object: func(o maintenanceObject) any { return o },
		columns: []column[maintenanceObject]{
			{head: "MAINTENANCE", cell: state},
			{head: "RUNNING", cell: func(_ *app, o maintenanceObject) string { return itoa(o.Running) }, right: true},
		},
	}
	return show(a, v, maintenanceObject{slices.Contains(on, job.Maintenance), stats.Active}, nil)
}
