package main

import (
	"context"
	"net/url"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
)

// members are the nodes: without a verb it lists them.
func (a *app) members() *cli.Command {
	steer := func(name, usage, example1 string, body func(c *cli.Command, id string) fields, ask bool, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "ID", Description: example(example1), Flags: flags,
			Action: func(ctx context.Context, c *cli.Command) error {
				args, err := want(c, 1, 1)
				if err != nil {
					return err
				}
				r, err := a.serverOnly("members " + name)
				if err != nil {
					return err
				}
				if ask {
					if err := a.confirm(name+" "+args[0], args[0]); err != nil {
						return err
					}
				}
				var ms jobjson.Members
				if err := r.post(ctx, "/members/"+url.PathEscape(args[0])+"/"+name, body(c, args[0]), &ms); err != nil {
					return err
				}
				for _, m := range ms.Items {
					if m.ID == args[0] {
						return show(a, memberView(), m, nil)
					}
				}
				a.note("%s: done, and it is not there any more", args[0])
				return nil
			},
		}
	}
	confirmed := func(_ *cli.Command, id string) fields { return fields{"confirm": id} }
	return &cli.Command{
		Name: "members", Aliases: []string{"nodes"}, Usage: "see the nodes, and say what becomes of them",
		Description: example("drover members -o wide"), Action: a.membersList,
		Commands: []*cli.Command{
			{Name: "list", Usage: "list the nodes: up, draining, down, unknown, left", Action: a.membersList, Description: example("drover members list")},
			{Name: "owner", Usage: "tell which node owns a key, and who follows", ArgsUsage: "KEY", Action: a.owner, Description: example("drover members owner vm/42")},
			steer("mark", "set or take back what an operator says of a node", "drover members mark ms2 -as maintenance",
				func(c *cli.Command, _ string) fields { return fields{"mark": c.String("as")} }, false,
				&cli.StringFlag{Name: "as", Usage: "`MARK`: maintenance, forced-down, or nothing"}),
			steer("confirm-down", "say of a silent node that it is down", "drover members confirm-down ms2 -yes", confirmed, true),
			steer("forget", "remove a node's record", "drover members forget ms2 -yes",
				func(c *cli.Command, id string) fields { return fields{"confirm": id, "ban": c.Bool("ban")} }, true,
				&cli.BoolFlag{Name: "ban", Usage: "it may not come back"}),
			steer("drain", "have a node take nothing new and come to rest", "drover members drain ms2", func(*cli.Command, string) fields { return fields{} }, false),
			steer("resume", "have a draining node take work again", "drover members resume ms2", func(*cli.Command, string) fields { return fields{} }, false),
		},
	}
}

func (a *app) membersList(ctx context.Context, c *cli.Command) error {
	if c.Name == "members" && c.Args().Present() {
		return noVerb(ctx, c)
	}
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ms, err := t.Members(ctx)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.document(ms)
	}
	if ms.Frozen {
		a.note("frozen: too many nodes fell silent at once, so none is called down for it")
	}
	return list(a, memberView(), ms.Items, "")
}

type ownerObject struct {
	Key    string   `json:"key"`
	Owners []string `json:"owners"`
}

func (a *app) owner(ctx context.Context, c *cli.Command) error {
	args, err := want(c, 1, 1)
	if err != nil {
		return err
	}
	r, err := a.serverOnly("members owner")
	if err != nil {
		return err
	}
	var o ownerObject
	if err := r.get(ctx, "/members/owner", url.Values{"key": args}, &o); err != nil {
		return err
	}
	if a.format == "json" || a.format == "ndjson" {
		return a.line(o)
	}
	v := view[string]{id: func(s string) string { return s }, columns: []column[string]{{head: "OWNER", cell: func(_ *app, s string) string { return s }}}}
	return list(a, v, o.Owners, "")
}
