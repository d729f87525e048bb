package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

// list is what lists answer.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// page reads jobs, shared with whoever asks the same.
func (c *Console) page(ctx context.Context, q job.Query, limit int) (list[*job.Job], error) {
	key, err := json.Marshal(q)
	if err != nil {
		return list[*job.Job]{}, err
	}
	l, err := shared(ctx, c.reads, fmt.Sprintf("jobs %d %s", limit, key), func(ctx context.Context) (l list[*job.Job], err error) {
		for len(l.Items) < limit {
			q.Limit = min(limit-len(l.Items), pageOfStore)
			js, next, err := c.cfg.Jobs.Page(ctx, q)
			if err != nil {
				return l, err
			}
			l.Items, l.Next, q.After = append(l.Items, js...), next, next
			if next == "" {
				break
			}
		}
		return l, nil
	})
	if c.cfg.Tell == nil || who(ctx).Account == "" {
		return l, err
	}
	l.Items = slices.Clone(l.Items) // others share them
	for i, j := range l.Items {
		l.Items[i] = c.told(ctx, j)
	}
	return l, err
}

func (c *Console) listJobs(r *http.Request) (*answer, error) {
	q, limit, err := queryOf(r.URL.Query(), who(r.Context()))
	if err != nil {
		return nil, err
	}
	js, err := c.page(r.Context(), q, limit)
	if err != nil {
		return nil, err
	}
	out := list[jobObject]{Items: make([]jobObject, len(js.Items)), Next: js.Next}
	for i, j := range js.Items {
		out.Items[i] = jobjson.Of(j)
	}
	return ok(out)
}

func etagOf(j *job.Job) string { return `"` + strconv.FormatInt(j.Rev, 10) + `"` }

func (c *Console) getJob(r *http.Request) (*answer, error) {
	if err := only(r, []string{"wait"}); err != nil {
		return nil, err
	}
	wait := time.Duration(0)
	if s := r.URL.Query().Get("wait"); s != "" {
		var err error
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 || wait > time.Minute {
			return nil, bad(fmt.Sprintf("wait: %q: must be 0s to 60s", s))
		}
	}
	j, err := c.get(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	seen := r.Header.Get("If-None-Match")
	if wait > 0 {
		if j, err = c.await(r.Context(), j, seen, wait); err != nil {
			return nil, err
		}
	}
	if etagOf(j) == seen {
		return &answer{status: http.StatusNotModified, etag: seen}, nil
	}
	return &answer{body: c.wholeOf(j), etag: etagOf(j)}, nil
}

// await waits for a revision other than the one seen, without one for the end; at most d. It answers what there is then.
func (c *Console) await(ctx context.Context, j *job.Job, seen string, d time.Duration) (*job.Job, error) {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.env.Go("console/wait/"+j.ID, func() {
		if c.env.Sleep(wctx, d) == nil {
			cancel()
		}
	})
	for n, err := range c.cfg.Jobs.Watch(wctx, j.ID) {
		if err != nil {
			if wctx.Err() != nil && ctx.Err() == nil {
				return j, nil // time is up
			}
			return nil, err
		}
		j = c.told(ctx, n)
		if seen != "" && etagOf(j) != seen || j.State.Final() {
			break
		}
	}
	return j, nil
}

func (c *Console) journal(r *http.Request) (*answer, error) {
	if err := only(r, []string{"limit", "after"}); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	limit, after := defaultLimit, int64(0)
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if limit = n; err != nil || n < 1 || n > maxLimit {
			return nil, bad(fmt.Sprintf("limit: %q: must be 1 to %d", s, maxLimit))
		}
	}
	if s := q.Get("after"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if after = n; err != nil {
			return nil, bad(fmt.Sprintf("after: %q is no cursor", s))
		}
	}
	j, err := c.get(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	out := list[entryObject]{Items: []entryObject{}}
	for e, err := range c.journalOf(r.Context(), j.ID) {
		if err != nil {
			return nil, err
		}
		if e.N <= after {
			continue
		}
		if len(out.Items) == limit {
			out.Next = strconv.FormatInt(out.Items[limit-1].N, 10)
			break
		}
		out.Items = append(out.Items, c.entryOf(j.Kind, e))
	}
	return ok(out)
}

// children of a job, all of them however many pages, with counts.
func (c *Console) childrenOf(ctx context.Context, id string, p Principal) (js []*job.Job, counts map[job.State]int, err error) {
	q := job.Query{States: allStates, Parent: id, Account: p.Account}
	l, err := c.page(ctx, q, maxLimit)
	counts = map[job.State]int{}
	for _, j := range l.Items {
		counts[j.State]++
	}
	return l.Items, counts, err
}

func (c *Console) children(r *http.Request) (*answer, error) {
	j, err := c.get(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	js, counts, err := c.childrenOf(r.Context(), j.ID, who(r.Context()))
	if err != nil {
		return nil, err
	}
	out := struct {
		Items  []jobObject       `json:"items"`
		Counts map[job.State]int `json:"counts"`
	}{make([]jobObject, len(js)), counts}
	for i, j := range js {
		out.Items[i] = jobjson.Of(j)
	}
	return ok(out)
}

// result serves the stored bytes for download.
func (c *Console) result(w http.ResponseWriter, r *http.Request) error {
	if err := only(r, []string{"part"}); err != nil {
		return err
	}
	j, err := c.get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	part, name := j.Result, "result"
	switch r.URL.Query().Get("part") {
	case "", "result":
	case "args":
		if part, name = j.Args, "args"; sealed(part) {
			return &problem{Status: http.StatusForbidden, Code: "forbidden", Detail: "the arguments are sealed: they are shown to the handler only"}
		}
	default:
		return bad("part: must be result or args")
	}
	if len(part) == 0 {
		return notFound("the " + name)
	}
	if c.cfg.Mask != nil {
		part = c.cfg.Mask(j.Kind, part)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+"-"+strings.ToLower(j.ID)+`.json"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(part)))
	_, _ = w.Write(part)
	return nil
}
