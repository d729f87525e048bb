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

// A parent frees its worker while its children run, and starts from the top when they are final.
func ExamplePark() {
	ctx, stop := context.WithCancel(context.Background())
	jobs, err := job.New(job.Config{DB: &memory.Store{}, Queues: map[string]int{"default": 1}, Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		panic(err)
	}
	job.Handle(jobs, "vm.start", func(_ context.Context, a StartVM) (Started, error) { return Started{Host: "h" + a.ID}, nil })
	job.Handle(jobs, "group.start", func(ctx context.Context, ids []string) (hosts []string, err error) {
		for _, id := range ids { // a named child is made once, however often its parent runs
			if _, err := jobs.Submit(ctx, job.Request{Args: StartVM{id}, Name: id}); err != nil {
				return nil, err
			}
		}
		started, err := job.Joined(ctx)
		if len(started) == 0 {
			return nil, job.Park(job.OnChildren())
		}
		for _, j := range started {
			r, _ := job.Result[Started](j)
			hosts = append(hosts, r.Host)
		}
		return hosts, err
	})
	ended := make(chan error)
	go func() { ended <- jobs.Run(ctx) }()

	j, err := jobs.Submit(ctx, job.Request{Kind: "group.start", Args: []string{"1", "2"}})
	if err != nil {
		panic(err)
	}
	if j, err = jobs.Wait(ctx, j.ID); err != nil {
		panic(err)
	}
	hosts, err := job.Result[[]string](j)
	fmt.Println(hosts, j.Runs, err)
	stop()
	<-ended
	// Output: [h1 h2] 2 <nil>
}
