package drover_test

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/testkit"
)

// actor is a node that acts in three ways, each for as long as it may: under its session, in a job and as a singleton.
type actor struct {
	env    drover.Env
	db     testkit.Stores
	ttl    time.Duration
	every  time.Duration // between two effects
	effect func(ctx context.Context, way, life string)
}

// while has effects until ctx ends, and no thought of anything but ctx.
func (a *actor) while(ctx context.Context, way string) error {
	life := a.env.NewID()
	for ctx.Err() == nil {
		a.effect(ctx, way, life)
		_ = a.env.Sleep(ctx, a.every)
	}
	return context.Cause(ctx)
}

func (a *actor) service() (*drover.Service, *job.Manager, error) {
	session, err := lease.New(lease.Config{Env: a.env, Tx: a.db, Store: a.db.Leases(), Notify: a.db.Notifier(), TTL: a.ttl})
	if err != nil {
		return nil, nil, err
	}
	jobs, err := job.New(job.Config{Env: a.env, DB: a.db, Session: session, Poll: a.ttl / 4})
	if err != nil {
		return nil, nil, err
	}
	job.Handle(jobs, "act", func(ctx context.Context, _ int) (int, error) { return 0, a.while(ctx, "job") })
	tasks := &periodic.Set{Env: a.env}
	err = tasks.Every(time.Hour, "act", func(ctx context.Context) error { return a.while(ctx, "singleton") },
		periodic.Singleton(lease.NewLedger(session, a.db.Ledger())))
	s := &drover.Service{Env: a.env}
	s.Components.Add("session", session)
	s.Components.Add("jobs", jobs)
	s.Components.Add("with", drover.Func(func(ctx context.Context) error {
		for a.env.Sleep(ctx, a.every) == nil {
			mine, release := session.With(ctx)
			_ = a.while(mine, "session")
			release()
		}
		return nil
	}))
	s.Components.Add("tasks", tasks, drover.AfterReady())
	return s, jobs, err
}

func TestFrozen(t *testing.T) {
	t.Run("lease-02 a node frozen past its lease has no effect when it wakes", func(t *testing.T) {
		testkit.Explore(t, 100, frozenNode)
	})
	t.Run("lease-02 a process stopped past its lease has no effect when it goes on", frozenProcess)
}

func frozenNode(w *testkit.World) {
	type effect struct {
		way, life string
		at        time.Time
	}
	var mu sync.Mutex
	var done []effect
	jobs := map[string]*job.Manager{}
	build := func(n *testkit.Node) drover.Component {
		a := &actor{env: n.Env, db: n.Store, ttl: 30 * time.Second, every: time.Second, effect: func(_ context.Context, way, life string) {
			mu.Lock()
			defer mu.Unlock()
			if n.Name() == "a" {
				done = append(done, effect{way, life, time.Now()})
			}
		}}
		s, m, err := a.service()
		if err != nil {
			w.T.Fatal(err)
		}
		jobs[n.Name()] = m
		return s
	}
	a := w.Node("a", build)
	for i := range 3 {
		if _, err := jobs["a"].Submit(w.T.Context(), job.Request{Kind: "act", Args: i}); err != nil {
			w.T.Fatal(err)
		}
	}
	w.Advance(time.Hour + 10*time.Second) // the singleton runs too
	w.Advance(time.Duration(w.Rand("freeze").Int64N(int64(10 * time.Second))))
	mu.Lock()
	ways := map[string]string{}
	for _, e := range done {
		ways[e.life] = e.way
	}
	mu.Unlock()
	if len(ways) < 5 {
		w.T.Fatalf("only %v acted", ways)
	}
	a.Freeze(90 * time.Second)
	frozen := time.Now()
	w.Advance(3 * time.Minute)
	mu.Lock()
	defer mu.Unlock()
	again := 0
	for _, e := range done {
		switch {
		case !e.at.After(frozen):
		case ways[e.life] != "":
			w.T.Errorf("%s: an effect %v after the freeze began, under a lease that was over", e.way, e.at.Sub(frozen))
		default:
			again++
		}
	}
	if again == 0 {
		w.T.Error("it never acted again")
	}
}

// act is the process that is stopped.
func act(name, dsn string) error {
	db, err := postgres.Open(dsn, 6)
	if err != nil {
		return err
	}
	env := drover.Env{Node: name, Logger: quiet().Logger}.Defaults()
	a := &actor{env: env, db: postgres.New(db, postgres.Config{Env: env}), ttl: 2 * time.Second, every: 50 * time.Millisecond,
		effect: func(_ context.Context, way, life string) { // whatever becomes of ctx: it has been asked
			_, _ = db.NewRaw(`INSERT INTO effects (node, way, life) VALUES (?, ?, ?)`, name, way, life).Exec(context.Background())
		}}
	s, jobs, err := a.service()
	if err != nil {
		return err
	}
	s.PostStart = func(ctx context.Context) error {
		if name != "a" {
			return nil
		}
		_, err := jobs.Submit(ctx, job.Request{Kind: "act", Args: 1})
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return s.Run(ctx)
}

func frozenProcess(t *testing.T) {
	dsn := fixture.Postgres(t).Database(t)
	db := fixture.OpenPostgres(t, dsn, 2)
	if err := postgres.New(db, postgres.Config{}).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE effects (id bigserial, node text, way text, life text, at timestamptz DEFAULT clock_timestamp())`); err != nil {
		t.Fatal(err)
	}
	one := func(query string, args ...any) (n int) {
		t.Helper()
		if err := db.NewRaw(query, args...).Scan(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until := func(what, query string, n int, args ...any) {
		t.Helper()
		for end := time.Now().Add(time.Minute); one(query, args...) < n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not within a minute: ", what)
			}
		}
	}
	procs := map[string]*exec.Cmd{}
	run := func(name string) {
		cmd := exec.Command(os.Args[0]) //nolint:gosec // itself
		cmd.Env = append(os.Environ(), "DROVER_TEST_ACTOR="+name, "DROVER_TEST_DSN="+dsn)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGCONT); _ = cmd.Process.Kill(); _ = cmd.Wait() })
		procs[name] = cmd
	}
	const byWay = `SELECT count(DISTINCT way) FROM effects WHERE node = ? AND at > clock_timestamp() - interval '1 second'`
	run("a")
	until("a acts by session and job", byWay, 2, "a")
	run("b")
	until("b acts by its session", byWay, 1, "b")
	freezes := 1
	if os.Getenv("DROVER_LONG") != "" {
		freezes = 20
	}
	for range freezes {
		var before, stopped int
		if err := procs["a"].Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		until("the stop is through", `SELECT (count(*) = 0)::int FROM effects WHERE node = 'a' AND at > clock_timestamp() - interval '500 ms'`, 1)
		stopped = one(`SELECT max(id) FROM effects`)
		before = one(`SELECT count(DISTINCT life) FROM effects WHERE node = 'a' AND id <= ?`, stopped)
		until("b has a's job", `SELECT count(*) FROM effects WHERE node = 'b' AND way = 'job'`, 1)
		if err := procs["a"].Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		until("a acts again", `SELECT count(*) FROM effects WHERE node = 'a' AND id > ?`, 5, stopped)
		if n := one(`SELECT count(*) FROM effects WHERE node = 'a' AND id > ? AND life IN (SELECT life FROM effects WHERE node = 'a' AND id <= ?)`, stopped, stopped); n != 0 || before == 0 {
			t.Errorf("%d effects under a lease that was over, of %d lives", n, before)
		}
	}
}
