package servicegroup_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/memory"
)

// Two nodes in one process: each joins, sees the other, and is seen to leave.
func Example() {
	driver := memory.New() // or db.Members() of a store, zk.New, memcached.New
	var nodes sync.WaitGroup
	join := func(ctx context.Context, id string) *servicegroup.Group {
		g, err := servicegroup.New(servicegroup.Config{Env: drover.Env{Node: id}, Driver: driver, Interval: 100 * time.Millisecond})
		if err != nil {
			panic(err)
		}
		nodes.Go(func() { _ = g.Run(ctx) })
		return g
	}
	ctx, stop := context.WithCancel(context.Background())
	other, leave := context.WithCancel(ctx)
	defer leave()
	a := join(ctx, "a")
	told := make(chan servicegroup.Event, 100)
	a.Watch(func(old, new servicegroup.View) {
		for _, e := range servicegroup.Diff(old, new) {
			told <- e
		}
	})
	join(other, "b")
	for e := range told {
		if e.Member.ID == "b" && e.Kind == servicegroup.EventJoined {
			fmt.Println("b is up:", a.IsUp("b"))
			leave()
		}
		if e.Kind == servicegroup.EventLeft {
			fmt.Println(e.Member.ID, "has left")
			break
		}
	}
	stop()
	nodes.Wait()
	// Output:
	// b is up: true
	// b has left
}
