package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func (c *Console) policies(ctx context.Context) (jobjson.Policies, error) {
	rows, err := shared(ctx, c.calm, "policies", c.cfg.Queues.Policies)
	return jobjson.PoliciesOf(rows), err
}

// lines are the keys with a line.
func (c *Console) lines(ctx context.Context, f syncqueue.Filter) (ls []lineObject, err error) {
	stats, err := shared(ctx, c.reads, fmt.Sprintf("keys %v", f), func(ctx context.Context) ([]syncqueue.Stat, error) {
		return c.cfg.Queues.Keys(ctx, f)
	})
	if err != nil {
		return nil, err
	}
	pol, err := c.policies(ctx)
	if err != nil {
		return nil, err
	}
	ls = make([]lineObject, len(stats))
	for i, s := range stats {
		ls[i] = jobjson.LineOf(s, pol)
	}
	return ls, nil
}

func (c *Console) kinds(ctx context.Context) (ks []kindObject, err error) {
	rows, err := shared(ctx, c.calm, "policies", c.cfg.Queues.Policies)
	for _, r := range rows {
		if r.ID == "" {
			limit := r.Limit
			if limit == syncqueue.Inherit {
				limit = 1
			}
			ks = append(ks, kindObject{Kind: r.Kind, Limit: limit, Paused: r.Paused})
		}
	}
	return ks, err
}

var queueFilters = []string{"kind", "min_waiting", "paused", "sort", "limit", "after"}

func (c *Console) listQueues(r *http.Request) (*answer, error) {
	if err := only(r, queueFilters); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := syncqueue.Filter{Kind: q.Get("kind"), After: q.Get("after"), Limit: maxLimit}
	least := 0
	for _, p := range []struct {
		name  string
		at    *int
		least int
	}{{"limit", &f.Limit, 1}, {"min_waiting", &least, 0}} {
		if s := q.Get(p.name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < p.least || n > maxLimit {
				return nil, bad(fmt.Sprintf("%s: %q: must be %d to %d", p.name, s, p.least, maxLimit))
			}
			*p.at = n
		}
	}
	ls, err := c.lines(r.Context(), f)
	if err != nil {
		return nil, err
	}
	out := list[lineObject]{Items: []lineObject{}}
	if len(ls) == f.Limit {
		last := ls[len(ls)-1].Key
		out.Next = syncqueue.Item{Key: syncqueue.Key{Kind: last.Kind, ID: last.ID}}.Cursor(true)
	}
	for _, l := range ls {
		if l.Waiting >= least && (q.Get("paused") == "" || l.Paused) {
			out.Items = append(out.Items, l)
		}
	}
	if !jobjson.SortLines(out.Items, q.Get("sort")) {
		return nil, bad("sort: must be key, waiting or oldest")
	}
	return ok(out)
}

func keyFrom(r *http.Request) (syncqueue.Key, error) {
	k := syncqueue.Key{Kind: r.PathValue("kind"), ID: r.PathValue("id")}
	if k.Kind == "" {
		return k, bad("kind: is empty")
	}
	return k, k.Validate()
}

// line reads the line of a key. What belongs to another account is counted but not told.
func (c *Console) line(ctx context.Context, k syncqueue.Key) (*keyLine, error) {
	items, err := shared(ctx, c.reads, "line "+k.String(), func(ctx context.Context) ([]syncqueue.Item, error) { return c.cfg.Queues.List(ctx, k) })
	if err != nil {
		return nil, err
	}
	pol, err := c.policies(ctx)
	if err != nil {
		return nil, err
	}
	js := map[string]*job.Job{}
	if c.cfg.Jobs != nil {
		ids := make([]string, len(items))
		for i := range items {
			ids[i] = items[i].Content
		}
		if js, err = c.cfg.Jobs.Lookup(ctx, ids); err != nil {
			return nil, err
		}
	}
	visibles := map[string]*job.Job{}
	for _, id := range sortedKeys(js) {
		if visible(who(ctx), js[id]) {
			visibles[id] = js[id]
		}
	}
	return jobjson.KeyLineOf(k, pol, items, visibles, who(ctx).Account == ""), nil
}

func (c *Console) getQueue(r *http.Request) (*answer, error) {
	k, err := keyFrom(r)
	if err != nil {
		return nil, err
	}
	l, err := c.line(r.Context(), k)
	if err != nil {
		return nil, err
	}
	return ok(l)
}

type limitBody struct {
	Limit *int   `json:"limit"`
	Back  string `json:"back"`
}

func (c *Console) limitQueue(r *http.Request) (*answer, error) {
	var in limitBody
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if in.Limit == nil {
		return nil, bad("limit: is missing")
	}
	if who(r.Context()).Account != "" {
		return nil, notFound("the queue")
	}
	var err error
	if r.PathValue("id") == "" {
		err = c.cfg.Queues.SetLimit(r.Context(), r.PathValue("kind"), *in.Limit)
	} else {
		k, kerr := keyFrom(r)
		if kerr != nil {
			return nil, kerr
		}
		err = c.cfg.Queues.SetKeyLimit(r.Context(), k, *in.Limit)
	}
	if err != nil {
		return nil, err
	}
	return c.queueNow(r, "limit")
}

// queueNow is the answer to a verb on a key or a kind: the key's line, or the kinds, as they are now.
func (c *Console) queueNow(r *http.Request, notice string) (*answer, error) {
	c.forget()
	c.tell(r)
	if r.PathValue("id") == "" {
		ks, err := c.kinds(r.Context())
		return &answer{body: list[kindObject]{Items: ks}, notice: notice}, err
	}
	a, err := c.getQueue(r)
	if a != nil {
		a.notice = notice
	}
	return a, err
}

// tell sends a frame of topic queue.
func (c *Console) tell(r *http.Request) {
	key := r.PathValue("kind")
	if id := r.PathValue("id"); id != "" {
		key += "/" + id
	}
	c.hub.add(frame{topic: "queue", data: fmt.Appendf(nil, `{"id":%q}`, key)})
}

type clearBody struct {
	Confirm string `json:"confirm"`
	Back    string `json:"back"`
}

// clear cancels all that wait on a key.
func (c *Console) clearQueue(r *http.Request) (*answer, error) {
	var in clearBody
	if err := body(r, &in); err != nil {
		return nil, err
	}
	k, err := keyFrom(r)
	if err != nil {
		return nil, err
	}
	if in.Confirm != k.String() {
		return nil, bad("confirm: must be the key, " + k.String())
	}
	items, err := c.cfg.Queues.List(r.Context(), k)
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if !it.Since.IsZero() {
			continue
		}
		if _, err := c.get(r.Context(), it.Content); err != nil {
			continue // none of ours
		}
		if _, err := c.cfg.Jobs.Cancel(r.Context(), it.Content, "queue cleared"); err != nil && problemOf(err).Status >= 500 {
			return nil, err
		}
	}
	return c.queueNow(r, "clear")
}
