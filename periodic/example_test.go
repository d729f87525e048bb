package periodic_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/testkit"
)

func ExampleEvery() {
	var tasks periodic.Set
	ctx, cancel := context.WithCancel(context.Background())
	_ = tasks.Every(10*time.Millisecond, "tick", func(ctx context.Context) error {
		r := periodic.RunOf(ctx)
		fmt.Println("run", r.Number)
		if r.Number == 3 {
			cancel()
		}
		return nil
	}, periodic.Timeout(time.Second))
	fmt.Println(tasks.Run(ctx))
	// Output:
	// run 1
	// run 2
	// run 3
	// <nil>
}

// Base is a type with tasks, Agent one that has them too.
type Base struct{}

func (Base) PeriodicTasks() []periodic.Task {
	return []periodic.Task{periodic.Every(time.Minute, "audit", func(context.Context) error { return nil })}
}

type Agent struct{ Base }

func (a Agent) PeriodicTasks() []periodic.Task {
	return append(a.Base.PeriodicTasks(), periodic.After(time.Second, "poll", func(context.Context) error { return nil }))
}

func ExampleMethods() {
	var tasks periodic.Set
	_ = tasks.Add(periodic.Methods(Agent{}, periodic.Timeout(time.Minute))...)
	for _, t := range tasks.Status() {
		fmt.Println(t.Name, "-", t.Schedule)
	}
	// Output:
	// Agent.audit - every 1m0s
	// Agent.poll - 1s after each run
}

func ExampleDecorator() {
	quietly := func(t periodic.Task) periodic.Task { // a host's own: a missing file is no failure
		next := t.Do
		t.Do = func(ctx context.Context) error {
			if err := next(ctx); err != nil {
				fmt.Println("ignored:", err)
			}
			return nil
		}
		return t
	}
	var tasks periodic.Set
	_ = tasks.Every(time.Hour, "import", func(context.Context) error { return errors.New("no file") }, quietly)
	fmt.Println(tasks.RunOnce(context.Background(), "import"))
	// Output:
	// ignored: no file
	// <nil>
}

func ExampleCron() {
	var tasks periodic.Set
	fmt.Println(tasks.Add(periodic.Cron("30 2 * * 1-5", time.UTC, "backup", func(context.Context) error { return nil })))
	fmt.Println(tasks.Add(periodic.Cron("0 0 30 2 *", nil, "never", func(context.Context) error { return nil })))
	// Output:
	// <nil>
	// periodic: task "never": periodic: never due: "0 0 30 2 *"
}

func ExampleSingleton() {
	db := &memory.Store{}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, node := range []string{"a", "b", "c"} {
		env := drover.Env{Node: node, Logger: quiet}
		session, _ := lease.New(lease.Config{Env: env, Tx: db, Store: db.Leases()})
		tasks := &periodic.Set{Env: env}
		_ = tasks.Every(50*time.Millisecond, "gc", func(ctx context.Context) error {
			if periodic.RunOf(ctx).Epoch > 0 {
				cancel()
			}
			return nil
		}, periodic.Singleton(lease.NewLedger(session, db.Ledger())))
		g := &drover.Group{Env: env}
		g.Add("session", session)
		g.Add("tasks", tasks)
		go func() { _ = g.Run(ctx) }()
	}
	<-ctx.Done()
	fmt.Println(context.Cause(ctx))
	// Output: context canceled
}

func ExampleUntil() {
	n := 0
	v, err := periodic.Until(context.Background(), drover.Env{}, periodic.Grid(time.Millisecond), func(context.Context) (string, bool, error) {
		n++
		return "ready", n == 3, nil
	})
	fmt.Println(v, err, n)
	// Output: ready <nil> 3
}

func ExampleSet_RunOnce() {
	env, clock := testkit.Inline()
	tasks := &periodic.Set{Env: env}
	_ = tasks.Every(time.Minute, "audit", func(context.Context) error { fmt.Println("audit"); return nil }, periodic.Spread(0))
	ctx := context.Background()
	_ = tasks.RunOnce(ctx, "audit") // by hand
	_, _ = tasks.Step(ctx)          // the timetable starts
	clock.Add(time.Minute)
	_, _ = tasks.Step(ctx) // by the timetable
	// Output:
	// audit
	// audit
}
