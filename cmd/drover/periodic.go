package main

import (
	"context"
	"net/url"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
)

func (a *app) periodic() *cli.Command {
	verb := func(name, usage string) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "TASK", Description: example("drover periodic " + name + " audit -node ms1"),
			Flags:  []cli.Flag{&cli.StringFlag{Name: "node", Usage: "on `NODE` alone; without it on every node that has the task"}},
			Action: func(ctx context.Context, c *cli.Command) error { return a.steerTask(ctx, c, name) },
		}
	}
	return &cli.Command{
		Name: "periodic", Usage: "see and steer the periodic tasks of the nodes", Description: example("drover periodic list -o wide"),
		Commands: []*cli.Command{
			{Name: "list", Usage: "list the tasks of all nodes; one that does not answer is listed too", Action: a.tasksList, Description: example("drover periodic list")},
			verb("trigger", "run a task now"), verb("enable", "end a disable"), verb("disable", "start nothing of a task until it is enabled"),
		},
	}
}

// taskRow is a task on a node, or a node that did not answer.
type taskRow struct {
	node, silent string
	jobjson.Task
}

func taskView() view[taskRow] {
	count := func(head string, of func(t taskRow) int64) column[taskRow] {
		return column[taskRow]{head: head, cell: func(_ *app, t taskRow) string { return strconv.FormatInt(of(t), 10) }, right: true, wide: true}
	}
	return view[taskRow]{
		id: func(t taskRow) string { return t.Name },
		columns: []column[taskRow]{
			{head: "TASK", cell: func(_ *app, t taskRow) string { return dash(t.Name) }},
			{head: "NODE", cell: func(_ *app, t taskRow) string { return t.node }},
			{head: "STATE", cell: func(_ *app, t taskRow) string { return t.State + t.silent }, color: func(s string) string {
				if s == "no answer" || s == "overdue" {
					return "31"
				}
				return ""
			}},
			{head: "WHEN", cell: func(_ *app, t taskRow) string { return dash(t.Schedule) }},
			{head: "LAST", cell: func(a *app, t taskRow) string { return a.when(timeOf(t.Last)) }},
			{head: "TOOK", cell: func(_ *app, t taskRow) string { return millis(t.Took) }, right: true},
			{head: "NEXT", cell: func(a *app, t taskRow) string { return a.when(timeOf(t.Next)) }},
			count("RUNS", func(t taskRow) int64 { return t.Runs }), count("FAILED", func(t taskRow) int64 { return t.Failures }),
			count("MISSED", func(t taskRow) int64 { return t.Missed }), count("OVERLAPPED", func(t taskRow) int64 { return t.Overruns }),
			count("GATED", func(t taskRow) int64 { return t.Gated }), count("TAKEN", func(t taskRow) int64 { return t.Taken }),
			{head: "ERROR", cell: func(_ *app, t taskRow) string { return t.Error }},
		},
	}
}

func (a *app) tasksList(ctx context.Context, c *cli.Command) error {
	if _, err := want(c, 0, 0); err != nil {
		return err
	}
	r, err := a.serverOnly("periodic")
	if err != nil {
		return err
	}
	var l struct {
		Items []jobjson.Tasks `json:"items"`
		Alone bool            `json:"alone"`
	}
	if err := r.get(ctx, "/periodic", nil, &l); err != nil {
		return err
	}
	switch a.format {
	case "json":
		return a.document(l)
	case "ndjson":
		return list(a, view[jobjson.Tasks]{object: func(t jobjson.Tasks) any { return t }}, l.Items, "")
	}
	var rows []taskRow
	for _, n := range l.Items {
		for _, t := range n.Items {
			rows = append(rows, taskRow{n.Node, "", t})
		}
		if n.Error != "" && a.format != "id" {
			rows = append(rows, taskRow{node: n.Node, silent: n.Error})
		}
	}
	if l.Alone && a.format != "id" {
		a.note("only the tasks of the node asked: it knows no way to the others")
	}
	return list(a, taskView(), rows, "")
}

// doneRow is how a verb went on a node.
type doneRow struct {
	Node  string `json:"node"`
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
}

func (a *app) steerTask(ctx context.Context, c *cli.Command, verb string) error {
	args, err := want(c, 1, 1)
	if err != nil {
		return err
	}
	r, err := a.serverOnly("periodic " + verb)
	if err != nil {
		return err
	}
	var l listOf[doneRow]
	if err := r.post(ctx, "/periodic/"+url.PathEscape(args[0])+"/"+verb, fields{"node": c.String("node")}, &l); err != nil {
		return err
	}
	v := view[doneRow]{
		id: func(d doneRow) string { return d.Node }, object: func(d doneRow) any { return d },
		columns: []column[doneRow]{
			{head: "NODE", cell: func(_ *app, d doneRow) string { return d.Node }},
			{head: "DONE", cell: func(_ *app, d doneRow) string { return map[bool]string{true: "yes", false: "no"}[d.Done] }},
			{head: "WHY NOT", cell: func(_ *app, d doneRow) string { return dash(d.Error) }},
		},
	}
	if err := list(a, v, l.Items, ""); err != nil {
		return err
	}
	for _, d := range l.Items {
		if !d.Done {
			return failure(badEnd, "not on every node")
		}
	}
	return nil
}
