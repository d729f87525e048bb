package flow_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
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

type vm struct{ Disk, Nic string }

// createVM is a flow whose second step waits, without a worker, until somebody says that the NIC is plugged.
func createVM(node string, asked func()) *flow.Flow[vm] {
	say := func(what string) func(context.Context, *vm) error {
		return func(context.Context, *vm) error { fmt.Println(node, what); return nil }
	}
	return flow.New[vm]("create-vm").
		Then("disk", func(_ context.Context, v *vm) error {
			v.Disk = "disk-1"
			fmt.Println(node, "makes", v.Disk)
			return nil
		}, say("removes the disk")).
		Then("nic", func(ctx context.Context, v *vm) error {
			if j, _ := job.FromContext(ctx); len(j.Wakes) == 0 {
				fmt.Println(node, "asks for a NIC")
				asked()
				return job.Park(job.OnTopic("nic"))
			}
			v.Nic = "nic-1"
			fmt.Println(node, "has", v.Nic)
			return nil
		}, say("removes the NIC")).
		Then("start", say("starts the VM"), say("stops the VM"))
}

// In a job a flow is durable. The first node leaves in the middle of it; the second goes on where that was.
func ExampleRegister() {
	ctx, db := context.Background(), &memory.Store{}
	asked := make(chan struct{})
	node := func(name string) (m *job.Manager, leave func()) {
		m, err := job.New(job.Config{DB: db, Env: drover.Env{Node: name, Logger: slog.New(slog.DiscardHandler)}})
		if err != nil {
			panic(err)
		}
		flow.Register(m, createVM(name, func() { close(asked) }))
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()
		return m, func() { cancel(); <-ended }
	}
	n1, leave := node("n1")
	j, err := n1.Submit(ctx, job.Request{Kind: "flow:create-vm", Args: vm{}})
	if err != nil {
		panic(err)
	}
	<-asked
	leave()

	n2, leave := node("n2")
	defer leave()
	if err := n2.Wake(ctx, "nic"); err != nil {
		panic(err)
	}
	if j, err = n2.Wait(ctx, j.ID); err != nil {
		panic(err)
	}
	v, err := job.Result[vm](j)
	fmt.Println(j.State, v.Disk, v.Nic, err)
	for s, err := range flow.Journal(ctx, n2, j.ID) {
		fmt.Println(s.Path, s.State, err)
	}
	// Output:
	// n1 makes disk-1
	// n1 asks for a NIC
	// n2 has nic-1
	// n2 starts the VM
	// succeeded disk-1 nic-1 <nil>
	// create-vm/disk done <nil>
	// create-vm/nic done <nil>
	// create-vm/start done <nil>
}

// A cascade delete: what depends on a thing goes before it.
func ExampleLeavesFirst() {
	below := map[string][]string{"zone": {"cluster", "storage"}, "cluster": {"host"}, "host": {"vm"}, "storage": {"vm"}}
	order, err := flow.LeavesFirst([]string{"zone"}, func(s string) ([]string, error) { return below[s], nil })
	if err != nil {
		panic(err)
	}
	remove := flow.New[struct{}]("delete-zone").NoUndo()
	for _, thing := range order {
		remove.Then(thing, func(context.Context, *struct{}) error { fmt.Println("delete", thing); return nil }, nil)
	}
	fmt.Println(remove.Run(context.Background(), &struct{}{}))
	// Output:
	// delete vm
	// delete host
	// delete cluster
	// delete storage
	// delete zone
	// <nil>
}
