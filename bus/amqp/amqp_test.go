package amqp_test

import (
	"os"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/amqp"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/testkit/transporttest"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

func url(addr string) string { return "amqp://guest:guest@" + addr + "/" }

func open(s *fixture.Server) *fixture.BusNet {
	return fixture.NewBusNet(s, func(node, addr, prefix string) (bus.Transport, error) {
		return amqp.New(amqp.Config{Env: drover.Env{Node: node}, URL: url(addr), Prefix: prefix})
	})
}

func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Net { return open(fixture.RabbitMQ(t)) })
}

func TestBroker(t *testing.T) {
	s := fixture.FreshRabbitMQ(t) // each check leaves it running
	transporttest.RunBroker(t, func(testing.TB) transporttest.Net { return fixture.OwnBusNet{BusNet: open(s)} })
}
