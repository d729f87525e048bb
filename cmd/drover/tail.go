package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/job"
)

// jobsTail writes a job's journal as it grows, and its states, until it is final. Without a job it writes what happens to all.
func (a *app) jobsTail(ctx context.Context, c *cli.Command) error {
	if !c.Args().Present() {
		r, err := a.serverOnly("jobs tail without ID")
		if err != nil {
			return err
		}
		return a.tailAll(ctx, r)
	}
	t, id, err := a.one(ctx, c)
	if err != nil {
		return err
	}
	f := &tail{a: a, t: t, id: id}
	if r, is := t.source.(*remote); is {
		err = f.byStream(ctx, r)
	} else {
		err = f.byLooking(ctx)
	}
	if err != nil {
		return err
	}
	if a.format == "json" {
		return list(a, entryView(), f.all, "")
	}
	return nil
}

// tail follows one job.
type tail struct {
	a     *app
	t     *target
	id    string
	n     int64       // the journal's last row that was written
	all   []job.Entry // for -o json, which is one document
	state job.State
}

// read writes what is new; final: nothing more will be.
func (f *tail) read(ctx context.Context) (final bool, err error) {
	j, err := f.t.Get(ctx, f.id)
	if err != nil {
		return false, fmt.Errorf("job %s: %w", f.id, err)
	}
	journal := f.t.Journal(ctx, f.id)
	if r, is := f.t.source.(*remote); is {
		journal = r.journalAfter(ctx, f.id, f.n)
	}
	for e, err := range journal {
		if err != nil {
			return false, fmt.Errorf("job %s: %w", f.id, err)
		}
		if e.N <= f.n {
			continue
		}
		f.n, f.all = e.N, append(f.all, e)
		if err := f.a.follows(e); err != nil {
			return false, err
		}
	}
	if j.State != f.state {
		f.a.note("%s", line(j, f.a.env.Clock.Now().Sub(f.a.now)))
		f.state = j.State
	}
	return f.state.Final(), nil
}

func (f *tail) byLooking(ctx context.Context) error {
	for {
		if final, err := f.read(ctx); final || err != nil {
			return err
		}
		if err := f.a.env.Sleep(ctx, poll); err != nil {
			return f.leave(ctx)
		}
	}
}

// errFinal ends a stream that has told all.
var errFinal = errors.New("final")

// byStream reads when the stream says that the job has changed, and when it is new.
func (f *tail) byStream(ctx context.Context, r *remote) error {
	err := r.stream(ctx, "topics=job&job="+f.id, func(event) error {
		final, err := f.read(ctx)
		switch {
		case final:
			return errFinal
		case err != nil && codeOf(err) == unreachable:
			return errAgain
		}
		return err
	})
	switch {
	case errors.Is(err, errFinal):
		return nil
	case ctx.Err() != nil:
		return f.leave(ctx)
	}
	return err
}

func (f *tail) leave(ctx context.Context) error {
	f.a.note("the job goes on. To follow it again: drover jobs tail %s", f.id)
	return ended(ctx)
}

// follows writes one more row of the journal, at once.
func (a *app) follows(e job.Entry) error {
	switch a.format {
	case "json":
		return nil
	case "ndjson":
		return a.line(entryOf(e))
	case "id":
		return a.print(fmt.Sprintln(e.N))
	}
	return a.print(a.entry(e) + "\n")
}

func entryView() view[job.Entry] {
	return view[job.Entry]{object: func(e job.Entry) any { return entryOf(e) }}
}
