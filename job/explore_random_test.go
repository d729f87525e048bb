package job_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// table is the state machine of the package: what may follow what. Hand-offs and claims of a waiter are one step.
var table = map[job.State][]job.State{
	"":            {job.Scheduled, job.Waiting, job.Ready},
	job.Scheduled: {job.Scheduled, job.Ready, job.Waiting, job.Parked, job.Cancelled, job.Failed},
	job.Waiting:   {job.Waiting, job.Ready, job.Running, job.Parked, job.Cancelled, job.Failed},
	job.Ready:     {job.Ready, job.Waiting, job.Running, job.Parked, job.Cancelled, job.Failed},
	job.Running:   {job.Running, job.Scheduled, job.Ready, job.Waiting, job.Parked, job.Succeeded, job.Failed, job.Cancelled},
	job.Parked:    {job.Parked, job.Ready, job.Waiting, job.Cancelled, job.Failed},
}

// transitions records what every revision of a job was. A transaction that is rolled back says something too; the next one
// to make that revision corrects it.
type transitions struct {
	mu   sync.Mutex
	revs map[string]map[int64]job.State
}

func (s *transitions) Publish(_ context.Context, _ store.Tx, e job.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revs[e.JobID] == nil {
		s.revs[e.JobID] = map[int64]job.State{}
	}
	s.revs[e.JobID][e.Rev] = e.State
	return nil
}

// check compares neighbouring revisions with the table, and the last one with the row.
func (s *transitions) check(w *testkit.World, j *job.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	revs := s.revs[j.ID]
	if revs[j.Rev] != j.State {
		w.T.Fatalf("job %s: revision %d is %s, seen %s", j.ID, j.Rev, j.State, revs[j.Rev])
	}
	for rev := int64(1); rev <= j.Rev; rev++ {
		from, known := revs[rev-1]
		to, ok := revs[rev]
		if ok && (known || rev == 1) && !slices.Contains(table[from], to) {
			w.T.Fatalf("job %s: from %q to %q in revision %d", j.ID, from, to, rev)
		}
	}
}

// job-78: whatever is asked for in whatever order, every transition is one of the table.
func exploreRandom(t *testing.T) {
	testkit.Explore(t, 500, func(w *testkit.World) {
		seen := &transitions{revs: map[string]map[int64]job.State{}}
		s := &storm{w: w, jobs: map[string]*job.Manager{}, hold: 3000, seen: seen}
		for _, name := range []string{"n1", "n2", "n3"} {
			s.nodes = append(s.nodes, w.Node(name, s.build))
		}
		s.submit(10)
		r := w.Rand("random")
		for range 40 {
			s.random(r)
			w.Advance(time.Duration(r.IntN(500)) * time.Millisecond)
		}
		for _, id := range s.ids { // what was held goes on
			_ = s.jobs["n1"].Wake(w.T.Context(), "job/"+id)
		}
		for _, j := range s.ends(30 * time.Minute) {
			seen.check(w, j)
			if j.State == job.Succeeded && string(j.Result) != fmt.Sprint(j.Epoch) {
				w.T.Fatalf("%s: result %s, epoch %d", j.ID, j.Result, j.Epoch)
			}
		}
	})
}

// random does one thing to one job on one node. What is refused is refused.
func (s *storm) random(r *rand.Rand) {
	ctx, i := s.w.T.Context(), r.IntN(3)
	m, id := s.jobs[s.nodes[i].Name()], s.ids[r.IntN(len(s.ids))]
	var err error
	switch r.IntN(10) {
	case 0:
		_, err = m.Cancel(ctx, id, "random")
	case 1:
		err = m.Hold(ctx, id)
	case 2:
		err = m.Wake(ctx, "job/"+id)
	case 3:
		err = m.Reschedule(ctx, id, time.Now().Add(time.Duration(r.IntN(5))*time.Second))
	case 4:
		err = m.SetPriority(ctx, id, r.IntN(200)-100)
	case 5:
		err = m.Fence(ctx, id, "random")
	case 6:
		if r.IntN(4) == 0 {
			s.nodes[i].Restart()
		}
	default:
		n := len(s.ids)
		var j *job.Job
		req := job.Request{Kind: "load", Args: load{n, time.Duration(r.IntN(s.hold)) * time.Millisecond}, Sync: vm(fmt.Sprint(n % 3)), RunAt: time.Now().Add(time.Duration(r.IntN(3)-1) * time.Second)}
		if j, err = m.Submit(ctx, req); err == nil {
			s.ids = append(s.ids, j.ID)
		}
	}
	for _, allowed := range []error{job.ErrFinished, job.ErrInvalid, store.ErrConflict} {
		if errors.Is(err, allowed) {
			return
		}
	}
	if err != nil {
		s.w.T.Fatalf("on %s: %v", s.nodes[i].Name(), err)
	}
}
