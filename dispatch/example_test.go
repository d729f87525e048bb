package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
)

type StopVM struct {
	ID     string `param:"id,required"`
	Forced bool   `param:"forced" doc:"cut the power"`
}

// A command that is answered at once, and one that becomes a job.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var db memory.Store
	jobs, err := job.New(job.Config{DB: &db})
	if err != nil {
		fmt.Println(err)
		return
	}
	var r dispatch.Registry
	dispatch.Sync(&r, "describeVM", func(_ context.Context, c StopVM) (string, error) { return "VM " + c.ID, nil })
	dispatch.Async(&r, jobs, "stopVM", nil, func(ctx context.Context, c StopVM) (string, error) {
		return fmt.Sprintf("%s stopped for %s, forced: %v", c.ID, dispatch.Caller(ctx).(map[string]string)["user"], c.Forced), nil
	})
	stopped := make(chan error)
	go func() { stopped <- jobs.Run(ctx) }()

	ann := map[string]string{"user": "ann"}
	fmt.Println(r.Dispatch(ctx, &dispatch.Command{Name: "describeVM", Params: map[string]string{"ID": "7"}, Caller: ann}))
	answer, err := r.Dispatch(ctx, &dispatch.Command{Name: "stopVM", Params: map[string]string{"id": "7", "forced": "yes"}, Caller: ann})
	if err != nil {
		fmt.Println(err)
		return
	}
	j, err := jobs.Wait(ctx, answer.(dispatch.Accepted).JobID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(job.Result[string](j))
	cancel()
	<-stopped
	// Output:
	// VM 7 <nil>
	// 7 stopped for ann, forced: true <nil>
}

// A stage of the host's own is middleware with a place in the chain.
func ExampleStages_Before() {
	curfew := func(next dispatch.Handler) dispatch.Handler {
		return dispatch.HandlerFunc(func(ctx context.Context, c *dispatch.Command) (any, error) {
			if stop, is := c.Value.(*StopVM); is && stop.Forced && !dispatch.Executing(ctx) {
				return nil, dispatch.Errorf(dispatch.Forbidden, "%s may not be forced at night", c.Name)
			}
			return next.Dispatch(ctx, c)
		})
	}
	r := dispatch.Registry{
		Env:    drover.Env{Logger: slog.New(slog.DiscardHandler)},
		Stages: dispatch.Standard().Before("validate", "curfew", curfew),
	}
	dispatch.Sync(&r, "stopVM", func(context.Context, StopVM) (string, error) { return "stopped", nil })
	_, err := r.Dispatch(context.Background(), &dispatch.Command{Name: "stopVM", Params: map[string]string{"id": "7", "forced": "true"}})
	fmt.Println(dispatch.CodeOf(err), err, dispatch.CodeOf(err).Info().Status)
	// Output: forbidden stopVM may not be forced at night 403
}

// What is made in another system is taken back if no job comes of it.
func ExampleOutside() {
	var db memory.Store
	jobs, err := job.New(job.Config{DB: &db})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := dispatch.Registry{Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}}
	dispatch.Async(&r, jobs, "stopVM", nil, func(context.Context, StopVM) (int, error) { return 0, nil },
		dispatch.Outside(func(_ context.Context, c *StopVM) (string, error) {
			fmt.Println("ticket for", c.ID)
			return "ticket-1", nil
		}, func(context.Context, *StopVM) error {
			fmt.Println("ticket withdrawn")
			return nil
		}))
	large := make(map[string]string) // an identity of more than 8 KiB is refused
	for i := range 64 {
		large[fmt.Sprint("group", i)] = fmt.Sprintf("%200d", i)
	}
	_, err = r.Dispatch(context.Background(), &dispatch.Command{Name: "stopVM", Params: map[string]string{"id": "7"}, Caller: large})
	fmt.Println(dispatch.CodeOf(err), errors.Is(err, job.ErrInvalid))
	// Output:
	// ticket for 7
	// ticket withdrawn
	// invalid true
}

func ExampleRegistry_OpenAPI() {
	var r dispatch.Registry
	dispatch.Sync(&r, "stopVM", func(context.Context, StopVM) (string, error) { return "stopped", nil }, dispatch.Doc("Stops a machine"))
	doc, err := r.OpenAPI(dispatch.Info{Title: "machines", Version: "1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	var api struct {
		OpenAPI string
		Paths   map[string]struct{ Post struct{ Summary string } }
	}
	err = json.Unmarshal(doc, &api)
	fmt.Println(api.OpenAPI, api.Paths["/v1/commands/stopVM"].Post.Summary, err)
	// Output: 3.1.0 Stops a machine <nil>
}
