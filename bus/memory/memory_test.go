package memory_test

import (
	"testing"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/testkit/transporttest"
)

// net is a Hub as a network.
type net struct{ hub memory.Hub }

func (n *net) Open(_ testing.TB, node string) bus.Transport { return n.hub.Open(node) }
func (*net) Virtual()                                       {}

func TestTransport(t *testing.T) {
	transporttest.Run(t, func(testing.TB) transporttest.Net { return &net{} })
}
