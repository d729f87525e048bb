package drover_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/testkit"
)

// Components start in order of Add and stop in reverse; the first that returns stops the others.
func ExampleGroup() {
	var g drover.Group
	serve := func(name string) drover.Func {
		return func(ctx context.Context) error {
			<-ctx.Done()
			fmt.Println(name, "stops")
			return nil
		}
	}
	g.Add("database", serve("database"))
	g.Add("server", serve("server"))
	g.Add("main", drover.Func(func(context.Context) error { return errors.New("out of work") }))
	fmt.Println(g.Run(context.Background()))
	// Output:
	// server stops
	// database stops
	// drover: main: out of work
}

// A component that fails is run again; one that says so is not.
func ExampleRestart() {
	tries := 0
	var g drover.Group
	g.Env.Logger = quiet().Logger
	g.Add("poller", drover.Func(func(context.Context) error {
		if tries++; tries == 3 {
			return drover.Permanent(errors.New("no such host"))
		}
		return errors.New("timeout")
	}), drover.Restart(drover.Backoff(drover.Policy{Initial: time.Millisecond})))
	fmt.Println(g.Run(context.Background()))
	fmt.Println(tries, "tries")
	// Output:
	// drover: poller: no such host
	// 3 tries
}

// countdown is a Stepper: it does what is due and says when the next is.
type countdown struct{ n int }

func (c *countdown) Step(context.Context) (next time.Time, err error) {
	if c.n == 0 {
		return time.Time{}, drover.Permanent(errors.New("lift-off"))
	}
	fmt.Println(c.n)
	c.n--
	return time.Now().Add(time.Millisecond), nil
}

func ExampleLoop() {
	fmt.Println(drover.Loop(context.Background(), drover.Env{}, nil, &countdown{3}))
	// Output:
	// 3
	// 2
	// 1
	// lift-off
}

// A Service starts in order and stops in reverse; here a component of its own asks for the stop.
func ExampleService() {
	say := func(what string) func(context.Context) error {
		return func(context.Context) error { fmt.Println(what); return nil }
	}
	s := drover.Service{
		Env: quiet(), Topic: "compute", DrainTimeout: time.Minute,
		Checks:    []drover.Check{{Name: "temp dir", Do: say("check temp dir")}},
		PreStart:  drover.Sequence(drover.NamedHook{Name: "audit", Do: say("audit")}, drover.NamedHook{Name: "recover", Do: say("recover")}),
		PostStart: say("serving"),
		Drain:     say("draining"),
		Stop:      say("stopped"),
	}
	s.Components.Add("server", drover.Func(func(ctx context.Context) error {
		<-ctx.Done()
		fmt.Println("server stops")
		return nil
	}))
	s.Components.Add("operator", drover.Func(func(ctx context.Context) error {
		_ = s.Shutdown(ctx) // returns at once, as this is part of what it stops
		<-ctx.Done()
		return nil
	}), drover.AfterReady())
	fmt.Println(s.Run(context.Background()))
	// Output:
	// check temp dir
	// audit
	// recover
	// serving
	// draining
	// server stops
	// stopped
	// <nil>
}

// A host that owns its signals tells the Service itself.
func ExampleService_Shutdown() {
	var s drover.Service
	s.Env = quiet()
	signals := make(chan os.Signal, 1) // of signal.Notify
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-signals
		fmt.Println("Shutdown:", s.Shutdown(context.Background()))
	}()
	s.PostStart = func(context.Context) error { signals <- os.Interrupt; return nil }
	fmt.Println("Run:", s.Run(context.Background()))
	<-done
	// Unordered output:
	// Run: <nil>
	// Shutdown: <nil>
}

// What a service cannot start without is waited for in Init.
func ExampleWaitFor() {
	tries := 0
	ping := func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("connection refused")
		}
		return nil
	}
	clock := testkit.Clock{}
	e := quiet()
	e.Clock = skip{&clock}
	fmt.Println(drover.WaitFor(context.Background(), e, "database", ping), tries)
	// Output: <nil> 3
}

// skip does not wait.
type skip struct{ *testkit.Clock }

func (s skip) After(time.Duration) <-chan time.Time { return s.Clock.After(0) }
