// Command quickstart submits a job and runs it, with nothing but this process.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store/memory"
)

type StartVM struct{ ID string }
type Started struct{ Host string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var db memory.Store // or: db := postgres.New(bunDB, postgres.Config{})
	node, err := lease.New(lease.Config{Tx: &db, Store: db.Leases()})
	if err != nil {
		log.Fatal(err)
	}
	jobs, err := job.New(job.Config{Tx: &db, Store: db.Jobs(), Session: node, Notify: db.Notifier()})
	if err != nil {
		log.Fatal(err)
	}
	job.Handle(jobs, "vm.start", func(ctx context.Context, a StartVM) (Started, error) {
		return Started{Host: "h1"}, nil
	})

	var g drover.Group
	g.Add("node", node)
	g.Add("jobs", jobs)
	g.Add("client", drover.Func(func(ctx context.Context) error {
		j, err := jobs.Submit(ctx, job.Request{Kind: "vm.start", Args: StartVM{ID: "42"}})
		if err != nil {
			return err
		}
		j, err = jobs.Wait(ctx, j.ID)
		if err != nil {
			return err
		}
		r, err := job.Result[Started](j)
		fmt.Println(j.State, r.Host, err)
		return err
	}))
	if err := g.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
