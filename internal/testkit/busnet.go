package testkit

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/drover-cloud/drover/bus"
)

// BusNet is a network of nodes over a broker, apart from other BusNets by its prefix. Each node reaches the broker through a proxy of
// its own. Its methods are for any goroutine.
type BusNet struct {
	Server *Server
	Prefix string // of all names

	dial    func(node, addr, prefix string) (bus.Transport, error)
	mu      sync.Mutex
	proxies map[string]*Proxy
}

var busNets atomic.Int64

// NewBusNet is a network on s; dial makes the transport of a node that reaches the broker at addr.
func NewBusNet(s *Server, dial func(node, addr, prefix string) (bus.Transport, error)) *BusNet {
	return &BusNet{Server: s, Prefix: fmt.Sprintf("p%d-%d", os.Getpid(), busNets.Add(1)), dial: dial, proxies: map[string]*Proxy{}}
}

// Open is a node's end.
func (n *BusNet) Open(t testing.TB, node string) bus.Transport {
	t.Helper()
	p := n.Server.Proxied(t)
	n.mu.Lock()
	n.proxies[node] = p
	n.mu.Unlock()
	x, err := n.dial(node, p.Addr(), n.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (n *BusNet) proxy(node string) *Proxy {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proxies[node]
}

// BlackHole swallows a node's traffic until heal.
func (n *BusNet) BlackHole(node string) (heal func()) {
	p := n.proxy(node)
	p.BlackHole()
	return p.Heal
}

// Cut breaks a node's connections.
func (n *BusNet) Cut(node string) { n.proxy(node).Reset() }

// OwnBusNet is a BusNet on a broker that is the test's own.
type OwnBusNet struct{ *BusNet }

// Kill ends the broker by SIGKILL, Restart starts it again.
func (n OwnBusNet) Kill(t testing.TB)    { t.Helper(); n.Server.Kill(t) }
func (n OwnBusNet) Restart(t testing.TB) { t.Helper(); n.Server.Restart(t) } //nolint:revive // see Kill
