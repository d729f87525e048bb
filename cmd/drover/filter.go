package main

import (
	"context"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// filter is one condition on jobs: a flag of list, and a key of -filter key=value.
type filter struct {
	name, usage string
	many        bool // may be given again
	set         func(q *job.Query, value string, now time.Time) error
}

var filters = []filter{
	{"state", "in this `STATE`; repeatable, or with commas (default: the live ones)", true, func(q *job.Query, v string, _ time.Time) error {
		for s := range strings.SplitSeq(v, ",") {
			q.States = append(q.States, job.State(s))
		}
		return nil
	}},
	{"kind", "of this `KIND`; repeatable", true, func(q *job.Query, v string, _ time.Time) error { q.Kinds = append(q.Kinds, v); return nil }},
	{"pool", "of this `POOL` of workers; repeatable", true, func(q *job.Query, v string, _ time.Time) error { q.Queues = append(q.Queues, v); return nil }},
	{"key", "that takes turns on `KIND/ID`", false, func(q *job.Query, v string, _ time.Time) (err error) { q.Key, err = parseKey(v); return err }},
	{"resource", "about `TYPE/ID`", false, text(func(q *job.Query) *string { return &q.Resource })},
	{"parent", "children of the job `ID`", false, text(func(q *job.Query) *string { return &q.Parent })},
	{"root", "the job `ID` and all below it", false, text(func(q *job.Query) *string { return &q.Root })},
	{"node", "that runs or last ran on `NODE`", false, text(func(q *job.Query) *string { return &q.Session })},
	{"account", "of `ACCOUNT`", false, text(func(q *job.Query) *string { return &q.Account })},
	{"text", "with `TEXT` in kind, resource, identity or error", false, text(func(q *job.Query) *string { return &q.Text })},
	{"created-after", "`WHEN`: RFC 3339, or how long ago, like 2h", false, instant(func(q *job.Query) *time.Time { return &q.Created.From })},
	{"created-before", "`WHEN`", false, instant(func(q *job.Query) *time.Time { return &q.Created.To })},
	{"finished-after", "`WHEN`", false, instant(func(q *job.Query) *time.Time { return &q.Ended.From })},
	{"finished-before", "`WHEN`", false, instant(func(q *job.Query) *time.Time { return &q.Ended.To })},
	{"longer", "that run longer than `TIME`, like 30m", false, func(q *job.Query, v string, _ time.Time) (err error) {
		q.Older, err = time.ParseDuration(v)
		if err == nil && q.Older <= 0 {
			return usage("must be positive")
		}
		return err
	}},
}

func text(field func(*job.Query) *string) func(*job.Query, string, time.Time) error {
	return func(q *job.Query, v string, _ time.Time) error {
		if *field(q) != "" || v == "" {
			return usage("needs one value")
		}
		*field(q) = v
		return nil
	}
}

func instant(field func(*job.Query) *time.Time) func(*job.Query, string, time.Time) error {
	return func(q *job.Query, v string, now time.Time) error {
		d, err := time.ParseDuration(v)
		if err == nil {
			*field(q) = now.Add(-d)
			return nil
		}
		if *field(q), err = time.Parse(time.RFC3339, v); err != nil {
			return usage("must be an instant like 2026-01-02T15:04:05Z, or how long ago, like 2h")
		}
		return nil
	}
}

// parseKey reads KIND/ID.
func parseKey(s string) (syncqueue.Key, error) {
	kind, id, ok := strings.Cut(s, "/")
	k := syncqueue.Key{Kind: kind, ID: id}
	if !ok || id == "" {
		return k, usage("%q must be KIND/ID, like vm/42", s)
	}
	return k, k.Validate()
}

// parseTarget reads KIND or KIND/ID; of a kind the ID is "".
func parseTarget(s string) (syncqueue.Key, error) {
	if !strings.Contains(s, "/") {
		return syncqueue.Key{Kind: s}, nil
	}
	return parseKey(s)
}

func filterFlags() (fs []cli.Flag) {
	for _, f := range filters {
		if f.many {
			fs = append(fs, &cli.StringSliceFlag{Name: f.name, Usage: f.usage})
		} else {
			fs = append(fs, &cli.StringFlag{Name: f.name, Usage: f.usage, OnlyOnce: true})
		}
	}
	return append(fs, &cli.BoolFlag{Name: "all", Usage: "finished ones too"})
}

var (
	live     = []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked}
	finished = []job.State{job.Succeeded, job.Failed, job.Cancelled}
)

// query reads the flags of list.
func (a *app) query(ctx context.Context, t *target, c *cli.Command) (q job.Query, err error) {
	for _, f := range filters {
		var vs []string
		if f.many {
			vs = c.StringSlice(f.name)
		} else if c.IsSet(f.name) {
			vs = []string{c.String(f.name)}
		}
		for _, v := range vs {
			if err := f.set(&q, v, a.now); err != nil {
				return q, usage("-%s: %w", f.name, err)
			}
		}
	}
	if c.Bool("all") {
		q.States = append(append([]job.State{}, live...), finished...)
	}
	return q, a.complete(ctx, t, &q)
}

// pairs reads key=value conditions of -filter.
func (a *app) pairs(ctx context.Context, t *target, kvs []string) (q job.Query, err error) {
	for _, kv := range kvs {
		key, value, ok := strings.Cut(kv, "=")
		known := false
		for _, f := range filters {
			if known = f.name == key; known {
				err = f.set(&q, value, a.now)
				break
			}
		}
		if !ok || !known {
			return q, usage("-filter %q: must be key=value, with a flag of jobs list as key", kv)
		}
		if err != nil {
			return q, usage("-filter %s: %w", key, err)
		}
	}
	return q, a.complete(ctx, t, &q)
}

// complete finds the ids that are given by their ends, and lets a search among finished jobs find them.
func (a *app) complete(ctx context.Context, t *target, q *job.Query) (err error) {
	for _, id := range []*string{&q.Parent, &q.Root} {
		if *id != "" {
			if *id, err = t.resolve(ctx, *id); err != nil {
				return err
			}
		}
	}
	if len(q.States) == 0 && q.Ended != (job.Range{}) {
		q.States = finished
	}
	return nil
}
