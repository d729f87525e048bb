package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/drover-cloud/drover/job"
)

const (
	bulkAtOnce  = 1000    // ids in a request
	bulkMost    = 100_000 // jobs of a filter
	bulkBatch   = 500
	bulkAside   = 50  // of a batch, side by side
	bulkFailing = 100 // in a row, then it stops
	keepOps     = 100
)

// bulkBody is what to do to many jobs: those of ids, or all that match filter.
type bulkBody struct {
	Verb   string            `json:"verb"` // cancel, retry, hold, wake, priority
	IDs    []string          `json:"ids"`
	Filter map[string]string `json:"filter"`
	DryRun bool              `json:"dry_run"`
	Expect *int              `json:"expect"` // refused if there are over 110 % of that
	Reason string            `json:"reason"`
	// Priority is for that verb.
	Priority *int `json:"priority"`
}

// operation is a bulk under way, or done.
type operation struct {
	ID      string         `json:"id"`
	Verb    string         `json:"verb"`
	State   string         `json:"state"` // running, done, stopped
	Matched int            `json:"matched"`
	Done    int            `json:"done"`
	Skipped int            `json:"skipped"`
	Failed  int            `json:"failed"`
	Reasons map[string]int `json:"reasons,omitempty"`
	Error   string         `json:"error,omitempty"`
	account string
	row     int // failures in a row
}

type operations struct {
	mu      sync.Mutex
	m       map[string]*operation
	order   []string
	ctx     context.Context // of all: ends with Run
	cancel  context.CancelFunc
	cancels map[string]context.CancelFunc
}

func newOperations() *operations {
	o := &operations{m: map[string]*operation{}, cancels: map[string]context.CancelFunc{}}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// stop ends all that is under way; later ones may begin.
func (o *operations) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancel()
	o.ctx, o.cancel = context.WithCancel(context.Background())
}

func (o *operations) start(op *operation) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.m[op.ID], o.order = op, append(o.order, op.ID)
	if len(o.order) > keepOps {
		delete(o.m, o.order[0])
		o.order = o.order[1:]
	}
	ctx, cancel := context.WithCancel(o.ctx)
	o.cancels[op.ID] = cancel
	return ctx
}

func (o *operations) end(op *operation, state string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op.State = state
	if cancel := o.cancels[op.ID]; cancel != nil {
		cancel()
		delete(o.cancels, op.ID)
	}
}

// count notes how a job went.
func (o *operations) count(op *operation, err error) (goOn bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		op.Done, op.row = op.Done+1, 0
		return true
	}
	p := problemOf(err)
	op.Reasons[p.Code]++
	if p.Status < http.StatusInternalServerError {
		op.Skipped, op.row = op.Skipped+1, 0
		return true
	}
	op.Failed++
	op.row++
	return op.row < bulkFailing
}

func (o *operations) get(id string, p Principal) (operation, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op := o.m[id]
	if op == nil || p.Account != "" && p.Account != op.account {
		return operation{}, false
	}
	now := *op
	now.Reasons = map[string]int{}
	for _, k := range sortedKeys(op.Reasons) {
		now.Reasons[k] = op.Reasons[k]
	}
	return now, true
}

func (c *Console) bulkVerb(r *http.Request, in *bulkBody) (func(context.Context, string) error, error) {
	why := strings.TrimSpace(in.Reason)
	switch in.Verb {
	case "cancel":
		return func(ctx context.Context, id string) error { _, err := c.cfg.Jobs.Cancel(ctx, id, why); return err }, nil
	case "retry":
		return func(ctx context.Context, id string) error { _, err := c.cfg.Jobs.Retry(ctx, id); return err }, nil
	case "hold":
		return c.cfg.Jobs.Hold, nil
	case "wake":
		return func(ctx context.Context, id string) error { return c.cfg.Jobs.Wake(ctx, "job/"+id) }, nil
	}
	if in.Verb == "priority" {
		if in.Priority == nil || *in.Priority < -100 || *in.Priority > 100 {
			return nil, bad("priority: must be -100 to 100")
		}
		return func(ctx context.Context, id string) error { return c.cfg.Jobs.SetPriority(ctx, id, *in.Priority) }, nil
	}
	return nil, bad(fmt.Sprintf("verb: %q: must be cancel, retry, hold, wake or priority", in.Verb))
}

func (c *Console) bulk(r *http.Request) (*answer, error) {
	var in bulkBody
	if err := body(r, &in); err != nil {
		return nil, err
	}
	do, err := c.bulkVerb(r, &in)
	if err != nil {
		return nil, err
	}
	switch {
	case (len(in.IDs) == 0) == (in.Filter == nil):
		return nil, bad("ids, filter: one of them must be given")
	case len(in.IDs) > bulkAtOnce:
		return nil, bad(fmt.Sprintf("ids: %d, at most %d", len(in.IDs), bulkAtOnce))
	}
	p := who(r.Context())
	ids := in.IDs
	if in.Filter != nil {
		if ids, err = c.matching(r.Context(), in.Filter, p); err != nil {
			return nil, err
		}
	}
	op := &operation{ID: c.env.NewID(), Verb: in.Verb, State: "done", Matched: len(ids), Reasons: map[string]int{}, account: p.Account}
	switch {
	case in.Expect != nil && len(ids)*10 > *in.Expect*11:
		return nil, &problem{Status: http.StatusConflict, Code: "conflict", Detail: fmt.Sprintf("%d match now, %d were expected", len(ids), *in.Expect), Current: op}
	case in.DryRun:
		op.ID = ""
		return ok(op)
	}
	op.State = "running"
	ctx := c.ops.start(op)
	ctx = job.By(context.WithValue(ctx, principalKey{}, p), p.Name+" in the console", "")
	c.env.Go("console/bulk/"+op.ID, func() { c.perform(ctx, op, ids, do) })
	now, _ := c.ops.get(op.ID, p)
	return &answer{status: http.StatusAccepted, body: now, location: "v1/operations/" + op.ID}, nil
}

// matching are the ids that match now, at most bulkMost. They are taken before anything is done, so that what a verb makes is
// not met by it again.
func (c *Console) matching(ctx context.Context, filter map[string]string, p Principal) (ids []string, err error) {
	v := url.Values{}
	for _, k := range sortedKeys(filter) {
		if !slices.Contains([]string{"limit", "after", "sort"}, k) {
			v.Set(k, filter[k])
		}
	}
	q, _, err := queryOf(v, p)
	if err != nil {
		return nil, err
	}
	for q.Limit = pageOfStore; ; {
		js, next, err := c.cfg.Jobs.Page(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, j := range js {
			ids = append(ids, j.ID)
		}
		switch {
		case len(ids) > bulkMost:
			return nil, bad(fmt.Sprintf("filter: more than %d match: narrow it", bulkMost))
		case next == "":
			return ids, nil
		}
		q.After = next
	}
}

func (c *Console) perform(ctx context.Context, op *operation, ids []string, do func(context.Context, string) error) {
	state := "done"
	defer func() {
		c.ops.end(op, state)
		c.forget()
		c.hub.add(frame{topic: "queue", data: fmt.Appendf(nil, `{"operation":%q}`, op.ID)})
	}()
	p := who(ctx)
	for batch := range slices.Chunk(ids, bulkBatch) {
		js, err := map[string]*job.Job(nil), error(nil)
		if p.Account != "" {
			js, err = c.cfg.Jobs.Lookup(ctx, batch)
		}
		one := func(id string) error {
			switch {
			case err != nil:
				return err
			case p.Account != "" && (js[id] == nil || !visible(p, js[id])):
				return job.ErrNotFound
			}
			return do(ctx, id)
		}
		if !c.batch(ctx, op, batch, one) {
			state = "stopped"
			return
		}
		c.reads.changed()
	}
}

// batch does it to jobs, some side by side; false: it is to stop.
func (c *Console) batch(ctx context.Context, op *operation, ids []string, do func(id string) error) bool {
	for some := range slices.Chunk(ids, bulkAside) {
		errs, left := make([]error, len(some)), sync.WaitGroup{}
		for i, id := range some {
			left.Add(1)
			c.env.Go("console/bulk/"+op.ID+"/"+id, func() { defer left.Done(); errs[i] = do(id) })
		}
		left.Wait()
		if ctx.Err() != nil {
			return false
		}
		for _, err := range errs {
			if !c.ops.count(op, err) {
				return false
			}
		}
	}
	return true
}

func (c *Console) getOperation(r *http.Request) (*answer, error) {
	op, found := c.ops.get(r.PathValue("id"), who(r.Context()))
	if !found {
		return nil, notFound("the operation")
	}
	return ok(op)
}

func (c *Console) cancelOperation(r *http.Request) (*answer, error) {
	if err := body(r, &emptyBody{}); err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	if _, found := c.ops.get(id, who(r.Context())); !found {
		return nil, notFound("the operation")
	}
	c.ops.mu.Lock()
	if cancel := c.ops.cancels[id]; cancel != nil {
		cancel()
	}
	c.ops.mu.Unlock()
	return c.getOperation(r)
}
