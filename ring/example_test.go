package ring_test

import (
	"fmt"

	"github.com/drover-cloud/drover/ring"
)

func Example() {
	r := ring.New([]string{"node-1", "node-2", "node-3", "node-4", "node-5"})
	owner, _ := r.Owner("vm-1")
	fmt.Println(owner, r.Owners("vm-1", 3))

	after := ring.New([]string{"node-1", "node-2", "node-3", "node-4"})
	fmt.Println(r.Moved(after, "vm-1", "vm-2", "vm-4"))
	// Output:
	// node-5 [node-5 node-1 node-3]
	// map[vm-1:node-1]
}
