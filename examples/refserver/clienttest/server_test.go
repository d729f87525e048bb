package clienttest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/cloudstack-go/v2/cloudstack"

	"github.com/drover-cloud/drover/internal/testkit"
)

var binary struct {
	sync.Once
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := testkit.Main(m)
	if binary.path != "" {
		_ = os.RemoveAll(filepath.Dir(binary.path))
	}
	os.Exit(code)
}

// build compiles the reference server once.
func build(t *testing.T) string {
	t.Helper()
	binary.Do(func() {
		dir, err := os.MkdirTemp("", "refserver")
		if err != nil {
			binary.err = err
			return
		}
		binary.path = filepath.Join(dir, "refserver")
		cmd := exec.Command("go", "build", "-o", binary.path, "./examples/refserver")
		cmd.Dir = "../../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// server is a process of the reference server.
type server struct {
	t    *testing.T
	addr string
	args []string
	cmd  *exec.Cmd
	out  *lockedBuffer
	gone chan struct{}
}

// start runs a server on a free port and waits until it is ready.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: l.Addr().String(), args: args, out: new(lockedBuffer)}
	_ = l.Close()
	s.again()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("server on %s said:\n%s", s.addr, s.out.tail(8000))
		}
	})
	return s
}

// again starts it, also after kill: same address, same data.
func (s *server) again() {
	s.t.Helper()
	s.cmd = exec.Command(build(s.t), append([]string{"-listen", s.addr, "-dev-key", "testkey:testsecret", "-rate", "0"}, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	gone := make(chan struct{})
	s.gone = gone
	go func(c *exec.Cmd) { _ = c.Wait(); close(gone) }(s.cmd)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := http.Get("http://" + s.addr + "/readyz")
		if err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-s.gone:
			s.t.Fatalf("the server ended: %s", s.out.tail(4000))
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not ready within 30 s: %v\n%s", err, s.out.tail(4000))
		}
	}
}

// kill is SIGKILL.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.gone
}

// terminate is SIGTERM; it gives how long the server took.
func (s *server) terminate() time.Duration {
	start := time.Now()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.gone
	return time.Since(start)
}

// client is the SDK's asynchronous one: its calls wait for the job.
func (s *server) client() *cloudstack.CloudStackClient {
	return cloudstack.NewAsyncClient("http://"+s.addr+"/client/api", "testkey", "testsecret", false, cloudstack.WithAsyncTimeout(120))
}

// starter is the SDK's plain one: its calls answer the job's id.
func (s *server) starter() *cloudstack.CloudStackClient {
	return cloudstack.NewClient("http://"+s.addr+"/client/api", "testkey", "testsecret", false)
}

// lockedBuffer is written by a process and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	return s[max(0, len(s)-n):]
}

// world is what the seed made.
type world struct{ zone, small, template, network string }

func look(t *testing.T, c *cloudstack.CloudStackClient) (w world) {
	t.Helper()
	zones, err := c.Zone.ListZones(c.Zone.NewListZonesParams())
	if err != nil || zones.Count != 1 || zones.Zones[0].Name != "zone1" || zones.Zones[0].Networktype != "Advanced" {
		t.Fatalf("zones: %+v, %v", zones, err)
	}
	w.zone = zones.Zones[0].Id
	if w.small, _, err = c.ServiceOffering.GetServiceOfferingID("small"); err != nil {
		t.Fatal(err)
	}
	p := c.Template.NewListTemplatesParams("executable")
	p.SetName("debian12")
	templates, err := c.Template.ListTemplates(p)
	if err != nil || templates.Count != 1 || !templates.Templates[0].Isready {
		t.Fatalf("templates: %+v, %v", templates, err)
	}
	w.template = templates.Templates[0].Id
	networks, err := c.Network.ListNetworks(c.Network.NewListNetworksParams())
	if err != nil || networks.Count != 1 {
		t.Fatalf("networks: %+v, %v", networks, err)
	}
	w.network = networks.Networks[0].Id
	return w
}

func deployParams(c *cloudstack.CloudStackClient, w world, name string) *cloudstack.DeployVirtualMachineParams {
	p := c.VirtualMachine.NewDeployVirtualMachineParams(w.small, w.template, w.zone)
	p.SetName(name)
	p.SetNetworkids([]string{w.network})
	return p
}

// job asks once; the server holds the answer until the job ends or its hold is over.
func job(t *testing.T, c *cloudstack.CloudStackClient, id string) *cloudstack.QueryAsyncJobResultResponse {
	t.Helper()
	r, err := c.Asyncjob.QueryAsyncJobResult(c.Asyncjob.NewQueryAsyncJobResultParams(id))
	if err != nil {
		t.Fatalf("job %s: %v", id, err)
	}
	return r
}

// ended waits until the job is final and gives it.
func ended(ctx context.Context, t *testing.T, c *cloudstack.CloudStackClient, id string) *cloudstack.QueryAsyncJobResultResponse {
	t.Helper()
	for {
		if r := job(t, c, id); r.Jobstatus != 0 {
			return r
		}
		if ctx.Err() != nil {
			t.Fatalf("job %s does not end: %v", id, context.Cause(ctx))
		}
	}
}

func state(t *testing.T, c *cloudstack.CloudStackClient, id string) string {
	t.Helper()
	vm, count, err := c.VirtualMachine.GetVirtualMachineByID(id)
	if count == 0 {
		return "absent"
	}
	if err != nil {
		t.Fatalf("vm %s: %v", id, err)
	}
	return vm.State
}

// says checks that err is there and holds every word.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("want an error with %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("no %q in %v", w, err)
		}
	}
}
