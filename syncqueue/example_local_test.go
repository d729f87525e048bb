package syncqueue_test

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/syncqueue"
)

// Work on one VM takes turns, in order of the calls; another VM's does not wait for it.
func ExampleLocal() {
	var turns syncqueue.Local
	ctx := context.Background()
	vm := syncqueue.Key{Kind: "vm", ID: "42"}
	var last *syncqueue.Handle
	for _, verb := range []string{"stop", "snapshot", "start"} {
		last = turns.Go(ctx, vm, func(context.Context) error {
			fmt.Println(verb)
			return nil
		})
	}
	_ = turns.Do(ctx, vm, func(context.Context) error { // waits for the three
		fmt.Println("check")
		return nil
	})
	fmt.Println(last.Wait(ctx))
	// Output:
	// stop
	// snapshot
	// start
	// check
	// <nil>
}

// A login that many want at once happens once.
func ExampleSingle() {
	var turns syncqueue.Local
	token, err := syncqueue.Single(context.Background(), &turns, syncqueue.Key{Kind: "login", ID: "host-1"},
		func(context.Context) (string, error) { return "token", nil })
	fmt.Println(token, err)
	// Output: token <nil>
}

// However often a refresh is asked for, at most one runs and one waits, and that one begins after the last request.
func ExampleCoalesce() {
	var turns syncqueue.Local
	ctx := context.Background()
	cache := syncqueue.Key{Kind: "cache"}
	started, gate := make(chan struct{}, 10), make(chan struct{})
	refresh := func(context.Context) error {
		started <- struct{}{}
		<-gate
		return nil
	}
	turns.Go(ctx, cache, refresh, syncqueue.Coalesce("refresh"))
	<-started
	for range 100 {
		turns.Go(ctx, cache, refresh, syncqueue.Coalesce("refresh"), syncqueue.Deadline(time.Minute, 0))
	}
	fmt.Println(len(turns.Tasks(cache)), "tasks")
	close(gate)
	_ = turns.Drain(ctx)
	fmt.Println(len(started), "more run")
	// Output:
	// 2 tasks
	// 1 more run
}
