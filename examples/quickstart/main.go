// Command quickstart runs jobs on two virtual machines, with nothing but this process: jobs on one machine take turns.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

// Power is what the job is handed; it is stored as JSON.
type Power struct{ VM, State string }

// Powered is what it gives.
type Powered struct{ Host string }

func main() {
	slog.SetLogLoggerLevel(slog.LevelWarn)

	db := &memory.Store{} // or SQLite, or PostgreSQL: the rest stays
	jobs, err := job.New(job.Config{DB: db})
	if err != nil {
		log.Fatal(err)
	}
	job.Handle(jobs, "vm.power", func(_ context.Context, p Power) (Powered, error) {
		fmt.Printf("vm %s: %s\n", p.VM, p.State)
		return Powered{Host: "h" + p.VM}, nil
	})

	var s drover.Service
	s.Components.Add("jobs", jobs)
	s.Components.Add("client", drover.Func(func(ctx context.Context) error { return client(ctx, jobs) }))
	ctx, stop := drover.Signals(context.Background(), &s)
	defer stop()
	if err := s.Run(ctx); err != nil { // until client returns
		log.Fatal(err)
	}
}

// client submits a stop and a start for each machine, and waits for the results.
func client(ctx context.Context, jobs *job.Manager) error {
	var ids []string
	for _, state := range []string{"stop", "start"} {
		for _, vm := range []string{"1", "2"} {
			j, err := jobs.Submit(ctx, job.Request{
				Kind: "vm.power",
				Args: Power{VM: vm, State: state},
				Sync: syncqueue.Key{Kind: "vm", ID: vm}, // one at a time per machine, in order
			})
			if err != nil {
				return err
			}
			ids = append(ids, j.ID)
		}
	}
	for _, id := range ids {
		j, err := jobs.Wait(ctx, id) // on whichever node it runs
		if err != nil {
			return err
		}
		r, err := job.Result[Powered](j)
		if err != nil {
			return err
		}
		fmt.Println(j.State, "on", r.Host)
	}
	return nil
}
