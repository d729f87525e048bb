package job_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestCrashStores(t *testing.T) {
	eachStore(t, []spec{{name: "job-19 crash before and after every store call", stores: "sp", run: crashEverywhere}})
}

// crashPoint is the nth call of an operation: before it, which undoes its transaction, or after its commit.
type crashPoint struct {
	op    string
	nth   int
	after bool
}

// crashing ends a node's store at a point, for good.
type crashing struct {
	at     crashPoint
	mu     sync.Mutex
	counts map[bool]map[string]int
	dead   bool
	end    context.CancelFunc
}

var errCrashed = errors.New("crashed")

func (c *crashing) hook(after bool) func(op string) error {
	return func(op string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counts[after][op]++
		if c.at == (crashPoint{op, c.counts[after][op], after}) {
			c.dead = true
			c.end()
		}
		if c.dead {
			return errCrashed
		}
		return nil
	}
}

// crashEverywhere counts the calls of a life, and lives it again for each of them, until a crash there.
func crashEverywhere(w *world) {
	most := 1 // of each operation
	if os.Getenv("DROVER_LONG") != "" {
		most = 40
	}
	all, _ := w.crashAt(0, crashPoint{})
	n, hit := 0, 0
	for _, after := range []bool{false, true} {
		for _, op := range slices.Sorted(maps.Keys(all[after])) {
			for nth := range min(most, all[after][op]) {
				n++
				if _, dead := w.crashAt(n, crashPoint{op, nth + 1, after}); dead {
					hit++
				}
			}
		}
	}
	w.Logf("%d points, %d met; calls before and after: %v", n, hit, all)
	if n < 16 || hit < n*8/10 {
		w.Errorf("only %d of %d points were met", hit, n)
	}
}

// crashLife are the jobs of one life, each known by its idempotency key, and their kinds.
var crashLife = []string{"work", "work", "park", "parent", "slow", "lost"}

func crashHandlers(m *job.Manager) {
	epoch := func(ctx context.Context) (int64, error) { return job.Token(ctx).Epoch, nil }
	job.Handle(m, "work", func(ctx context.Context, _ int) (int64, error) {
		if _, err := job.Step(ctx, "step", func(context.Context) (int, error) { return 1, nil }); err != nil {
			return 0, err
		}
		if err := job.Report(ctx, job.Progress{Percent: 50}); err != nil {
			return 0, err
		}
		return epoch(ctx)
	})
	job.Handle(m, "lost", func(ctx context.Context, _ int) (int64, error) { return epoch(ctx) })
	job.Handle(m, "park", func(ctx context.Context, _ int) (int64, error) {
		j, _ := job.FromContext(ctx)
		if len(j.Wakes) == 0 {
			return 0, job.Park(job.OnTopic("topic/" + j.ID))
		}
		return epoch(ctx)
	})
	job.Handle(m, "parent", func(ctx context.Context, n int) (int64, error) {
		child, err := m.Submit(ctx, job.Request{Kind: "work", Name: "child", Args: n})
		if err != nil {
			return 0, err
		}
		if _, err := job.Await[int64](ctx, child.ID); err != nil {
			return 0, err
		}
		return epoch(ctx)
	})
	job.Handle(m, "slow", func(ctx context.Context, _ int) (int64, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
}

// crashAt lives a life on one node until it crashes there, starts the node again and looks at what comes of it.
func (w *world) crashAt(n int, at crashPoint) (calls map[bool]map[string]int, dead bool) {
	w.Helper()
	name, key := fmt.Sprint("node", n), vm(fmt.Sprint(n))
	quick := with(func(c *job.Config) { c.Poll = 100 * time.Millisecond })
	req := func(i int) job.Request {
		r := job.Request{Kind: crashLife[i], Idem: fmt.Sprint(n, "/", i), Args: i}
		if r.Kind == "work" {
			r.Sync = key
		}
		return r
	}
	w.orphan(name, req(len(crashLife)-1))

	ctx, end := context.WithCancel(w.Context())
	defer end()
	c := &crashing{at: at, end: end, counts: map[bool]map[string]int{false: {}, true: {}}}
	a := w.idle(name, quick)
	crashHandlers(a.Manager)
	a.faults.set(func(f *faults) { f.before, f.after = c.hook(false), c.hook(true) })
	a.run()
	w.live(ctx, a, req)
	c.mu.Lock()
	calls, dead, c.dead = c.counts, c.dead, true
	c.mu.Unlock()
	_ = a.stop()

	b := w.node(name, crashHandlers, quick)
	js := w.live(w.Context(), b, req)
	if w.Failed() {
		w.Fatalf("crash at %+v", at)
	}
	for i, j := range js {
		switch {
		case j == nil:
			w.Fatalf("crash at %+v: job %d is not final", at, i)
		case j.Kind == "slow" && j.State == job.Cancelled:
		case j.State != job.Succeeded || string(j.Result) != fmt.Sprint(j.Epoch):
			w.Fatalf("crash at %+v: %s is %s with %s at epoch %d: %v", at, j.Kind, j.State, j.Result, j.Epoch, j.Error)
		}
	}
	w.settled(b, at, js, key)
	w.must(b.stop())
	return calls, dead
}

// live submits the jobs, wakes and cancels those that want it, and waits for the end of all, or of ctx. Nil is not final.
func (w *world) live(ctx context.Context, n *node, req func(i int) job.Request) []*job.Job {
	js := make([]*job.Job, len(crashLife))
	final := func(j *job.Job) bool { return j != nil && j.State.Final() }
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		for i := range js {
			switch j := js[i]; {
			case j == nil:
				js[i], _ = n.Submit(ctx, req(i))
				continue
			case final(j):
				continue
			case j.Kind == "park" && j.State == job.Parked:
				_ = n.Wake(ctx, "topic/"+j.ID)
			case j.Kind == "slow" && j.State == job.Running:
				_, _ = n.Cancel(ctx, j.ID)
			}
			if j, err := n.Get(ctx, js[i].ID); err == nil {
				js[i] = j
			}
		}
		if !slices.ContainsFunc(js, func(j *job.Job) bool { return !final(j) }) {
			break
		}
	}
	for i := range js {
		if !final(js[i]) {
			js[i] = nil
		}
	}
	return js
}

// orphan leaves a job to the sweep: claimed by a session whose name a newer one has taken.
func (w *world) orphan(name string, r job.Request) {
	w.Helper()
	dead := w.idle(name+"z", workers(0))
	crashHandlers(dead.Manager)
	w.submit(dead, r)
	open := func(process string) (tok lease.Token) {
		w.must(w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) (err error) {
			tok, err = w.db.Leases().Open(ctx, tx, lease.Info{Name: name + "z", State: lease.Active}, process, w.ttl)
			return err
		}))
		return tok
	}
	tok := open("one")
	w.must(w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
		got, err := w.db.Jobs().Claim(ctx, tx, job.Claim{Session: tok, Kinds: []string{"lost"}, Free: map[string]int{"default": 1}, Max: 1})
		if err == nil && len(got.Rows) != 1 {
			err = fmt.Errorf("claimed %d", len(got.Rows))
		}
		return err
	}))
	open("two")
}

// settled: one job each, one child, and no line left.
func (w *world) settled(n *node, at crashPoint, js []*job.Job, key syncqueue.Key) {
	w.Helper()
	w.must(w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
		for _, j := range js {
			l, err := w.db.Jobs().List(ctx, tx, job.Find{Query: &job.Query{Parent: j.ID, States: []job.State{job.Succeeded}}})
			if want := map[string]int{"parent": 1}[j.Kind]; err != nil || len(l.Rows) != want {
				return fmt.Errorf("crash at %+v: %s has %d children: %w", at, j.Kind, len(l.Rows), err)
			}
		}
		line, err := w.db.Queues().List(ctx, tx, syncqueue.Filter{Key: key})
		if err == nil && len(line) > 0 {
			err = fmt.Errorf("crash at %+v: left in line: %+v", at, line)
		}
		return err
	}))
}
