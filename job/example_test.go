package job_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

type StartVM struct{ ID string }
type Started struct{ Host string }

// A node that works jobs on the memory store, and a client that waits for one.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	jobs, err := job.New(job.Config{DB: &memory.Store{}, Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		panic(err)
	}
	job.Handle(jobs, "vm.start", func(ctx context.Context, a StartVM) (Started, error) {
		host, err := job.Step(ctx, "place", func(context.Context) (string, error) { return "h1", nil })
		return Started{Host: host}, err
	})
	ended := make(chan error)
	go func() { ended <- jobs.Run(ctx) }()

	j, err := jobs.Submit(ctx, job.Request{Args: StartVM{ID: "42"}, Sync: syncqueue.Key{Kind: "vm", ID: "42"}})
	if err != nil {
		panic(err)
	}
	if j, err = jobs.Wait(ctx, j.ID); err != nil {
		panic(err)
	}
	r, err := job.Result[Started](j)
	fmt.Println(j.State, r.Host, err)
	stop()
	fmt.Println(<-ended)
	// Output:
	// succeeded h1 <nil>
	// <nil>
}

// The same idempotency key gives the same job, also after it has ended.
func ExampleManager_Submit() {
	jobs, err := job.New(job.Config{DB: &memory.Store{}})
	if err != nil {
		panic(err)
	}
	job.Declare[StartVM, Started](jobs, "vm.start")
	r := job.Request{Args: StartVM{ID: "42"}, Idem: "request-1"}
	first, err := jobs.Submit(context.Background(), r)
	if err != nil {
		panic(err)
	}
	again, err := jobs.Submit(context.Background(), r)
	fmt.Println(again.ID == first.ID, again.Replayed, err)
	r.Args = StartVM{ID: "43"}
	_, err = jobs.Submit(context.Background(), r)
	fmt.Println(err != nil)
	// Output:
	// true true <nil>
	// true
}
