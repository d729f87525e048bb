package agent_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

func TestPending(t *testing.T) {
	bubble(t, "agent-16 results at any node", anyNode)
	bubble(t, "agent-17 a step whose node dies", durableStep)
	bubble(t, "stored results", storedResults)
}

// shared is a node whose callbacks come to a balancer, with what is outstanding in db.
func (l *lab) shared(name string, db *memory.Store) *node {
	return l.node(name, func(c *agent.Config) {
		c.Callback, c.Pending, c.Tx, c.Notify = "http://lb", db.Agents(), db, db.Notifier()
	})
}

// row is what db has of a task; nil: nothing.
func (l *lab) row(db *memory.Store, task string) (r *agent.Row) {
	l.ok(db.InTx(bg, func(ctx context.Context, tx store.Tx) error {
		rows, err := db.Agents().Get(ctx, tx, []string{task}, false)
		if len(rows) > 0 {
			r = &rows[0]
		}
		return err
	}))
	return r
}

func anyNode(l *lab) {
	var r runs
	db := &memory.Store{}
	n1, n2, n3 := l.shared("n1", db), l.shared("n2", db), l.shared("n3", db)
	l.serve("lb", n1.Handler())
	l.host("h1", func(c *agent.ServerConfig) { c.Nodes = []string{"http://lb"} }, nap(&r))
	began := time.Now()
	task, err := n1.Start(bg, "http://h1/nap", 20.0)
	l.ok(err)
	if k := l.row(db, string(task)); k == nil || k.Done || k.URL != "http://h1/nap" || k.Agent == "" || !k.Deadline.Equal(began.UTC().Add(time.Minute)) {
		l.Errorf("row %+v", k)
	}
	n1.stop() // dead after 202
	l.serve("n1", nil)
	l.serve("lb", n2.Handler())
	got, err := agent.Wait[string](bg, n3.Client, task)
	if got != "rested" || err != nil {
		l.Fatalf("%q, %v", got, err)
	}
	l.took(began, 20*time.Second) // the hint came at once
	for range 2 {                 // any number of times
		if got, err := agent.Wait[string](bg, n2.Client, task); got != "rested" || err != nil {
			l.Errorf("%q, %v", got, err)
		}
	}
	if r.of("begun") != 1 {
		l.Errorf("the handler ran %d times", r.of("begun"))
	}
	time.Sleep(time.Until(began.Add(61 * time.Minute)))
	if l.row(db, string(task)) == nil {
		l.Error("the row went before its hour was over")
	}
	time.Sleep(2 * time.Minute)
	if k := l.row(db, string(task)); k != nil {
		l.Errorf("an hour after its deadline there is %+v", k)
	}
	if _, err := agent.Wait[string](bg, n2.Client, task); !errors.Is(err, agent.ErrTaskLost) {
		l.Errorf("a task that nobody knows: %v", err)
	}
}

func storedResults(l *lab) {
	db := &memory.Store{}
	n := l.shared("n1", db)
	other := l.node("n2", func(c *agent.Config) { c.Callback, c.Pending, c.Tx = "http://lb", db.Agents(), db }) // no hints
	l.serve("lb", other.Handler())
	a := &taken{poll: 503}
	l.serve("h1", a)
	start := func(opts ...agent.Option) (agent.Task, *http.Request, string) {
		l.Helper()
		task, err := n.Start(bg, "http://h1/x", 1, opts...)
		l.ok(err)
		return task, a.last(), a.last().Header.Get("Drover-Key")
	}
	task, req, key := start()
	if s := l.back(req, "wrong", `{"result":"theirs"}`); s != 403 {
		l.Errorf("a wrong key at another node: %d", s)
	}
	if s := l.back(req, key, `{"result":"mine"}`); s != 200 {
		l.Errorf("the callback: %d", s)
	}
	if s := l.back(req, key, `{"result":"again"}`); s != 200 {
		l.Errorf("a second one: %d", s)
	}
	if s := l.back(req, "wrong", `{"result":"again"}`); s != 403 {
		l.Errorf("a second one with a wrong key: %d", s)
	}
	for _, c := range []*node{n, other} {
		if got, err := agent.Wait[string](bg, c.Client, task); got != "mine" || err != nil {
			l.Errorf("%q, %v", got, err)
		}
	}
	// Sent again, the task is not: its result is there.
	before := l.count("POST http://h1")
	if got, err := agent.Call[string](bg, other.Client, "http://h1/x", 1, task); got != "mine" || err != nil || l.count("POST http://h1") != before {
		l.Errorf("%q, %v, %d requests", got, err, l.count("POST http://h1")-before)
	}
	// An unreadable reply is one at every node, a failure likewise.
	task, req, key = start()
	l.back(req, key, `<html>`)
	if _, err := agent.Wait[string](bg, other.Client, task); !errors.Is(err, agent.ErrBadReply) {
		l.Errorf("garbage: %v", err)
	}
	task, req, key = start()
	l.back(req, key, `{"error":{"code":"in-use","text":"it is"}}`)
	var failed *agent.RemoteError
	if _, err := agent.Wait[string](bg, other.Client, task); !errors.As(err, &failed) || failed.ErrorCode() != "in-use" {
		l.Errorf("a failure: %v", err)
	}
	// Nobody hints this node: it looks every second.
	task, req, key = start()
	l.serve("lb", n.Handler())
	began := time.Now()
	waited := make(chan error, 1)
	go func() {
		_, err := agent.Wait[string](bg, other.Client, task)
		waited <- err
	}()
	synctest.Wait()
	l.back(req, key, `{"result":"x"}`)
	l.ok(<-waited)
	if d := time.Since(began); d > time.Second {
		l.Errorf("a result without a hint after %v", d)
	}
	// The end of Wait's ctx ends nothing else.
	task, req, key = start()
	ctx, cancel := context.WithTimeout(bg, time.Second)
	defer cancel()
	if _, err := agent.Wait[string](ctx, other.Client, task); !errors.Is(err, agent.ErrTimeout) {
		l.Errorf("Wait: %v", err)
	}
	synctest.Wait()
	if l.count("DELETE http://h1") != 0 {
		l.Error("the end of a Wait cancelled the task")
	}
	l.serve("lb", other.Handler()) // which waits no longer, and stores it all the same
	l.back(req, key, `{"result":"late"}`)
	if got, err := agent.Wait[string](bg, other.Client, task); got != "late" || err != nil {
		l.Errorf("%q, %v", got, err)
	}
	// A store that fails costs no result: the agent calls back again.
	bad := errors.New("disk full")
	broken := l.node("n3", func(c *agent.Config) {
		c.Callback, c.Pending = "http://lb", db.Agents()
		c.Tx = runner(func(context.Context, func(context.Context, store.Tx) error) error { return bad })
	})
	if _, err := agent.Call[string](bg, broken.Client, "http://h1/x", 1); !errors.Is(err, agent.ErrNotSent) || !errors.Is(err, bad) {
		l.Errorf("Call: %v", err)
	}
	task, req, key = start()
	l.serve("lb", broken.Handler())
	if s := l.back(req, key, `{"result":"x"}`); s != 503 {
		l.Errorf("a callback that could not be stored: %d", s)
	}
	l.serve("lb", n.Handler())
	if s := l.back(req, key, `{"result":"x"}`); s != 200 {
		l.Errorf("again: %d", s)
	}
	if got, err := agent.Wait[string](bg, n.Client, task); got != "x" || err != nil {
		l.Errorf("%q, %v", got, err)
	}
}

type runner func(ctx context.Context, fn func(context.Context, store.Tx) error) error

func (r runner) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	return r(ctx, fn)
}

// cutOff is a node's way to the store, until the node dies.
type cutOff struct {
	*memory.Store
	dead atomic.Bool
}

func (c *cutOff) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	if c.dead.Load() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
			return syscall.ETIMEDOUT
		}
	}
	return c.Store.InTx(ctx, fn)
}

func durableStep(l *lab) {
	var r runs
	db := &memory.Store{}
	l.host("h1", func(c *agent.ServerConfig) { c.Nodes = []string{"http://lb"} }, nap(&r))
	start := func(name string) (*job.Manager, *cutOff, func()) {
		way := &cutOff{Store: db}
		n := l.node(name, func(c *agent.Config) {
			c.Callback, c.Pending, c.Tx, c.Notify, c.Timeout = "http://lb", db.Agents(), way, db.Notifier(), time.Hour
		})
		m, err := job.New(job.Config{Env: drover.Env{Node: name, Logger: quiet}, DB: way})
		l.ok(err)
		job.Handle(m, "vm.start", func(ctx context.Context, seconds float64) (string, error) {
			j, _ := job.FromContext(ctx)
			r.add("run on " + name)
			task, err := n.Start(ctx, "http://h1/nap", seconds, agent.Task(j.ID+"/start"), agent.Timeout(time.Hour))
			if err != nil {
				return "", err
			}
			return agent.Wait[string](ctx, n.Client, task)
		})
		l.serve("lb", n.Handler())
		return m, way, l.run(m)
	}
	m, way, stop := start("n1")
	j, err := m.Submit(bg, job.Request{Kind: "vm.start", Args: 300.0})
	l.ok(err)
	time.Sleep(10 * time.Second)
	if r.of("begun") != 1 {
		l.Fatalf("the agent has begun %d", r.of("begun"))
	}
	way.dead.Store(true) // and nothing that n1 sends arrives
	l.serve("n1", nil)
	m2, _, _ := start("n2")
	l.break_(func(r *http.Request) error {
		if r.Method == http.MethodDelete {
			return syscall.ECONNREFUSED
		}
		return nil
	})
	got, err := m2.Wait(bg, j.ID)
	l.ok(err)
	out, err := job.Result[string](got)
	if err != nil || out != "rested" || got.State != job.Succeeded {
		l.Errorf("%q, %v: %+v", out, err, got)
	}
	if r.of("begun") != 1 || r.of("done") != 1 || r.of("run on n1") != 1 || r.of("run on n2") != 1 {
		l.Errorf("runs %v", r.n)
	}
	way.dead.Store(false) // the dead one returns, too late for anything
	stop()
}
