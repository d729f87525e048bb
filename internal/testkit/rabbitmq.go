package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// RabbitMQ gives the broker that this test binary shares, or that of DROVER_AMQP_URL (host:port). Its user is guest, password guest.
func RabbitMQ(t testing.TB) *Server {
	t.Helper()
	return rabbit.shared(t)
}

// FreshRabbitMQ starts one of the test's own, for tests that kill or freeze it.
func FreshRabbitMQ(t testing.TB) *Server {
	t.Helper()
	return rabbit.fresh(t)
}

// rabbitScript runs the broker with a port mapper of its own, and ends both together.
const rabbitScript = `epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & e=$!
/usr/lib/rabbitmq/bin/rabbitmq-server & r=$!
trap 'kill $r' TERM
wait $r
wait $r
kill $e`

var rabbit = &kind{
	name: "rabbitmq", title: "RabbitMQ", addr: "DROVER_AMQP_URL", users: []string{"rabbitmq", "nobody"}, limit: 60 * time.Second, poll: 100 * time.Millisecond,
	find: func() ([]string, error) {
		if _, err := os.Stat("/usr/lib/rabbitmq/bin/rabbitmq-server"); err != nil {
			return nil, errors.New("no rabbitmq-server (apt-get install rabbitmq-server, or set DROVER_AMQP_URL)")
		}
		return []string{"/usr/bin/env"}, nil
	},
	args: func(s *Server) ([]string, error) {
		dist, err := freePort()
		if err != nil {
			return nil, err
		}
		epmd, err := freePort()
		if err != nil {
			return nil, err
		}
		plugins := filepath.Join(s.dir, "plugins")
		if err := os.WriteFile(plugins, []byte("[].\n"), 0o644); err != nil {
			return nil, err
		}
		return []string{
			"HOME=" + s.dir, "RABBITMQ_NODENAME=" + fmt.Sprintf("d%d@localhost", s.port), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
			"RABBITMQ_NODE_PORT=" + strconv.Itoa(s.port), "RABBITMQ_DIST_PORT=" + strconv.Itoa(dist), "ERL_EPMD_PORT=" + strconv.Itoa(epmd),
			"ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_MNESIA_BASE=" + filepath.Join(s.dir, "data"), "RABBITMQ_LOG_BASE=" + filepath.Join(s.dir, "log"),
			"RABBITMQ_LOGS=-", "RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins, "RABBITMQ_CONFIG_FILE=" + filepath.Join(s.dir, "none"),
			"RABBITMQ_CONF_ENV_FILE=" + filepath.Join(s.dir, "none-env"), "RABBITMQ_PID_FILE=" + filepath.Join(s.dir, "pid"),
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none", "sh", "-c", rabbitScript,
		}, nil
	},
	ready: func(addr string) error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
			return err
		}
		var b [1]byte
		if _, err := c.Read(b[:]); err != nil || b[0] != 1 { // connection.start is a method frame
			return errors.Join(err, errors.New("no handshake"))
		}
		return nil
	},
	taken: "eaddrinuse",
}
