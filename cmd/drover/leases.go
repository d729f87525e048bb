package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/lease"
)

func (a *app) nodes() *cli.Command {
	return &cli.Command{
		Name: "nodes", Usage: "list the sessions of nodes, dead ones of the last hour included",
		Description: example("drover nodes -o wide"),
		Action: func(ctx context.Context, c *cli.Command) error {
			return a.infos(ctx, c, func(i lease.Info) bool { return !i.Named })
		},
	}
}

func (a *app) leases() *cli.Command {
	return &cli.Command{
		Name: "leases", Usage: "list sessions and named leases with their holders",
		Description: example("drover leases"),
		Action: func(ctx context.Context, c *cli.Command) error {
			return a.infos(ctx, c, func(lease.Info) bool { return true })
		},
	}
}

func (a *app) infos(ctx context.Context, c *cli.Command, keep func(lease.Info) bool) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	t, err := a.connect(ctx)
	if err != nil {
		return err
	}
	all, err := t.sessions.List(ctx)
	if err != nil {
		return err
	}
	return list(a, infoView(), slices.DeleteFunc(all, func(i lease.Info) bool { return !keep(i) }), "")
}

type infoObject struct {
	Type        string   `json:"type"` // session, lease
	Name        string   `json:"name"`
	State       string   `json:"state"`
	Holder      string   `json:"holder"`
	Incarnation int64    `json:"incarnation"`
	Epoch       int64    `json:"epoch"`
	Store       string   `json:"store"`
	Until       stamp    `json:"until,omitzero"`
	Kinds       []string `json:"kinds,omitempty"`
	Pools       []string `json:"pools,omitempty"`
}

func infoType(i lease.Info) string {
	if i.Named {
		return "lease"
	}
	return "session"
}

func infoView() view[lease.Info] {
	return view[lease.Info]{
		id: func(i lease.Info) string { return i.Name },
		object: func(i lease.Info) any {
			h := i.Holder
			return infoObject{infoType(i), i.Name, i.State, h.Node, h.Incarnation, h.Epoch, h.Store, stamp(i.Until), i.Kinds, i.Queues}
		},
		columns: []column[lease.Info]{
			{head: "NAME", cell: func(_ *app, i lease.Info) string { return i.Name }},
			{head: "TYPE", cell: func(_ *app, i lease.Info) string { return infoType(i) }},
			{head: "STATE", cell: func(_ *app, i lease.Info) string { return i.State }, color: leaseColor},
			{head: "HOLDER", cell: func(_ *app, i lease.Info) string { return dash(i.Holder.Node) }},
			{head: "INCARNATION", cell: func(_ *app, i lease.Info) string { return strconv.FormatInt(i.Holder.Incarnation, 10) }, right: true},
			{head: "EPOCH", cell: func(_ *app, i lease.Info) string { return strconv.FormatInt(i.Holder.Epoch, 10) }, right: true},
			{head: "UNTIL", cell: func(a *app, i lease.Info) string { return a.when(i.Until) }},
			{head: "POOLS", cell: func(_ *app, i lease.Info) string { return dash(strings.Join(i.Queues, ",")) }, wide: true},
			{head: "KINDS", cell: func(_ *app, i lease.Info) string { return dash(strings.Join(i.Kinds, ",")) }, wide: true},
		},
	}
}

func leaseColor(s string) string {
	switch s {
	case lease.Active:
		return "32"
	case lease.Draining:
		return "33"
	case lease.Dead:
		return "31"
	}
	return ""
}
