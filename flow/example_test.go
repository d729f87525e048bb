package flow_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/drover-cloud/drover/flow"
)

type network struct{ Bridge, Subnet string }

// A network is made in steps; the last one fails, so what was made is taken away again.
func ExampleFlow_Run() {
	create := flow.New[network]("create-network").
		Then("bridge", func(_ context.Context, n *network) error {
			n.Bridge = "br0"
			fmt.Println("make", n.Bridge)
			return nil
		}, func(_ context.Context, n *network) error {
			if n.Bridge != "" { // the step may have done nothing
				fmt.Println("remove", n.Bridge)
			}
			return nil
		}).
		Then("subnet", func(context.Context, *network) error { return errors.New("no addresses left") }, nil)

	fmt.Println(create.Run(context.Background(), &network{}))
	// Output:
	// make br0
	// remove br0
	// flow create-network: step subnet: no addresses left
}

// Clean-ups within a step are plain defers: in reverse order, on a panic too; the ones for errors look at the result.
func ExampleFlow_Then() { // flow-47
	f := flow.New[network]("f").Then("image", func(context.Context, *network) (err error) {
		tmp, err := os.MkdirTemp("", "image")
		if err != nil {
			return err
		}
		defer fmt.Println("always: temporary directory removed")
		defer func() { _ = os.RemoveAll(tmp) }()
		defer func() {
			if err != nil {
				fmt.Println("only on error: upload aborted")
			}
		}()
		return errors.New("disk full")
	}, nil)
	fmt.Println(f.Run(context.Background(), &network{}))
	// Output:
	// only on error: upload aborted
	// always: temporary directory removed
	// flow f: step image: disk full
}
