package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// lines is a world whose nodes work on keyed jobs; what it checks beside testkit's invariants (G3 by limits, G4) is the audit.
type lines struct {
	w     *testkit.World
	nodes []*testkit.Node
	jobs  map[string]*job.Manager
	hand  *testkit.Node // asks and steers; no faults
	q     *syncqueue.Queue
	mu    sync.Mutex // of ids; held for memory only
	ids   []string
}

func newLines(w *testkit.World) *lines {
	l := &lines{w: w, jobs: map[string]*job.Manager{}}
	w.JobInvariants()
	l.hand = w.Node("hand", nil)
	var err error
	if l.q, err = syncqueue.New(syncqueue.Config{Env: l.hand.Env, Tx: l.hand.Store, Store: l.hand.Store.Queues()}); err != nil {
		w.T.Fatal(err)
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		l.nodes = append(l.nodes, w.Node(name, l.build))
	}
	return l
}

func (l *lines) build(n *testkit.Node) drover.Component {
	m, err := job.New(job.Config{Env: n.Env, DB: n.Store, Queues: map[string]int{"default": 6}})
	if err != nil {
		l.w.T.Fatal(err)
	}
	job.Handle(m, "task", func(ctx context.Context, a task) (int, error) {
		j, _ := job.FromContext(ctx)
		if a.Mode == "release" {
			if err := job.ReleaseTurn(ctx); err != nil {
				return 0, err
			}
		}
		if err := n.Env.Sleep(ctx, time.Duration(a.N%5)*400*time.Millisecond); err != nil {
			return 0, err
		}
		switch {
		case a.Mode == "again" && j.Runs == 1:
			return 0, job.Again(time.Second)
		case a.Mode == "retry" && j.Attempt == 0:
			return 0, errors.New("the first attempt fails")
		}
		return a.N, nil
	}, job.MaxLost(1000))
	job.Handle(m, "unit", l.work(n, m), job.MaxLost(1000))
	l.jobs[n.Name()] = m
	return m
}

func (l *lines) limit(n int) {
	if err := l.q.SetLimit(l.w.T.Context(), "vm", n); err != nil {
		l.w.T.Fatal(err)
	}
}

// submit tries node after node: any of them may be down just now.
func (l *lines) submit(i int, k syncqueue.Key, mode string) {
	for try := 0; ; try++ {
		m := l.jobs[l.nodes[(i+try)%3].Name()]
		j, err := m.Submit(l.w.T.Context(), job.Request{Kind: "task", Args: task{i, mode}, Sync: k})
		if err == nil {
			l.mu.Lock()
			l.ids = append(l.ids, j.ID)
			l.mu.Unlock()
			return
		}
		if try > 200 {
			l.w.T.Fatal(err)
		}
		l.w.Advance(200 * time.Millisecond)
	}
}

func (l *lines) audit() {
	if n, err := l.q.Audit(l.w.T.Context()); n != 0 || err != nil {
		l.w.T.Fatalf("audit repaired %d: %v", n, err)
	}
}

// over waits until all jobs are final and the lines empty.
func (l *lines) over() {
	seen, err := job.New(job.Config{Env: l.hand.Env, Tx: l.hand.Store, Store: l.hand.Store.Jobs(), Queues: map[string]int{}})
	if err != nil {
		l.w.T.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Minute); ; l.w.Advance(time.Second) {
		left := 0
		for _, err := range seen.List(l.w.T.Context(), job.Query{}) {
			if err != nil {
				l.w.T.Fatal(err)
			}
			left++
		}
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			l.w.T.Fatalf("%d jobs are left", left)
		}
	}
	keys, err := l.q.Keys(l.w.T.Context(), syncqueue.Filter{})
	if len(keys) != 0 || err != nil {
		l.w.T.Fatal(keys, err)
	}
	l.audit()
}

func key(i int) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i)} }

func TestQueueExplore(t *testing.T) {
	for _, limit := range []int{1, 3} {
		t.Run(fmt.Sprintf("queue-31, 33 limit %d, order", limit), func(t *testing.T) {
			testkit.Explore(t, 100, func(w *testkit.World) {
				l := newLines(w)
				l.limit(limit)
				for i := range 60 {
					l.submit(i, key(i%5), []string{"", "retry", "again"}[i%3])
				}
				if err := l.nodes[1].Stop(); err != nil {
					w.T.Error(err)
				}
				l.over()
			})
		})
	}

	t.Run("queue-39 SetLimit races with submissions", func(t *testing.T) {
		testkit.Explore(t, 200, func(w *testkit.World) {
			l := newLines(w)
			l.limit(0)
			var done atomic.Int32
			for g := range 4 {
				w.Go(fmt.Sprintf("submitter%d", g), func() {
					for i := range 25 {
						l.submit(100*g+i, key(0), "")
					}
					done.Add(1)
				})
			}
			w.Advance(time.Duration(w.Rand("limit").IntN(40)) * time.Millisecond)
			l.limit(1)
			w.Eventually(time.Minute, "all are submitted", func() bool { return done.Load() == 4 })
			l.over()
		})
	})

	t.Run("queue-42 killed nodes", func(t *testing.T) {
		testkit.Explore(t, 100, func(w *testkit.World) {
			l := newLines(w)
			for i := range 40 {
				l.submit(i, key(i%10), "")
			}
			w.Advance(time.Duration(w.Rand("kill").IntN(1500)) * time.Millisecond)
			l.nodes[0].Crash()
			l.audit()
			l.over()
		})
	})

	t.Run("queue-49, 50 random operations with crashes", func(t *testing.T) {
		testkit.Explore(t, 500, storm)
	})
}

// storm: submissions, cancels, limits, early releases, crashes, freezes, store errors before and after commits.
func storm(w *testkit.World) {
	l := newLines(w)
	r := w.Rand("storm")
	for _, n := range l.nodes {
		n.Fail("store.*", 0.02, nil)
		n.FailAfter("store.tx.commit", 0.02, nil)
		n.Serialize(0.02)
	}
	w.Hints(0.1, 0.05, time.Second)
	for i := range 60 {
		switch r.IntN(12) {
		case 0:
			l.limit(r.IntN(4))
		case 1:
			n := l.nodes[r.IntN(3)]
			n.Crash()
			w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
			n.Restart()
		case 2:
			l.nodes[r.IntN(3)].Freeze(time.Duration(r.IntN(40)) * time.Second)
		case 3:
			if len(l.ids) > 0 { // any answer will do: it may be final, or the store away
				_, _ = l.jobs[l.nodes[r.IntN(3)].Name()].Cancel(w.T.Context(), l.ids[r.IntN(len(l.ids))])
			}
		case 4:
			l.audit()
		case 5:
			w.Advance(time.Duration(r.IntN(2000)) * time.Millisecond)
		default:
			l.submit(i, key(r.IntN(3)), []string{"", "retry", "again", "release"}[r.IntN(4)])
		}
	}
	for _, n := range l.nodes {
		n.Fail("store.*", 0, nil)
		n.FailAfter("store.tx.commit", 0, nil)
	}
	l.limit(1)
	l.over()
}
