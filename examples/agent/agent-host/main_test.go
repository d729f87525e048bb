package main

import (
	"context"
	"fmt"
)

func Example() {
	if err := run(context.Background(), nil); err != nil {
		fmt.Println(err)
	}
	// Output:
	// host-1 is up
	// epoch 7: 42 is running
	// epoch 8: 42 is running
	// epoch 7 once more: agent: the fencing token is stale
}
