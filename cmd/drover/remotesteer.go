package main

import (
	"context"
	"net/url"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

type fields map[string]any

func (r *remote) Cancel(ctx context.Context, id, reason string) error {
	return r.post(ctx, jobPath(id)+"/cancel", fields{"reason": reason}, nil)
}

func (r *remote) Retry(ctx context.Context, id string, keepSteps bool) (*job.Job, error) {
	var o jobjson.Job
	err := r.post(ctx, jobPath(id)+"/retry", fields{"keep_steps": keepSteps}, &o)
	return o.Job(), err
}

func (r *remote) SetPriority(ctx context.Context, id string, p int) error {
	return r.post(ctx, jobPath(id)+"/priority", fields{"priority": p}, nil)
}

func (r *remote) Reschedule(ctx context.Context, id string, at time.Time) error {
	return r.post(ctx, jobPath(id)+"/reschedule", fields{"at": at.Format(time.RFC3339Nano)}, nil)
}

func (r *remote) Hold(ctx context.Context, id string) error {
	return r.post(ctx, jobPath(id)+"/hold", nil, nil)
}

func (r *remote) Wake(ctx context.Context, id string) error {
	return r.post(ctx, jobPath(id)+"/wake", nil, nil)
}

func (r *remote) Fence(ctx context.Context, id, reason string) error {
	return r.post(ctx, jobPath(id)+"/fence", fields{"reason": reason, "confirm": id}, nil)
}

func (r *remote) Counts(ctx context.Context) (map[job.State]int, error) {
	var o struct {
		Counts map[job.State]int `json:"counts"`
	}
	err := r.get(ctx, "/jobs/stats", nil, &o)
	return o.Counts, err
}

func (r *remote) Blocked(ctx context.Context) ([]jobjson.Blocked, error) {
	var l listOf[jobjson.Blocked]
	err := r.get(ctx, "/jobs/blocked", nil, &l)
	return l.Items, err
}

func (r *remote) Pools(ctx context.Context) ([]jobjson.Pool, error) {
	var l listOf[jobjson.Pool]
	err := r.get(ctx, "/pools", nil, &l)
	return l.Items, err
}

func verb(on bool, yes, no string) string {
	if on {
		return yes
	}
	return no
}

func (r *remote) PausePool(ctx context.Context, name string, on bool) error {
	return r.post(ctx, "/pools/"+url.PathEscape(name)+"/"+verb(on, "pause", "resume"), nil, nil)
}

func (r *remote) Lines(ctx context.Context, kind string) (all []jobjson.Line, err error) {
	for after := ""; ; {
		var l listOf[jobjson.Line]
		if err := r.get(ctx, "/queues", url.Values{"kind": {kind}, "after": {after}, "limit": {"1000"}}, &l); err != nil {
			return nil, err
		}
		all = append(all, l.Items...)
		if after = l.Next; after == "" {
			return all, nil
		}
	}
}

func linePath(k syncqueue.Key) string {
	if k.ID == "" {
		return "/queues/" + url.PathEscape(k.Kind)
	}
	return "/queues/" + url.PathEscape(k.Kind) + "/" + url.PathEscape(k.ID)
}

func (r *remote) Line(ctx context.Context, k syncqueue.Key) (*jobjson.KeyLine, error) {
	l := &jobjson.KeyLine{}
	return l, r.get(ctx, linePath(k), nil, l)
}

func (r *remote) PauseLine(ctx context.Context, k syncqueue.Key, on bool) error {
	return r.post(ctx, linePath(k)+"/"+verb(on, "pause", "resume"), nil, nil)
}

func (r *remote) Limit(ctx context.Context, k syncqueue.Key, n int) error {
	return r.post(ctx, linePath(k)+"/limit", fields{"limit": n}, nil)
}

func (r *remote) Move(ctx context.Context, k syncqueue.Key, id, to string) error {
	var where any = to
	if to != first && to != last {
		where = fields{"before": to}
	}
	return r.post(ctx, linePath(k)+"/move", fields{"job": id, "to": where}, nil)
}

func (r *remote) Members(ctx context.Context) (ms jobjson.Members, err error) {
	err = r.get(ctx, "/members", nil, &ms)
	return ms, err
}

func (r *remote) Leases(ctx context.Context) ([]jobjson.Lease, error) {
	var l listOf[jobjson.Lease]
	err := r.get(ctx, "/leases", nil, &l)
	return l.Items, err
}
