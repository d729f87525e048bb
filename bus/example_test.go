package bus_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/store"
	db "github.com/drover-cloud/drover/store/memory"
)

func Example() {
	type start struct{ VM string }
	type started struct{ Host string }
	compute := bus.Topic[start, started]{Name: "compute", Method: "start"}

	var hub memory.Hub
	a := bus.New(hub.Open("a"), bus.Config{Env: drover.Env{Node: "a"}})
	b := bus.New(hub.Open("b"), bus.Config{Env: drover.Env{Node: "b"}})
	compute.Handle(b, func(_ context.Context, r start) (started, error) {
		return started{Host: "b runs " + r.VM}, nil
	})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for _, x := range []*bus.Bus{a, b} {
		go x.Run(ctx)
		_ = x.Ready(ctx)
	}
	got, err := compute.Call(ctx, a, "", start{VM: "vm-1"}) // "" = whoever serves it
	fmt.Println(got.Host, err)

	_, err = compute.Call(ctx, a, "c", start{VM: "vm-1"})
	fmt.Println(bus.NotRun(err), err)
	// Output:
	// b runs vm-1 <nil>
	// true bus: no receiver: compute@c
}

func ExampleBus_Subscribe() {
	var hub memory.Hub
	b := bus.New(hub.Open("a"), bus.Config{Env: drover.Env{Node: "a"}})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go b.Run(ctx)
	got := make(chan bus.Event)
	b.Subscribe("vm.{id}", func(_ context.Context, e bus.Event) { got <- e })
	go func() { _ = b.Publish(ctx, nil, bus.Event{Subject: "vm.42.state", Data: []byte("running")}) }()
	e := <-got
	fmt.Println(e.Params["id"], e.Subject, string(e.Data))
	// Output: 42 vm.42.state running
}

// An event of a transaction is told if and only if that commits.
func ExampleBus_Publish() {
	var hub memory.Hub
	var rows db.Store
	b := bus.New(hub.Open("a"), bus.Config{Env: drover.Env{Node: "a"}, Tx: &rows, Outbox: rows.Outbox(), Notify: rows.Notifier()})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go b.Run(ctx)
	got := make(chan bus.Event)
	b.Subscribe("vm", func(_ context.Context, e bus.Event) { got <- e })
	for _, err := range []error{errors.New("the disk is full"), nil} {
		_ = rows.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			if err := b.Publish(ctx, tx, bus.Event{Subject: "vm.created", Data: []byte(fmt.Sprint(err))}); err != nil {
				return err
			}
			return err
		})
	}
	fmt.Println(string((<-got).Data))
	// Output: <nil>
}
