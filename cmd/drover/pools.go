package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func (a *app) pools() *cli.Command {
	return &cli.Command{
		Name: "pools", Usage: "see the pools of workers, and keep them from starting anything",
		Description: example("drover pools list"),
		Commands: []*cli.Command{
			{
				Name: "list", Usage: "list the pools that have live jobs or workers, or are paused", Action: a.poolsList,
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

func poolView() view[jobjson.Pool] {
	count := func(s job.State, wide bool) column[jobjson.Pool] {
		return column[jobjson.Pool]{head: strings.ToUpper(string(s)), cell: func(_ *app, p jobjson.Pool) string { return itoa(p.Depth[s]) }, right: true, wide: wide}
	}
	return view[jobjson.Pool]{
		id:     func(p jobjson.Pool) string { return p.Name },
		object: func(p jobjson.Pool) any { return p },
		columns: []column[jobjson.Pool]{
			{head: "POOL", cell: func(_ *app, p jobjson.Pool) string { return p.Name }},
			{head: "STATE", cell: func(_ *app, p jobjson.Pool) string { return pausedText(p.Paused) }},
			count(job.Ready, false), count(job.Running, false), count(job.Waiting, false), count(job.Scheduled, true), count(job.Parked, true),
			{head: "OLDEST", cell: func(_ *app, p jobjson.Pool) string { return millis(p.Oldest) }, right: true},
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
	all, err := t.Pools(ctx)
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
		if err := t.PausePool(ctx, args[0], on); err != nil {
			return err
		}
		all, err := t.Pools(ctx)
		if err != nil {
			return err
		}
		o := jobjson.Pool{Name: args[0], Paused: on, Depth: map[job.State]int{}}
		if i := slices.IndexFunc(all, func(p jobjson.Pool) bool { return p.Name == args[0] }); i >= 0 {
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
		t, err := a.databaseOnly(ctx, "maintenance", "")
		if err != nil {
			return err
		}
		if err := t.local.jobs.SetMaintenance(ctx, on); err != nil {
			return err
		}
		return a.showMaintenance(ctx, t)
	}
}

func (a *app) maintenanceStatus(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.databaseOnly(ctx, "maintenance", "")
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
	stats, err := t.local.jobs.Stats(ctx)
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
