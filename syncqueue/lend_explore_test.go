package syncqueue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// unit is a job that has children on its own key. Mode says what it does while they run: park, wait, leave (end before
// them), free (park without its turn), release (go on without it). With Aside a job without key stands between them.
type unit struct {
	N, Depth, Kids int
	Mode           string
	Aside          bool
}

var modes = []string{"park", "wait", "leave", "free", "release", "park", "wait"}

// work is the handler of units.
func (l *lines) work(n *testkit.Node, m *job.Manager) func(ctx context.Context, u unit) (int, error) {
	return func(ctx context.Context, u unit) (int, error) {
		j, _ := job.FromContext(ctx)
		k := j.Sync
		if k == (syncqueue.Key{}) {
			k = key(0)
		}
		if err := n.Env.Sleep(ctx, time.Duration(u.N%4)*100*time.Millisecond); err != nil {
			return 0, err
		}
		var ids []string
		for i := range u.Kids {
			c := unit{N: u.N + i, Depth: u.Depth - 1, Mode: modes[(u.N+3*i)%len(modes)], Aside: i%3 == 2}
			if c.Depth > 0 {
				c.Kids = u.Kids
			}
			r := job.Request{Kind: "unit", Args: c, Name: fmt.Sprint(i), Sync: k}
			if c.Aside && c.Kids > 0 {
				r.Sync = syncqueue.Key{}
			}
			child, err := m.Submit(ctx, r)
			if err != nil {
				return 0, err
			}
			ids = append(ids, child.ID)
		}
		switch u.Mode {
		case "park", "free":
			if j.Runs > 1 || u.Kids == 0 {
				break
			}
			if u.Mode == "free" {
				return 0, job.Park(job.OnChildren(), job.FreeTurn())
			}
			return 0, job.Park(job.OnChildren())
		case "wait":
			for _, id := range ids {
				if _, err := m.Wait(ctx, id); err != nil {
					return 0, err
				}
			}
		case "release":
			if err := job.ReleaseTurn(ctx); err != nil {
				return 0, err
			}
		}
		if u.N%7 == 3 && j.Attempt == 0 {
			return 0, fmt.Errorf("the first attempt fails")
		}
		return u.N, n.Env.Sleep(ctx, time.Duration(u.N%3)*200*time.Millisecond)
	}
}

// unit submits a tree of units, node after node.
func (l *lines) unit(i int, u unit, k syncqueue.Key) {
	for try := 0; ; try++ {
		j, err := l.jobs[l.nodes[(i+try)%3].Name()].Submit(l.w.T.Context(), job.Request{Kind: "unit", Args: u, Sync: k})
		if err == nil {
			l.ids = append(l.ids, j.ID)
			return
		}
		if try > 200 {
			l.w.T.Fatal(err)
		}
		l.w.Advance(200 * time.Millisecond)
	}
}

func TestQueueLending(t *testing.T) {
	t.Run("queue-52, 53 units among outsiders", func(t *testing.T) {
		testkit.Explore(t, 100, func(w *testkit.World) {
			l := newLines(w)
			for i := range 12 {
				l.submit(i, key(0), "")
				l.unit(i, unit{N: i, Depth: 1, Kids: 2, Mode: modes[i%len(modes)]}, key(0))
			}
			l.over()
		})
	})
	t.Run("queue-54, 56 three levels in a storm", func(t *testing.T) {
		testkit.Explore(t, 200, lendingStorm)
	})
	t.Run("queue-56 crash points", func(t *testing.T) {
		testkit.Explore(t, 5, func(w *testkit.World) {
			l := newLines(w)
			w.Advance(2 * time.Second)
			w.CrashPoints(l.nodes[0], func() {
				l.unit(0, unit{N: 1, Depth: 1, Kids: 2, Mode: "wait"}, key(0))
				l.unit(1, unit{N: 2, Depth: 1, Kids: 2, Mode: "park"}, key(0))
				l.submit(2, key(0), "")
				w.Advance(5 * time.Second)
			})
			l.nodes[0].Restart()
			l.over()
		})
	})
}

// lendingStorm: trees of three levels and outsiders on two keys, cancels, limits, pauses, moves, crashes, freezes, store errors.
func lendingStorm(w *testkit.World) {
	l := newLines(w)
	r := w.Rand("lending")
	for _, n := range l.nodes {
		n.Fail("store.*", 0.01, nil)
		n.FailAfter("store.tx.commit", 0.01, nil)
		n.Serialize(0.01)
	}
	w.Hints(0.1, 0.05, time.Second)
	ctx := w.T.Context()
	for i := range 40 {
		n := l.nodes[r.IntN(3)]
		switch r.IntN(14) {
		case 0:
			l.limit(1 + r.IntN(2))
		case 1:
			n.Crash()
			w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
			n.Restart()
		case 2:
			n.Freeze(time.Duration(r.IntN(40)) * time.Second)
		case 3, 4:
			l.cancelSome(ctx, n, r.IntN(1000))
		case 5:
			l.audit()
		case 6, 7:
			w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
		case 8:
			l.pauseFor(key(r.IntN(2)), time.Duration(r.IntN(3000))*time.Millisecond)
		case 9:
			if waiters, err := l.q.List(ctx, key(0)); err == nil && len(waiters) > 0 {
				_ = l.q.MoveFirst(ctx, waiters[len(waiters)-1].Seq) // it may have gone
			}
		case 10, 11:
			l.unit(i, unit{N: r.IntN(40), Depth: 2, Kids: 1 + r.IntN(2), Mode: modes[r.IntN(len(modes))]}, key(r.IntN(2)))
		default:
			l.submit(i, key(r.IntN(2)), []string{"", "retry", "release"}[r.IntN(3)])
		}
	}
	for _, n := range l.nodes {
		n.Fail("store.*", 0, nil)
		n.FailAfter("store.tx.commit", 0, nil)
	}
	l.over()
}

// cancelSome cancels one of the live jobs, whatever it is.
func (l *lines) cancelSome(ctx context.Context, n *testkit.Node, which int) {
	m := l.jobs[n.Name()]
	var ids []string
	for j, err := range m.List(ctx, job.Query{}) {
		if err != nil {
			return
		}
		ids = append(ids, j.ID)
	}
	if len(ids) > 0 {
		_, _ = m.Cancel(ctx, ids[which%len(ids)]) // any answer will do: it may be final, or the store away
	}
}

func (l *lines) pauseFor(k syncqueue.Key, d time.Duration) {
	if err := l.q.Pause(l.w.T.Context(), k); err != nil {
		l.w.T.Fatal(err)
	}
	l.w.Advance(d)
	if err := l.q.Resume(l.w.T.Context(), k); err != nil {
		l.w.T.Fatal(err)
	}
}
