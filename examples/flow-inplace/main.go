// Command flow-inplace makes a network in steps, in place and in memory. When a step fails, what was made is taken away again, in
// reverse order.
//
//	go run ./examples/flow-inplace
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/flow"
)

// Network is the state that the steps share.
type Network struct {
	Name           string
	Bridge, Subnet string
}

func createNetwork() *flow.Flow[Network] {
	return flow.New[Network]("create-network").
		Then("bridge", func(_ context.Context, n *Network) error {
			n.Bridge = "br-" + n.Name
			fmt.Println("  make", n.Bridge)
			return nil
		}, func(_ context.Context, n *Network) error {
			if n.Bridge != "" { // the step may have done nothing
				fmt.Println("  remove", n.Bridge)
			}
			return nil
		}).
		Then("subnet", func(_ context.Context, n *Network) error {
			if n.Name == "full" {
				return errors.New("no addresses left")
			}
			n.Subnet = "10.1.1.0/24"
			fmt.Println("  reserve", n.Subnet)
			return nil
		}, func(_ context.Context, n *Network) error {
			if n.Subnet != "" {
				fmt.Println("  free", n.Subnet)
			}
			return nil
		}).
		Then("gateway", func(_ context.Context, n *Network) error {
			if n.Name == "dark" {
				return errors.New("no host has an uplink")
			}
			fmt.Println("  start the gateway of", n.Subnet)
			return nil
		}, nil)
}

func main() {
	create := createNetwork()
	for _, name := range []string{"blue", "full", "dark"} {
		n := &Network{Name: name}
		fmt.Println("network", name)
		if err := create.Run(context.Background(), n); err != nil {
			fmt.Println(" ", err)
			continue
		}
		fmt.Println("  ready:", n.Bridge, n.Subnet)
	}
}
