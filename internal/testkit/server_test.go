package testkit_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/drover-cloud/drover/internal/testkit"
)

// say asks addr and gives the first line of the answer.
func say(addr, what string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := io.WriteString(c, what); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimSpace(line), err
}

func TestServers(t *testing.T) {
	for _, c := range []struct {
		name, ask, answer string
		fresh             func(t testing.TB) *testkit.Server
		data              func(t *testing.T, addr string, first bool)
	}{
		{"zookeeper", "ruok", "imok", testkit.FreshZooKeeper, node},
		{"memcached", "version\r\n", "VERSION", func(t testing.TB) *testkit.Server { return testkit.FreshMemcached(t) }, func(*testing.T, string, bool) {}},
	} {
		t.Run("servicegroup-61 "+c.name, func(t *testing.T) {
			t.Parallel()
			s := c.fresh(t)
			answers := func(addr string) bool {
				line, err := say(addr, c.ask)
				return err == nil && strings.HasPrefix(line, c.answer)
			}
			if host, _, _ := net.SplitHostPort(s.Addr); !answers(s.Addr) || host != "127.0.0.1" {
				t.Fatal("not ready at", s.Addr)
			}
			c.data(t, s.Addr, true)
			p := s.Proxied(t)
			if !answers(p.Addr()) {
				t.Fatal("no answer through the proxy")
			}
			p.CutAnswers(1)
			if answers(p.Addr()) {
				t.Fatal("an answer through a cut")
			}
			p.Heal()
			p.BlackHole()
			if _, err := say(p.Addr(), c.ask); !os.IsTimeout(err) {
				t.Fatalf("in a black hole: %v", err)
			}
			p.Heal()
			s.Freeze(t)
			if answers(s.Addr) {
				t.Fatal("a frozen server answered")
			}
			s.Thaw(t)
			eventually(t, func() bool { return answers(s.Addr) })
			old := s.Pid()
			s.Kill(t)
			if answers(s.Addr) || syscall.Kill(old, 0) == nil {
				t.Fatal("a killed server lives")
			}
			addr := s.Addr
			s.Restart(t)
			if !answers(addr) || s.Addr != addr || s.Pid() == old {
				t.Fatal("not restarted at its port")
			}
			c.data(t, s.Addr, false)
			pid := s.Pid()
			s.Stop()
			if s.Alive() || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				t.Fatal("alive after Stop")
			}
		})
	}
	t.Run("servicegroup-61 unprivileged", func(t *testing.T) {
		s := testkit.Memcached(t)
		if s.Pid() == 0 || os.Getuid() != 0 {
			t.Skip("the tests do not run as root, or the server is external")
		}
		info, err := os.Stat("/proc/" + strconv.Itoa(s.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
			t.Fatal("runs as root")
		}
	})
}

// node makes a node, or finds it again.
func node(t *testing.T, addr string, first bool) {
	c, _, err := zk.Connect([]string{addr}, 5*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, func() bool { // imok comes before sessions do
		if first {
			_, err = c.Create("/kept", nil, 0, zk.WorldACL(zk.PermAll))
			return err == nil || errors.Is(err, zk.ErrNodeExists)
		}
		var there bool
		there, _, err = c.Exists("/kept")
		if err == nil && !there {
			t.Fatal("data lost by restart")
		}
		return err == nil
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 20 s")
		}
	}
}

// TestOneServer is what TestRequireOthers runs in another process.
func TestOneServer(t *testing.T) {
	switch os.Getenv("TEST_SERVER") {
	case "zookeeper":
		testkit.ZooKeeper(t)
	case "memcached":
		testkit.Memcached(t)
	}
}

func TestRequireOthers(t *testing.T) {
	if os.Getenv("DROVER_ZK_ADDR") != "" || os.Getenv("DROVER_MEMCACHED_ADDR") != "" {
		t.Skip("external servers: nothing is missing")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ server, require, env, want, remedy string }{
		{"zookeeper", "0", "DROVER_ZOOKEEPER_JAR=/nonexistent", "SKIP", "ZooKeeper: no /nonexistent (apt-get install zookeeper default-jre-headless, or set DROVER_ZK_ADDR)"},
		{"zookeeper", "zookeeper", "DROVER_ZOOKEEPER_JAR=/nonexistent", "FAIL", "ZooKeeper: no /nonexistent"},
		{"zookeeper", "1", "DROVER_JAVA=/nonexistent", "FAIL", "(apt-get install zookeeper default-jre-headless, or set DROVER_ZK_ADDR)"},
		{"memcached", "0", "DROVER_MEMCACHED_BIN=/nonexistent", "SKIP", "memcached: no memcached (apt-get install memcached"},
		{"memcached", "postgres,memcached", "DROVER_MEMCACHED_BIN=/nonexistent", "FAIL", "memcached: no memcached"},
		{"memcached", "postgres", "DROVER_MEMCACHED_BIN=/nonexistent", "SKIP", "memcached: no memcached"},
	} {
		t.Run("servicegroup-61 "+c.server+" missing, DROVER_REQUIRE_SERVERS="+c.require, func(t *testing.T) {
			cmd := exec.Command(self, "-test.run=^TestOneServer$", "-test.v")
			cmd.Env = append(os.Environ(), "TEST_SERVER="+c.server, c.env, "DROVER_REQUIRE_SERVERS="+c.require)
			out, _ := cmd.CombinedOutput()
			if text := string(out); !strings.Contains(text, "--- "+c.want) || !strings.Contains(text, c.remedy) {
				t.Fatalf("no %s with %q in\n%s", c.want, c.remedy, text)
			}
		})
	}
}
