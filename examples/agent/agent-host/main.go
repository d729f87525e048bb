// Command agent-host is an agent on a host and the node that controls it. The agent has no database and no credentials for one: it
// takes what is sent to it, and calls back to the node that it was told of.
//
//	go run ./examples/agent/agent-host                                                             # both in one process
//	go run ./examples/agent/agent-host host -listen 127.0.0.1:7070 -node http://127.0.0.1:8443     # or in two
//	go run ./examples/agent/agent-host node -listen 127.0.0.1:8443 -host http://127.0.0.1:7070
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

// Start is what the node asks of the host, and Started the answer.
type (
	Start   struct{ VM string }
	Started struct{ VM, State string }
)

// host is the agent's side: machines that only its memory knows.
type host struct {
	mu  sync.Mutex
	vms map[string]string
}

func (h *host) start(ctx context.Context, r Start) (Started, error) {
	select {
	case <-time.After(100 * time.Millisecond): // a hypervisor takes longer
	case <-ctx.Done(): // the node waits no longer
		return Started{}, context.Cause(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.vms[r.VM] = "running"
	return Started{r.VM, h.vms[r.VM]}, nil
}

// serveHTTP is an http.Server as a component.
func serveHTTP(l net.Listener, h http.Handler) drover.Func {
	return func(ctx context.Context) error {
		s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// addHost adds the agent to g: it knows the node, and where it keeps the tokens that it has seen.
func addHost(g *drover.Group, env drover.Env, l net.Listener, node, state string) error {
	s, err := agent.NewServer(agent.ServerConfig{Env: env, Nodes: []string{node}, StateFile: state, AdoptStore: true})
	if err != nil {
		return err
	}
	h := &host{vms: map[string]string{}}
	agent.Handle(s, "/vm/start", h.start)
	g.Add("http of the agent", serveHTTP(l, s))
	g.Add("agent", s)
	g.Add("report", drover.Func(func(ctx context.Context) error { // of its own accord
		for { // until the node is there
			if _, err := s.Send(ctx, node, "/host/up", "host-1"); err == nil {
				break
			}
			if err := env.Defaults().Sleep(ctx, time.Second); err != nil {
				return nil // it was told to stop
			}
		}
		<-ctx.Done()
		return nil
	}))
	return nil
}

// addNode adds the node to g, which has the host start two machines and then returns.
func addNode(g *drover.Group, env drover.Env, l net.Listener, to string) error {
	c, err := agent.New(agent.Config{Env: env, Callback: "http://" + l.Addr().String()})
	if err != nil {
		return err
	}
	up := make(chan string, 1)
	c.HandleCommand("/host/up", func(_ context.Context, body json.RawMessage) (any, error) {
		var name string
		if err := json.Unmarshal(body, &name); err != nil {
			return nil, err
		}
		select {
		case up <- name:
		default:
		}
		return "welcome", nil
	})
	g.Add("http of the node", serveHTTP(l, c.Handler()))
	g.Add("calls", c)
	g.Add("control", drover.Func(func(ctx context.Context) error {
		if err := c.Ready(ctx, to); err != nil {
			return err
		}
		select {
		case name := <-up:
			fmt.Println(name, "is up")
		case <-ctx.Done():
			return nil
		}
		return control(ctx, c, to)
	}))
	return nil
}

func control(ctx context.Context, c *agent.Client, to string) error {
	// The epochs come from a lease or a job's claim; here they are made up.
	for _, epoch := range []int64{7, 8} {
		r, err := agent.Call[Started](ctx, c, to+"/vm/start", Start{VM: "42"}, agent.Token("vm/42", "db.1", epoch))
		if err != nil {
			return err
		}
		fmt.Printf("epoch %d: %s is %s\n", epoch, r.VM, r.State)
	}
	_, err := agent.Call[Started](ctx, c, to+"/vm/start", Start{VM: "42"}, agent.Token("vm/42", "db.1", 7))
	if !errors.Is(err, agent.ErrStale) {
		return fmt.Errorf("a stale token: %w", err)
	}
	fmt.Println("epoch 7 once more:", err)
	return nil
}

func run(ctx context.Context, args []string) error {
	role := ""
	if len(args) > 0 {
		role, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("agent-host", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on")
	node := flags.String("node", "", "base URL of the node (host)")
	to := flags.String("host", "", "base URL of the host (node)")
	state := flags.String("state", filepath.Join(os.TempDir(), "agent-host-tokens"), "file of the tokens seen (host)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	env := drover.Env{Logger: slog.New(slog.DiscardHandler)}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	g := drover.Group{Env: env}
	switch role {
	case "host":
		err = addHost(&g, env, l, *node, *state)
	case "node":
		err = addNode(&g, env, l, *to)
	case "":
		at, err2 := net.Listen("tcp", "127.0.0.1:0")
		dir, err3 := os.MkdirTemp("", "agent-host")
		if err := errors.Join(err2, err3); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		err = errors.Join(addNode(&g, env, l, "http://"+at.Addr().String()), addHost(&g, env, at, "http://"+l.Addr().String(), filepath.Join(dir, "tokens")))
	default:
		err = fmt.Errorf("%q: want host, node or nothing", role)
	}
	if err != nil {
		return err
	}
	return g.Run(ctx) // until control returns
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}
