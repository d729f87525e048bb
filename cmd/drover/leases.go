package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/lease"
)

func (a *app) leases() *cli.Command {
	return &cli.Command{
		Name: "leases", Usage: "list sessions and named leases with their holders",
		Description: example("drover leases"),
		Action: func(ctx context.Context, c *cli.Command) error {
			if _, err := want(c, 0, 0); err != nil {
				return err
			}
			t, err := a.connect(ctx)
			if err != nil {
				return err
			}
			all, err := t.Leases(ctx)
			if err != nil {
				return err
			}
			return list(a, leaseView(), all, "")
		},
	}
}

func leaseView() view[jobjson.Lease] {
	return view[jobjson.Lease]{
		id:     func(l jobjson.Lease) string { return l.Name },
		object: func(l jobjson.Lease) any { return l },
		columns: []column[jobjson.Lease]{
			{head: "NAME", cell: func(_ *app, l jobjson.Lease) string { return l.Name }},
			{head: "TYPE", cell: func(_ *app, l jobjson.Lease) string { return verb(l.Named, "lease", "session") }},
			{head: "STATE", cell: func(_ *app, l jobjson.Lease) string { return verb(l.Closed, "closed", l.State) }, color: stateOfNode},
			{head: "HOLDER", cell: func(_ *app, l jobjson.Lease) string { return dash(l.Holder) }},
			{head: "INCARNATION", cell: func(_ *app, l jobjson.Lease) string { return strconv.FormatInt(l.Incarnation, 10) }, right: true},
			{head: "EPOCH", cell: func(_ *app, l jobjson.Lease) string { return strconv.FormatInt(l.Epoch, 10) }, right: true},
			{head: "UNTIL", cell: func(a *app, l jobjson.Lease) string { return a.when(timeOf(l.Until)) }},
		},
	}
}

func memberView() view[jobjson.Member] {
	return view[jobjson.Member]{
		id:     func(m jobjson.Member) string { return m.ID },
		object: func(m jobjson.Member) any { return m },
		columns: []column[jobjson.Member]{
			{head: "NODE", cell: func(_ *app, m jobjson.Member) string { return m.ID }},
			{head: "STATE", cell: func(_ *app, m jobjson.Member) string { return m.State }, color: stateOfNode},
			{head: "REASON", cell: func(_ *app, m jobjson.Member) string { return dash(m.Reason) }},
			{head: "MARK", cell: func(_ *app, m jobjson.Member) string { return dash(m.Mark) }},
			{head: "SESSION", cell: func(_ *app, m jobjson.Member) string { return m.Session }},
			{head: "UNTIL", cell: func(a *app, m jobjson.Member) string { return a.when(timeOf(m.Until)) }},
			{head: "INCARNATION", cell: func(_ *app, m jobjson.Member) string { return strconv.FormatInt(m.Incarnation, 10) }, right: true, wide: true},
			{head: "ADDRESS", cell: func(_ *app, m jobjson.Member) string { return dash(m.Addr) }, wide: true},
			{head: "VERSION", cell: func(_ *app, m jobjson.Member) string { return dash(m.Version) }, wide: true},
			{head: "POOLS", cell: func(_ *app, m jobjson.Member) string { return dash(strings.Join(m.Pools, ",")) }, wide: true},
			{head: "KINDS", cell: func(_ *app, m jobjson.Member) string { return dash(strings.Join(m.Kinds, ",")) }, wide: true},
		},
	}
}

func stateOfNode(s string) string {
	switch s {
	case lease.Active, "up":
		return "32"
	case lease.Draining, "unknown", "left", "closed":
		return "33"
	case lease.Dead, "down":
		return "31"
	}
	return ""
}
