package nats_test

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/nats"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/testkit/transporttest"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

var prefixes atomic.Int64

// net is a prefix of its own on a server. Each node reaches it through a proxy of its own.
type net struct {
	server  *fixture.Server
	prefix  string
	mu      sync.Mutex
	proxies map[string]*fixture.Proxy
}

func (n *net) Open(t testing.TB, node string) bus.Transport {
	t.Helper()
	p := fixture.NewProxy(t, n.server.Addr)
	n.mu.Lock()
	n.proxies[node] = p
	n.mu.Unlock()
	x, err := nats.New(nats.Config{Env: drover.Env{Node: node}, URL: "nats://" + p.Addr(), Prefix: n.prefix})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// BlackHole swallows a node's traffic.
func (n *net) BlackHole(node string) (heal func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.proxies[node]
	p.BlackHole()
	return p.Heal
}

// Cut breaks a node's connections.
func (n *net) Cut(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proxies[node].Reset()
}

// own is a network on a server of its own.
type own struct{ net }

func (n *own) Kill(t testing.TB)    { t.Helper(); n.server.Kill(t) }
func (n *own) Restart(t testing.TB) { t.Helper(); n.server.Restart(t) }

func open(s *fixture.Server) *net {
	return &net{server: s, prefix: fmt.Sprintf("p%d-%d", os.Getpid(), prefixes.Add(1)), proxies: map[string]*fixture.Proxy{}}
}

func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Net { return open(fixture.NATS(t)) })
}

func TestBroker(t *testing.T) {
	s := fixture.FreshNATS(t) // each check leaves it running
	transporttest.RunBroker(t, func(testing.TB) transporttest.Net { return newOwn(s) })
}

func newOwn(s *fixture.Server) *own {
	n := &own{}
	n.server, n.prefix, n.proxies = s, fmt.Sprintf("own%d", prefixes.Add(1)), map[string]*fixture.Proxy{}
	return n
}
