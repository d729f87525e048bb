package conductor_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	hub "github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
)

// A host without a store runs a job that was submitted where the store is.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	env := func(node string) drover.Env { return drover.Env{Node: node, Logger: slog.New(slog.DiscardHandler)} }
	var network hub.Hub
	open := func(node string) *bus.Bus {
		b := bus.New(network.Open(node), bus.Config{Env: env(node)})
		go b.Run(ctx)
		return b
	}

	// The node with the store.
	db := &memory.Store{}
	srv, err := conductor.NewServer(conductor.ServerConfig{Env: env("controller"), Bus: open("controller"), Tx: db})
	if err != nil {
		panic(err)
	}
	go srv.Run(ctx)
	ctl, _ := job.New(job.Config{Env: env("controller"), DB: db, Queues: map[string]int{}})
	job.Declare[string, string](ctl, "hello")

	// The host: its queue has its name.
	c, err := conductor.New(conductor.Config{Env: env("h1"), Bus: open("h1")})
	if err != nil {
		panic(err)
	}
	go c.Run(ctx)
	if err := c.Ready(ctx); err != nil {
		panic(err)
	}
	jobs, _ := job.New(job.Config{Env: env("h1"), DB: c, Queues: map[string]int{"h1": 4}})
	job.Handle(jobs, "hello", func(_ context.Context, who string) (string, error) { return "hello " + who + " from h1", nil })
	go jobs.Run(ctx)

	j, err := ctl.Submit(ctx, job.Request{Kind: "hello", Args: "world", Queue: "h1"})
	if err != nil {
		panic(err)
	}
	if j, err = ctl.Wait(ctx, j.ID); err != nil {
		panic(err)
	}
	text, err := job.Result[string](j)
	fmt.Println(j.State, text, err)
	// Output: succeeded hello world from h1 <nil>
}
