package bus_test

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	db "github.com/drover-cloud/drover/store/memory"
)

// jobEvents is a job.Sink: what becomes of a job is told on the bus if and only if it is committed.
type jobEvents struct{ *bus.Bus }

func (b jobEvents) Publish(ctx context.Context, tx store.Tx, e job.Event) error {
	return b.Bus.Publish(ctx, tx, bus.Event{Subject: "job." + e.Type + "." + e.Kind, Order: e.JobID, Data: []byte(e.State)})
}

// Events of jobs go out through the bus.
func ExampleBus_Publish_jobs() {
	var hub memory.Hub
	var rows db.Store
	env := drover.Env{Node: "a"}
	b := bus.New(hub.Open("a"), bus.Config{Env: env, Tx: &rows, Outbox: rows.Outbox(), Notify: rows.Notifier()})
	jobs, err := job.New(job.Config{Env: env, DB: &rows, Events: jobEvents{b}})
	if err != nil {
		panic(err)
	}
	job.Handle(jobs, "greet", func(context.Context, string) (string, error) { return "hello", nil })

	ended := make(chan struct{})
	b.Subscribe("job", func(_ context.Context, e bus.Event) {
		fmt.Println(e.Subject, string(e.Data))
		if e.Subject == "job.complete.greet" {
			close(ended)
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go b.Run(ctx)
	go jobs.Run(ctx)
	if _, err := jobs.Submit(ctx, job.Request{Kind: "greet", Args: "world"}); err != nil {
		panic(err)
	}
	<-ended
	// Output:
	// job.submit.greet ready
	// job.update.greet running
	// job.complete.greet succeeded
}
