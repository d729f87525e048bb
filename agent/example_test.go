package agent_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/drover-cloud/drover/agent"
)

func Example() {
	type start struct{ VM string }
	type started struct{ Host string }
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	node := httptest.NewUnstartedServer(nil) // the control plane
	c, err := agent.New(agent.Config{Callback: "http://" + node.Listener.Addr().String()})
	if err != nil {
		log.Fatal(err)
	}
	node.Config.Handler = c.Handler()
	node.Start()
	defer node.Close()
	go func() { _ = c.Run(ctx) }()

	s, err := agent.NewServer(agent.ServerConfig{Nodes: []string{node.URL}}) // the host
	if err != nil {
		log.Fatal(err)
	}
	agent.Handle(s, "/vm/start", func(_ context.Context, r start) (started, error) { return started{"host of " + r.VM}, nil })
	host := httptest.NewServer(s)
	defer host.Close()
	go func() { _ = s.Run(ctx) }()

	if err := c.Ready(ctx, host.URL); err != nil {
		log.Fatal(err)
	}
	r, err := agent.Call[started](ctx, c, host.URL+"/vm/start", start{"42"})
	fmt.Println(r.Host, err)
	// Output: host of 42 <nil>
}
