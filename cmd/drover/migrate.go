package main

import (
	"context"
	"io/fs"

	"github.com/urfave/cli/v3"
)

func (a *app) migrate() *cli.Command {
	return &cli.Command{
		Name: "migrate", Usage: "bring the schema up to date, or look at it",
		Description: example("drover migrate up -db postgres://app@db/app"),
		Flags: []cli.Flag{&cli.BoolFlag{
			Name: "after-failover", Local: true,
			Usage: "after a restore or a failover that may have lost commits: end all sessions and raise the store's incarnation",
		}},
		Action: a.afterFailover,
		Commands: []*cli.Command{
			{
				Name: "up", Usage: "apply the migrations that are missing; several at once are safe", Action: a.migrateUp,
				Description: example("drover migrate up -db sqlite:/var/lib/app/drover.db"),
			},
			{
				Name: "status", Usage: "tell which migrations are missing", Action: a.migrateStatus,
				Description: example("drover migrate status -check"),
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "exit 1 if one is"}},
			},
		},
	}
}

// schemaObject is where a database's schema stands.
type schemaObject struct {
	Store   string   `json:"store"`
	Version int      `json:"version"`
	Known   int      `json:"known"` // to this program
	Pending []string `json:"pending"`
}

func schemaView() view[schemaObject] {
	return view[schemaObject]{
		id:     func(o schemaObject) string { return itoa(o.Version) },
		object: func(o schemaObject) any { return o },
		columns: []column[schemaObject]{
			{head: "STORE", cell: func(_ *app, o schemaObject) string { return o.Store }},
			{head: "VERSION", cell: func(_ *app, o schemaObject) string { return itoa(o.Version) }, right: true},
			{head: "KNOWN", cell: func(_ *app, o schemaObject) string { return itoa(o.Known) }, right: true},
			{head: "PENDING", cell: func(_ *app, o schemaObject) string { return itoa(len(o.Pending)) }, right: true},
		},
	}
}

func (t *target) schema(ctx context.Context) (o schemaObject, err error) {
	o = schemaObject{Store: t.kind, Pending: []string{}}
	if o.Version, o.Known, err = t.store.Schema(ctx); err != nil {
		return o, err
	}
	names, err := fs.Glob(t.files, "*.sql") // sorted, numbered from 1
	if err == nil && o.Version < len(names) {
		o.Pending = names[o.Version:]
	}
	return o, err
}

func (a *app) migrateUp(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.reach(ctx, true)
	if err != nil {
		return err
	}
	if err := t.store.Migrate(ctx); err != nil {
		return err
	}
	o, err := t.schema(ctx)
	if err != nil {
		return err
	}
	return show(a, schemaView(), o, nil)
}

func (a *app) migrateStatus(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.reach(ctx, false)
	if err != nil {
		return err
	}
	o, err := t.schema(ctx)
	if err != nil {
		return err
	}
	if err := show(a, schemaView(), o, nil); err != nil {
		return err
	}
	if c.Bool("check") && len(o.Pending) > 0 {
		return failure(badEnd, "the schema is behind by %d; run: drover migrate up", len(o.Pending))
	}
	return nil
}

// afterFailover is migrate without a verb.
func (a *app) afterFailover(ctx context.Context, c *cli.Command) error {
	if !c.Bool("after-failover") || c.Args().Present() {
		return noVerb(ctx, c)
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if err := t.store.AfterFailover(ctx); err != nil {
		return err
	}
	a.note("all sessions are ended; what they ran is run again")
	o, err := t.schema(ctx)
	if err != nil {
		return err
	}
	return show(a, schemaView(), o, nil)
}
