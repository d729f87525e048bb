package csapi

import (
	"context"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

// holds let requests wait for jobs: one subscription per job, however many wait.
type holds struct {
	env  drover.Env
	jobs *job.Manager
	max  int

	mu       sync.Mutex
	n        int
	waits    map[string]*wait
	draining bool
	drained  chan struct{}
}

type wait struct {
	users int
	done  chan struct{} // closed when the job is final, or cannot be watched
	stop  context.CancelFunc
}

func newHolds(env drover.Env, jobs *job.Manager, limit int) *holds {
	return &holds{env: env, jobs: jobs, max: limit, waits: map[string]*wait{}, drained: make(chan struct{})}
}

// wait returns when the job is final, d has passed, ctx has ended, the node drains, or at once when too many wait.
func (h *holds) wait(ctx context.Context, id string, d time.Duration) {
	if d <= 0 || ctx.Err() != nil {
		return
	}
	w, drained := h.enter(id)
	if w == nil {
		return
	}
	defer h.leave(id, w)
	select {
	case <-w.done:
	case <-h.env.Clock.After(d):
	case <-drained:
	case <-ctx.Done():
	}
}

func (h *holds) enter(id string) (*wait, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || h.n >= h.max {
		return nil, nil
	}
	h.n++
	w := h.waits[id]
	if w == nil {
		ctx, stop := context.WithCancel(context.Background())
		w = &wait{done: make(chan struct{}), stop: stop}
		h.waits[id] = w
		h.env.Go("hold/"+id, func() {
			defer close(w.done)
			_, _ = h.jobs.Wait(ctx, id) // whoever waits reads the job itself
		})
	}
	w.users++
	return w, h.drained
}

func (h *holds) leave(id string, w *wait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n--
	if w.users--; w.users == 0 {
		w.stop()
		if h.waits[id] == w {
			delete(h.waits, id)
		}
	}
}

func (h *holds) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.draining {
		h.draining = true
		close(h.drained)
	}
}

func (h *holds) reopen() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		h.draining, h.drained = false, make(chan struct{})
	}
}

func (h *holds) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}
