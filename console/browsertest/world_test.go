package browsertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

// work is what all jobs here are handed. They go on when the test lets them.
type work struct {
	Name string            `json:"name"`
	Host string            `json:"host,omitempty"`
	More map[string]string `json:"more,omitempty"`
	Fail string            `json:"fail,omitempty"`
}

type worked struct {
	Host string `json:"host"`
	OK   bool   `json:"ok"`
}

// world is a host with a console, in this process: one node that works, on the memory store.
type world struct {
	t       testing.TB
	db      *memory.Store
	session *lease.Session
	queue   *syncqueue.Queue
	jobs    *job.Manager
	console *console.Console
	url     string // of the console, with a slash at its end
	mu      sync.Mutex
	permits map[string]chan struct{}
	server  *http.Server
	over    bool // nobody waits any more
	group   group
	hosts   hosts
	tasks   *periodic.Set
}

// group is a membership made up.
type group struct {
	mu  sync.Mutex
	now console.MemberView
}

func (g *group) View() console.MemberView { g.mu.Lock(); defer g.mu.Unlock(); return g.now }
func (g *group) set(v console.MemberView) { g.mu.Lock(); defer g.mu.Unlock(); g.now = v }

func (g *group) Mark(context.Context, string, string) error   { return nil }
func (g *group) ConfirmDown(context.Context, ...string) error { return nil }
func (g *group) Forget(context.Context, string, bool) error   { return nil }

// hosts are made up.
type hosts struct {
	mu  sync.Mutex
	now []console.Host
}

func (h *hosts) Hosts(context.Context) ([]console.Host, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now, nil
}
func (h *hosts) set(all ...console.Host) { h.mu.Lock(); defer h.mu.Unlock(); h.now = all }

// full gives the console membership, hosts and tasks too.
func (w *world) full(c *console.Config) {
	w.tasks = &periodic.Set{Env: c.Env}
	_ = w.tasks.Every(time.Hour, "audit.claims", func(context.Context) error { return nil }, periodic.Initial(40*time.Minute))
	_ = w.tasks.Every(5*time.Minute, "images.refresh", func(context.Context) error { return errors.New("mirror.example: connection refused") }, periodic.Initial(time.Millisecond))
	_ = w.tasks.Add(periodic.Cron("30 2 * * *", time.UTC, "backup", func(context.Context) error { return nil }))
	c.Periodic, c.Members, c.Hosts = w.tasks, &w.group, &w.hosts
}

func (w *world) Publish(ctx context.Context, tx store.Tx, e job.Event) error {
	return w.console.Publish(ctx, tx, e)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newWorld(t testing.TB, change func(*console.Config)) *world {
	t.Helper()
	w := &world{t: t, db: &memory.Store{}, permits: map[string]chan struct{}{}}
	w.start(change)
	return w
}

// newFull is a world with membership, hosts and tasks.
func newFull(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, db: &memory.Store{}, permits: map[string]chan struct{}{}}
	w.start(w.full)
	return w
}

func (w *world) start(change func(*console.Config)) {
	t := w.t
	t.Helper()
	env := drover.Env{Node: "ms1", Logger: slog.New(slog.DiscardHandler)}
	w.session = must[*lease.Session](t)(lease.New(lease.Config{Env: env, Tx: w.db, Store: w.db.Leases(), Notify: w.db.Notifier(), Name: "ms1"}))
	w.queue = must[*syncqueue.Queue](t)(syncqueue.New(syncqueue.Config{Env: env, Tx: w.db, Store: w.db.Queues()}))
	w.jobs = must[*job.Manager](t)(job.New(job.Config{
		Env: env, DB: w.db, Session: w.session, Turns: w.queue, Events: w, Queues: map[string]int{"default": 8}, Poll: 100 * time.Millisecond,
	}))
	w.handle()
	cfg := console.Config{Env: env, Title: "drover", Jobs: w.jobs, Queues: w.queue, Leases: w.session}
	if change != nil {
		change(&cfg)
	}
	w.console = must[*console.Console](t)(console.New(cfg))
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	w.serve(listener)
	w.url = "http://" + listener.Addr().String() + "/console/"
	var g drover.Group
	g.Env = env
	g.Add("session", w.session)
	g.Add("jobs", w.jobs)
	g.Add("console", w.console)
	if w.tasks != nil {
		g.Add("tasks", w.tasks)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	<-g.Ready()
	t.Cleanup(func() {
		w.mu.Lock()
		for _, c := range w.permits {
			close(c)
		}
		w.over = true
		w.mu.Unlock()
		stop()
		w.server.Close()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func (w *world) serve(l net.Listener) {
	mux := http.NewServeMux()
	mux.Handle("/console/", http.StripPrefix("/console", w.console))
	w.server = &http.Server{Handler: mux}
	go w.server.Serve(l)
}

// permit is what a step of that work takes before it ends.
func (w *world) permit(name string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.permits[name] == nil {
		if w.permits[name] = make(chan struct{}, 1000); w.over {
			close(w.permits[name])
		}
	}
	return w.permits[name]
}

// let lets so many steps of that work end.
func (w *world) let(name string, n int) {
	for range n {
		w.permit(name) <- struct{}{}
	}
}

func (w *world) wait(ctx context.Context, name string) error {
	select {
	case <-w.permit(name):
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func (w *world) handle() {
	once := job.Retry(func() backoff.BackOff { return backoff.NewConstantBackOff(300 * time.Millisecond) }, 2)
	deploy := flow.New[work]("deploy")
	for _, name := range []string{"place", "volume", "define", "start", "record"} {
		deploy = deploy.Then(name, func(ctx context.Context, a *work) error {
			if a.Fail == name {
				return errors.New("no host has room: 4 GiB wanted, 1.5 GiB free")
			}
			return w.wait(ctx, a.Name)
		}, func(context.Context, *work) error { return nil })
	}
	job.Handle(w.jobs, "vm.deploy", func(ctx context.Context, a work) (worked, error) {
		if err := deploy.Run(ctx, &a); err != nil {
			return worked{}, job.Permanent(err)
		}
		return worked{Host: "host-a", OK: true}, nil
	})
	job.Handle(w.jobs, "vm.reboot", func(ctx context.Context, a work) (worked, error) {
		if a.Fail != "" {
			return worked{}, errors.New(a.Fail)
		}
		for i, step := range []string{"shut down", "start"} {
			if err := job.Report(ctx, job.Progress{Percent: 20 + 50*i, Step: step}); err != nil {
				return worked{}, err
			}
			if err := w.wait(ctx, a.Name); err != nil {
				return worked{}, err
			}
		}
		return worked{Host: "host-a", OK: true}, job.Note(ctx, "guest answers ping", nil)
	}, once)
}

// submit hands in work on a machine.
func (w *world) submit(kind string, a work, more ...func(*job.Request)) *job.Job {
	w.t.Helper()
	r := job.Request{
		Kind: kind, Args: a, Sync: syncqueue.Key{Kind: "vm", ID: a.Name}, Resource: "vm/" + a.Name,
		Identity: map[string]string{"user": "anna", "account": "acme"},
	}
	for _, m := range more {
		m(&r)
	}
	return must[*job.Job](w.t)(w.jobs.Submit(context.Background(), r))
}

// until waits for something that will be.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for range 3000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("never: %s", what)
}

func (w *world) state(id string) job.State {
	w.t.Helper()
	return must[*job.Job](w.t)(w.jobs.Get(context.Background(), id)).State
}

func (w *world) reaches(id string, s job.State) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s is %s", id, s), func() bool { return w.state(id) == s })
}

// otherNode is a session that nobody renews once stop was called.
func (w *world) otherNode(name string, ttl time.Duration) (crash func()) {
	w.t.Helper()
	env := drover.Env{Node: name, Logger: slog.New(slog.DiscardHandler)}
	s := must[*lease.Session](w.t)(lease.New(lease.Config{Env: env, Tx: w.db, Store: w.db.Leases(), Name: name, TTL: ttl}))
	s.Serve([]string{"vm.deploy", "vm.reboot"}, []string{"default"})
	must[time.Time](w.t)(s.Step(context.Background()))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(ttl / 10):
				_, _ = s.Step(context.Background())
			}
		}
	}()
	crash = sync.OnceFunc(func() { close(stop); <-stopped })
	w.t.Cleanup(crash)
	return crash
}
