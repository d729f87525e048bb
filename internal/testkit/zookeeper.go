package testkit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ZooKeeper gives the ZooKeeper server that this test binary shares, or that of DROVER_ZK_ADDR.
func ZooKeeper(t testing.TB) *Server {
	t.Helper()
	return zookeeper.shared(t)
}

// FreshZooKeeper starts one of the test's own, for tests that kill or freeze it.
func FreshZooKeeper(t testing.TB) *Server {
	t.Helper()
	return zookeeper.fresh(t)
}

var zookeeper = &kind{
	name: "zookeeper", title: "ZooKeeper", addr: "DROVER_ZK_ADDR", users: []string{"zookeeper"}, limit: 20 * time.Second, poll: 50 * time.Millisecond,
	find: func() ([]string, error) {
		jar := os.Getenv("DROVER_ZOOKEEPER_JAR")
		if jar == "" {
			jar = "/usr/share/java/zookeeper.jar"
		}
		const remedy = " (apt-get install zookeeper default-jre-headless, or set DROVER_ZK_ADDR)"
		if _, err := os.Stat(jar); err != nil {
			return nil, errors.New("no " + jar + remedy)
		}
		java := os.Getenv("DROVER_JAVA")
		if java == "" {
			java = "java"
		}
		java, err := exec.LookPath(java)
		if err != nil {
			return nil, errors.New("no java" + remedy)
		}
		return []string{java, "-Xmx128m", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true", "-cp", jar,
			"org.apache.zookeeper.server.quorum.QuorumPeerMain"}, nil
	},
	args: func(s *Server) ([]string, error) {
		cfg := filepath.Join(s.dir, "zoo.cfg")
		text := fmt.Sprintf("tickTime=500\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\n"+
			"4lw.commands.whitelist=*\nminSessionTimeout=1000\nmaxSessionTimeout=60000\n", filepath.Join(s.dir, "data"), s.port)
		return []string{cfg}, os.WriteFile(cfg, []byte(text), 0o644)
	},
	ready: func(addr string) error { // imok comes before it serves requests
		return errors.Join(ask(addr, "ruok", "imok"), ask(addr, "srvr", "Zookeeper version"))
	},
	taken: "Address already in use",
}

// Memcached gives the memcached that this test binary shares, or that of DROVER_MEMCACHED_ADDR.
func Memcached(t testing.TB) *Server {
	t.Helper()
	return memcached.shared(t)
}

// FreshMemcached starts one of the test's own, for tests that kill or freeze it. args are added to its command line.
func FreshMemcached(t testing.TB, args ...string) *Server {
	t.Helper()
	return memcached.fresh(t, args...)
}

var memcached = &kind{
	name: "memcached", title: "memcached", addr: "DROVER_MEMCACHED_ADDR", users: []string{"memcache", "nobody"}, limit: 5 * time.Second, poll: 10 * time.Millisecond,
	find: func() ([]string, error) {
		bin := os.Getenv("DROVER_MEMCACHED_BIN")
		if bin == "" {
			bin = "memcached"
		}
		bin, err := exec.LookPath(bin)
		if err != nil {
			return nil, errors.New("no memcached (apt-get install memcached, or set DROVER_MEMCACHED_BIN or DROVER_MEMCACHED_ADDR)")
		}
		return []string{bin}, nil
	},
	args: func(s *Server) ([]string, error) {
		return []string{"-l", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "0", "-m", "16"}, nil
	},
	ready: func(addr string) error { return ask(addr, "version\r\n", "VERSION ") },
	taken: "failed to listen",
}

// ask sends a question and wants an answer that begins so.
func ask(addr, question, answer string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, question); err != nil {
		return err
	}
	b := make([]byte, len(answer))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if !strings.HasPrefix(string(b), answer) {
		return fmt.Errorf("%q answers %q", question, b)
	}
	return nil
}
