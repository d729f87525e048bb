package main

import (
	"context"
	"io/fs"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
)

func (a *app) version() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "tell the version of this program, the schemas it knows and, where one is named, the database's",
		Description: example("drover version -o json"), Action: a.showVersion,
	}
}

type versionObject struct {
	Version  string         `json:"version"`
	Revision string         `json:"revision,omitempty"`
	Go       string         `json:"go"`
	Schemas  map[string]int `json:"schemas"` // by store
	Database *schemaObject  `json:"database,omitempty"`
	Server   *serverObject  `json:"server,omitempty"`
}

// serverObject is what a server says of itself.
type serverObject struct {
	Title   string `json:"title"`
	Version string `json:"version"`
	Node    string `json:"node"`
}

func versionView() view[versionObject] {
	return view[versionObject]{
		id:     func(o versionObject) string { return o.Version },
		object: func(o versionObject) any { return o },
		columns: []column[versionObject]{
			{head: "VERSION", cell: func(_ *app, o versionObject) string { return o.Version }},
			{head: "REVISION", cell: func(_ *app, o versionObject) string { return dash(o.Revision) }},
			{head: "GO", cell: func(_ *app, o versionObject) string { return o.Go }},
			{head: "POSTGRES", cell: func(_ *app, o versionObject) string { return itoa(o.Schemas["postgres"]) }, right: true},
			{head: "SQLITE", cell: func(_ *app, o versionObject) string { return itoa(o.Schemas["sqlite"]) }, right: true},
			{head: "SERVER", cell: func(_ *app, o versionObject) string {
				if o.Server == nil {
					return "-"
				}
				return o.Server.Version
			}},
			{head: "DATABASE", cell: func(_ *app, o versionObject) string {
				if o.Database == nil {
					return "-"
				}
				return o.Database.Store + " " + itoa(o.Database.Version)
			}},
		},
	}
}

func (a *app) showVersion(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	o := versionObject{Version: "(devel)", Go: runtime.Version(), Schemas: map[string]int{
		"postgres": count(postgres.Migrations()), "sqlite": count(sqlite.Migrations()),
	}}
	if b, ok := debug.ReadBuildInfo(); ok {
		o.Version = b.Main.Version
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				o.Revision = s.Value
			}
		}
	}
	failed := a.otherVersion(ctx, &o)
	if err := show(a, versionView(), o, nil); err != nil {
		return err
	}
	return failed
}

// otherVersion adds the other side's: the server's, or the database's.
func (a *app) otherVersion(ctx context.Context, o *versionObject) error {
	r, err := a.server()
	if err != nil || r == nil {
		if err == nil {
			err = a.databaseVersion(ctx, o)
		}
		return err
	}
	o.Server = &serverObject{}
	if err := r.get(ctx, "/meta", nil, o.Server); err != nil {
		o.Server = nil
		return err
	}
	if o.Server.Version != o.Version {
		a.note("warning: %s is of version %s, this program of %s", r.base.Host, o.Server.Version, o.Version)
	}
	return nil
}

func (a *app) databaseVersion(ctx context.Context, o *versionObject) error {
	dsn, err := a.database()
	if err != nil || dsn == "" {
		return err
	}
	t, err := a.reach(ctx, false)
	if err != nil {
		return err
	}
	s, err := t.schema(ctx)
	if err != nil {
		return err
	}
	o.Database = &s
	if s.Version != s.Known {
		a.note("warning: %s is at schema %d, this program knows %d", t.at, s.Version, s.Known)
	}
	return nil
}

func count(files fs.FS) int {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return 0
	}
	return len(names)
}
