// Command flow-cascade deletes a zone and all that depends on it: leaves first, each once, and what failed is said.
//
//	go run ./examples/flow-cascade
package main

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/drover-cloud/drover/flow"
)

// below is what depends on what: vm-2 has its disk on the storage and runs on the host.
var below = map[string][]string{
	"zone":    {"cluster", "storage"},
	"cluster": {"host-a", "host-b"},
	"host-a":  {"vm-1", "vm-2"},
	"storage": {"vm-2", "volume-7"},
}

// Deleted is the state: what is gone.
type Deleted struct{ Things []string }

// deleteAll is a flow with a step for each thing. A deletion is not undone; run it again after what stood in the way is gone.
func deleteAll(root string) (*flow.Flow[Deleted], error) {
	order, err := flow.LeavesFirst([]string{root}, func(s string) ([]string, error) { return below[s], nil })
	if err != nil {
		return nil, err
	}
	f := flow.New[Deleted]("delete-" + root).NoUndo()
	for _, thing := range order {
		f.Then(thing, func(_ context.Context, d *Deleted) error {
			d.Things = append(d.Things, thing)
			return nil
		}, nil)
	}
	return f, nil
}

func main() {
	f, err := deleteAll("zone")
	if err != nil {
		log.Fatal(err)
	}
	var d Deleted
	if err := f.Run(context.Background(), &d); err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Join(d.Things, ", "))

	below["vm-1"] = []string{"zone"} // a cycle is found before anything is deleted
	_, err = deleteAll("zone")
	fmt.Println(err)
}
