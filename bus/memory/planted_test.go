package memory_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/testkit/transporttest"
)

// planted are bugs of a transport, and the check that must find each.
var planted = map[string]struct {
	finds string
	send  func(t bus.Transport, hub *memory.Hub, ctx context.Context, m *bus.Message) error
}{
	"lost-return": {"bus-09", func(t bus.Transport, _ *memory.Hub, ctx context.Context, m *bus.Message) error {
		if err := t.Send(ctx, m); !errors.Is(err, bus.ErrNoRoute) {
			return err
		}
		return nil
	}},
	"double-delivery": {"bus-11", func(t bus.Transport, _ *memory.Hub, ctx context.Context, m *bus.Message) error {
		if m.Wire.Kind == bus.KindCall && m.Node == "" { // any one: two get it
			_ = t.Send(ctx, m.Clone())
		}
		return t.Send(ctx, m)
	}},
	"early-ack": {"bus-13", func(t bus.Transport, _ *memory.Hub, ctx context.Context, m *bus.Message) error {
		if m.Fanout { // accepted, and lost
			return nil
		}
		return t.Send(ctx, m)
	}},
}

type buggy struct {
	*memory.Transport
	hub *memory.Hub
	bug string
}

func (b buggy) Send(ctx context.Context, m *bus.Message) error {
	return planted[b.bug].send(b.Transport, b.hub, ctx, m)
}

type buggyNet struct {
	net
	bug string
}

func (n *buggyNet) Open(_ testing.TB, node string) bus.Transport {
	return buggy{n.hub.Open(node), &n.hub, n.bug}
}

const plantedBug = "DROVER_PLANTED_BUG"

// TestPlanted is run by TestSpec, as a process that must fail.
func TestPlanted(t *testing.T) {
	bug := os.Getenv(plantedBug)
	if bug == "" {
		t.Skip("run by TestSpec")
	}
	transporttest.Run(t, func(testing.TB) transporttest.Net { return &buggyNet{bug: bug} })
}

func TestSpec(t *testing.T) {
	t.Run("bus-92 planted bugs are found", func(t *testing.T) {
		for bug, p := range planted {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestPlanted$/^(calls|errors)$/^"+p.finds, "-test.timeout", "60s")
			cmd.Env = append(os.Environ(), plantedBug+"="+bug)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "/"+p.finds) || !strings.Contains(string(out), "--- FAIL") {
				t.Errorf("%s is not found by %s: %v\n%s", bug, p.finds, err, out)
			}
		}
	})
}
