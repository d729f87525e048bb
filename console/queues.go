package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// lineObject is a key with a line.
type lineObject struct {
	Key     keyObject `json:"key"`
	Limit   int       `json:"limit"` // turns at once; 0 = unlimited
	Paused  bool      `json:"paused"`
	Holders int       `json:"holders"`
	Waiting int       `json:"waiting"`
	Oldest  int64     `json:"oldest_ms"` // the longest present wait
}

// kindObject is the policy of a kind of keys.
type kindObject struct {
	Kind   string `json:"kind"`
	Limit  int    `json:"limit"`
	Paused bool   `json:"paused"`
}

// itemObject is one that holds or waits for a turn.
type itemObject struct {
	Job      *jobObject `json:"job,omitempty"` // nil: no job of this console's, or not the viewer's
	Content  string     `json:"content,omitempty"`
	Seq      int64      `json:"seq"`
	Place    int        `json:"place,omitempty"` // of a waiter, from 1
	Holder   string     `json:"holder,omitempty"`
	Epoch    int64      `json:"epoch,omitempty"`
	Enqueued stamp      `json:"enqueued"`
	Since    stamp      `json:"since,omitzero"`
}

// keyLine is a key and who stands there.
type keyLine struct {
	Key     keyObject    `json:"key"`
	Limit   int          `json:"limit"`
	Paused  bool         `json:"paused"`
	Why     string       `json:"paused_by,omitempty"` // key, kind
	Holders []itemObject `json:"holders"`
	Waiters []itemObject `json:"waiters"`
}

func (c *Console) policies(ctx context.Context) (map[syncqueue.Key]syncqueue.Policy, error) {
	rows, err := shared(ctx, c.calm, "policies", c.cfg.Queues.Policies)
	m := make(map[syncqueue.Key]syncqueue.Policy, len(rows))
	for _, r := range rows {
		m[syncqueue.Key{Kind: r.Kind, ID: r.ID}] = r.Policy
	}
	return m, err
}

// policyOf a key: its own limit beats its kind's, either pauses it.
func policyOf(m map[syncqueue.Key]syncqueue.Policy, k syncqueue.Key) (limit int, pausedBy string) {
	kind, known := m[syncqueue.Key{Kind: k.Kind}]
	if limit = kind.Limit; !known || limit < 0 {
		limit = 1
	}
	own, set := m[k]
	if set && own.Limit >= 0 {
		limit = own.Limit
	}
	switch {
	case set && own.Paused:
		pausedBy = "key"
	case kind.Paused:
		pausedBy = "kind"
	}
	return limit, pausedBy
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
		limit, paused := policyOf(pol, s.Key)
		ls[i] = lineObject{keyObject{Kind: s.Key.Kind, ID: s.Key.ID}, limit, paused != "", s.Running, s.Pending, s.Oldest.Milliseconds()}
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
			ks = append(ks, kindObject{r.Kind, limit, r.Paused})
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
	if !sortLines(out.Items, q.Get("sort")) {
		return nil, bad("sort: must be key, waiting or oldest")
	}
	return ok(out)
}

func sortLines(ls []lineObject, by string) bool {
	switch by {
	case "", "key":
	case "waiting":
		slices.SortStableFunc(ls, func(a, b lineObject) int { return cmp.Compare(b.Waiting, a.Waiting) })
	case "oldest":
		slices.SortStableFunc(ls, func(a, b lineObject) int { return cmp.Compare(b.Oldest, a.Oldest) })
	default:
		return false
	}
	return true
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
	l := &keyLine{Key: keyObject{Kind: k.Kind, ID: k.ID}, Holders: []itemObject{}, Waiters: []itemObject{}}
	l.Limit, l.Why = policyOf(pol, k)
	l.Paused = l.Why != ""
	for _, it := range items {
		o := itemObject{Seq: it.Seq, Holder: it.Holder, Epoch: it.Epoch, Enqueued: stamp(it.Enqueued), Since: stamp(it.Since)}
		if j := js[it.Content]; j != nil && visible(who(ctx), j) {
			jo := jobjson.Of(j)
			o.Job, o.Content = &jo, it.Content
		} else if who(ctx).Account == "" {
			o.Content = it.Content
		}
		if it.Since.IsZero() {
			o.Place = len(l.Waiters) + 1
			l.Waiters = append(l.Waiters, o)
		} else {
			l.Holders = append(l.Holders, o)
		}
	}
	return l, nil
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
		if _, err := c.cfg.Jobs.Cancel(r.Context(), it.Content, by(r, "queue cleared")); err != nil && problemOf(err).Status >= 500 {
			return nil, err
		}
	}
	return c.queueNow(r, "clear")
}
