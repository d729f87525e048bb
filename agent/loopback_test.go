package agent_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/testkit/transporttest"
)

// real is an agent on a loopback port.
type real struct {
	cfg  agent.ServerConfig
	addr string

	mu   sync.Mutex
	s    *agent.Server
	kill func()
}

func (h *real) URL() string { return "http://" + h.addr }

func (h *real) Drain(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.s.Drain(ctx)
}

func (h *real) Restart(t testing.TB) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kill()
	h.start(t)
}

func (h *real) start(t testing.TB) {
	s, err := agent.NewServer(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	transporttest.ServeAgent(s)
	l, err := net.Listen("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	h.addr, h.s = l.Addr().String(), s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	front := &http.Server{Handler: s}
	go func() { _ = front.Serve(l) }()
	h.kill = sync.OnceFunc(func() {
		cancel() // results are not delivered any more
		front.Close()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestLoopback(t *testing.T) {
	t.Run("agent-28 real HTTP", func(t *testing.T) {
		t.Parallel()
		transporttest.Agent(t, func(t testing.TB, nodes ...string) transporttest.AgentHost {
			h := &real{addr: "127.0.0.1:0", cfg: agent.ServerConfig{
				Env: drover.Env{Logger: quiet}, Nodes: nodes, StateFile: filepath.Join(t.TempDir(), "tokens"), AdoptStore: true,
			}}
			h.start(t)
			t.Cleanup(func() { h.kill() })
			return h
		})
	})
}
