package main

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/syncqueue"
)

// source is where commands look and act: a database, or a server's API. What it answers is the same of both.
type source interface {
	jobSource
	jobSteerer
	reports
	lines
	nodes
}

type jobSource interface {
	Get(ctx context.Context, id string) (*job.Job, error)
	Page(ctx context.Context, q job.Query) ([]*job.Job, string, error)
	Journal(ctx context.Context, id string) iter.Seq2[job.Entry, error]
	Timeline(ctx context.Context, id string) ([]jobjson.Span, error)
	// Watch yields a job as it changes until it is final. Run serves all watches until ctx ends.
	Watch(ctx context.Context, id string) iter.Seq2[*job.Job, error]
	Run(ctx context.Context) error
}

type jobSteerer interface {
	Cancel(ctx context.Context, id, reason string) error
	Retry(ctx context.Context, id string, keepSteps bool) (*job.Job, error)
	SetPriority(ctx context.Context, id string, p int) error
	Reschedule(ctx context.Context, id string, at time.Time) error
	Hold(ctx context.Context, id string) error
	Wake(ctx context.Context, id string) error
	Fence(ctx context.Context, id, reason string) error
}

type reports interface {
	Counts(ctx context.Context) (map[job.State]int, error)
	Blocked(ctx context.Context) ([]jobjson.Blocked, error)
	Pools(ctx context.Context) ([]jobjson.Pool, error)
	PausePool(ctx context.Context, name string, on bool) error
}

type lines interface {
	Lines(ctx context.Context, kind string) ([]jobjson.Line, error)
	Line(ctx context.Context, k syncqueue.Key) (*jobjson.KeyLine, error)
	// PauseLine and Limit are for a kind where the key has no ID.
	PauseLine(ctx context.Context, k syncqueue.Key, on bool) error
	Limit(ctx context.Context, k syncqueue.Key, n int) error
	// Move puts a waiter first, last, or before another one (to is its id).
	Move(ctx context.Context, k syncqueue.Key, id, to string) error
}

type nodes interface {
	Members(ctx context.Context) (jobjson.Members, error)
	Leases(ctx context.Context) ([]jobjson.Lease, error)
}

// direct is the source of a database.
type direct struct {
	env      drover.Env
	jobs     *job.Manager // submits, looks and steers; runs nothing
	queue    *syncqueue.Queue
	sessions *lease.Session // lists; never opened
	settings func(ctx context.Context) ([]string, error)
}

func (d *direct) Get(ctx context.Context, id string) (*job.Job, error) { return d.jobs.Get(ctx, id) }
func (d *direct) Page(ctx context.Context, q job.Query) ([]*job.Job, string, error) {
	return d.jobs.Page(ctx, q)
}
func (d *direct) Journal(ctx context.Context, id string) iter.Seq2[job.Entry, error] {
	return d.jobs.Journal(ctx, id)
}
func (d *direct) Watch(ctx context.Context, id string) iter.Seq2[*job.Job, error] {
	return d.jobs.Watch(ctx, id)
}
func (d *direct) Run(ctx context.Context) error { return d.jobs.Run(ctx) }

// Timeline asks a console of its own: what a timeline is, is known there.
func (d *direct) Timeline(ctx context.Context, id string) ([]jobjson.Span, error) {
	c, err := console.New(console.Config{Env: d.env, Jobs: d.jobs, Queues: d.queue, Leases: d.sessions, Auth: console.Open})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1"+jobPath(id)+"/timeline", nil)
	if err != nil {
		return nil, err
	}
	w := &recorder{head: http.Header{}, status: http.StatusOK}
	c.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		p := problem{Status: w.status}
		_ = json.Unmarshal(w.body.Bytes(), &p) // without a text the status says enough
		return nil, p.err()
	}
	var l listOf[jobjson.Span]
	err = json.Unmarshal(w.body.Bytes(), &l)
	return l.Items, err
}

// recorder keeps an answer.
type recorder struct {
	head   http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.head }
func (w *recorder) WriteHeader(s int)           { w.status = s }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

func (d *direct) Cancel(ctx context.Context, id, reason string) error {
	_, err := d.jobs.Cancel(ctx, id, reason)
	return err
}

func (d *direct) Retry(ctx context.Context, id string, keepSteps bool) (*job.Job, error) {
	if keepSteps {
		return d.jobs.Retry(ctx, id, job.KeepSteps())
	}
	return d.jobs.Retry(ctx, id)
}

func (d *direct) SetPriority(ctx context.Context, id string, p int) error {
	return d.jobs.SetPriority(ctx, id, p)
}
func (d *direct) Reschedule(ctx context.Context, id string, at time.Time) error {
	return d.jobs.Reschedule(ctx, id, at)
}
func (d *direct) Hold(ctx context.Context, id string) error { return d.jobs.Hold(ctx, id) }
func (d *direct) Wake(ctx context.Context, id string) error { return d.jobs.Wake(ctx, "job/"+id) }
func (d *direct) Fence(ctx context.Context, id, reason string) error {
	return d.jobs.Fence(ctx, id, reason)
}

func (d *direct) Counts(ctx context.Context) (map[job.State]int, error) {
	pools, err := d.Pools(ctx)
	n := map[job.State]int{}
	for _, p := range pools {
		for s, k := range p.Depth {
			n[s] += k
		}
	}
	return n, err
}

func (d *direct) Blocked(ctx context.Context) ([]jobjson.Blocked, error) {
	all, err := d.jobs.Blocked(ctx)
	out := make([]jobjson.Blocked, len(all))
	for i, b := range all {
		out[i] = jobjson.BlockedOf(b)
	}
	return out, err
}

// Pools are what the cluster has of each; no node's workers are known here.
func (d *direct) Pools(ctx context.Context) ([]jobjson.Pool, error) {
	stats, err := d.jobs.Stats(ctx)
	if err != nil {
		return nil, err
	}
	on, err := d.settings(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range on {
		if name, ok := strings.CutPrefix(s, job.Paused("")); ok {
			q, known := stats.Queues[name]
			if !known {
				q.Depth = map[job.State]int{}
			}
			q.Paused = true
			stats.Queues[name] = q
		}
	}
	return jobjson.PoolsOf(stats), nil
}

func (d *direct) PausePool(ctx context.Context, name string, on bool) error {
	if on {
		return d.jobs.PauseQueue(ctx, name)
	}
	return d.jobs.ResumeQueue(ctx, name)
}

// Lines lists the keys with a line, page by page.
func (d *direct) Lines(ctx context.Context, kind string) (all []jobjson.Line, err error) {
	const page = 1000
	rows, err := d.queue.Policies(ctx)
	if err != nil {
		return nil, err
	}
	pol, f := jobjson.PoliciesOf(rows), syncqueue.Filter{Kind: kind, Limit: page}
	for {
		stats, err := d.queue.Keys(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, s := range stats {
			all = append(all, jobjson.LineOf(s, pol))
		}
		if len(stats) < page {
			return all, nil
		}
		f.After = syncqueue.Item{Key: stats[page-1].Key}.Cursor(true)
	}
}

func (d *direct) Line(ctx context.Context, k syncqueue.Key) (*jobjson.KeyLine, error) {
	items, err := d.queue.List(ctx, k)
	if err != nil {
		return nil, err
	}
	rows, err := d.queue.Policies(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].Content
	}
	js, err := d.jobs.Lookup(ctx, ids)
	if err != nil {
		return nil, err
	}
	return jobjson.KeyLineOf(k, jobjson.PoliciesOf(rows), items, js, true), nil
}

func (d *direct) PauseLine(ctx context.Context, k syncqueue.Key, on bool) error {
	switch {
	case k.ID == "" && on:
		return d.queue.PauseKind(ctx, k.Kind)
	case k.ID == "":
		return d.queue.ResumeKind(ctx, k.Kind)
	case on:
		return d.queue.Pause(ctx, k)
	}
	return d.queue.Resume(ctx, k)
}

func (d *direct) Limit(ctx context.Context, k syncqueue.Key, n int) error {
	if k.ID == "" {
		return d.queue.SetLimit(ctx, k.Kind, n)
	}
	return d.queue.SetKeyLimit(ctx, k, n)
}

func (d *direct) Move(ctx context.Context, k syncqueue.Key, id, to string) error {
	items, err := d.queue.List(ctx, k)
	if err != nil {
		return err
	}
	seq := func(id string) (int64, error) {
		i := slices.IndexFunc(items, func(i syncqueue.Item) bool { return i.Content == id })
		if i < 0 {
			return 0, failure(notFound, "job %s is not in the line of %s", id, k)
		}
		return items[i].Seq, nil
	}
	who, err := seq(id)
	if err != nil {
		return err
	}
	switch to {
	case first:
		return d.queue.MoveFirst(ctx, who)
	case last:
		return d.queue.Move(ctx, who, 0)
	}
	before, err := seq(to)
	if err != nil {
		return err
	}
	return d.queue.Move(ctx, who, before)
}

func (d *direct) Members(ctx context.Context) (jobjson.Members, error) {
	infos, err := d.sessions.List(ctx)
	return jobjson.Members{Items: jobjson.MembersOf(infos)}, err
}

func (d *direct) Leases(ctx context.Context) ([]jobjson.Lease, error) {
	infos, err := d.sessions.List(ctx)
	out := make([]jobjson.Lease, len(infos))
	for i, l := range infos {
		out[i] = jobjson.LeaseOf(l)
	}
	return out, err
}

// Where a waiter goes that is not moved before another.
const (
	first = "first"
	last  = "last"
)
