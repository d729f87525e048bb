package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/job"
)

const (
	idLen   = 36
	minEnd  = 6
	maxPage = 500
)

// resolve finds the id that ends so.
func (t *target) resolve(ctx context.Context, id string) (string, error) {
	id = strings.ToLower(strings.TrimSpace(id))
	switch {
	case len(id) == idLen:
		return id, nil
	case len(id) < minEnd || len(id) > idLen:
		return "", usage("job %q: give its id, or the last %d or more characters of it", id, minEnd)
	}
	js, _, err := t.Page(ctx, job.Query{States: slices.Concat(live, finished), Suffix: id, Newest: true, Limit: 11})
	switch {
	case err != nil:
		return "", err
	case len(js) == 0:
		return "", failure(notFound, "job %q: not found", id)
	case len(js) == 1:
		return js[0].ID, nil
	}
	var all []string
	for _, j := range js[:min(len(js), 10)] {
		all = append(all, j.ID)
	}
	more := ""
	if len(js) > len(all) {
		more = " and more"
	}
	return "", usage("job %q is not one but %s%s", id, strings.Join(all, ", "), more)
}

// names are the jobs that arguments mean; "-" stands for lines of stdin. many says that a list was meant.
func (a *app) names(args []string) (ids []string, many bool, err error) {
	for _, arg := range args {
		if arg != "-" {
			ids = append(ids, arg)
			continue
		}
		many = true
		b, err := io.ReadAll(a.stdin)
		if err != nil {
			return nil, true, failure(badEnd, "stdin: %w", err)
		}
		ids = append(ids, strings.Fields(string(b))...)
	}
	return ids, many || len(ids) > 1, nil
}

// each does something to every job named, tells what failed, and answers the code of the whole.
func (a *app) each(ctx context.Context, t *target, ids []string, many bool, do func(ctx context.Context, id string) error) error {
	failed := 0
	for _, name := range ids {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		id, err := t.resolve(ctx, name)
		if err == nil {
			if err = do(ctx, id); err != nil {
				err = fmt.Errorf("job %s: %w", id, err)
			}
		}
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return ended(ctx)
		case !many, codeOf(err) == unreachable:
			return err
		}
		a.complain(err)
		failed++
	}
	if failed > 0 {
		return failure(badEnd, "%d of %d failed", failed, len(ids))
	}
	return nil
}

// matching lists all the jobs of a query.
func (t *target) matching(ctx context.Context, q job.Query) ([]*job.Job, error) {
	js, _, err := t.atMost(ctx, q, 0)
	return js, err
}

// atMost lists the first jobs of a query (0: all) and the cursor of the rest.
func (t *target) atMost(ctx context.Context, q job.Query, limit int) (js []*job.Job, next string, err error) {
	for {
		q.Limit = maxPage
		if limit > 0 {
			q.Limit = min(maxPage, limit-len(js))
		}
		page, next, err := t.Page(ctx, q)
		if err != nil {
			return nil, "", err
		}
		js = append(js, page...)
		if next == "" || limit > 0 && len(js) >= limit {
			return js, next, nil
		}
		q.After = next
	}
}

// one connects and resolves the only argument of c, a job's id.
func (a *app) one(ctx context.Context, c *cli.Command) (t *target, id string, err error) {
	args, err := want(c, 1, 1)
	if err != nil {
		return nil, "", err
	}
	if t, err = a.connect(ctx); err != nil {
		return nil, "", err
	}
	id, err = t.resolve(ctx, args[0])
	return t, id, err
}
