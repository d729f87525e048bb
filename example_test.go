package drover_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
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
