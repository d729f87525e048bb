package clienttest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/internal/testkit"
)

// cmk runs CloudMonkey with its configuration in a directory of its own.
type cmk struct {
	t         *testing.T
	bin, home string
}

// newCMK finds the program and points it at the server.
func newCMK(t *testing.T, s *server, secret string) cmk {
	t.Helper()
	bin := os.Getenv("DROVER_CMK")
	if bin == "" {
		bin, _ = exec.LookPath("cmk")
	}
	if bin == "" {
		testkit.Missing(t, "cmk", "no cmk (CloudMonkey 6, of https://github.com/apache/cloudstack-cloudmonkey: put it in PATH, or set DROVER_CMK)")
	}
	c := cmk{t, bin, t.TempDir()}
	if err := os.MkdirAll(filepath.Join(c.home, ".cmk"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := "prompt = cmk\nasyncblock = true\ntimeout = 120\noutput = json\nverifycert = false\nprofile = here\n\n[here]\nurl = http://" + s.addr +
		"/client/api\nusername =\npassword =\ndomain = /\napikey = testkey\nsecretkey = " + secret + "\n"
	if err := os.WriteFile(filepath.Join(c.home, ".cmk", "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c cmk) run(args ...string) (map[string]any, string, error) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.bin, append([]string{"-o", "json"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.home)
	out, err := cmd.CombinedOutput()
	var m map[string]any
	if i := strings.IndexByte(string(out), '{'); i >= 0 {
		_ = json.Unmarshal(out[i:], &m) // what is no JSON is told by the caller
	}
	return m, string(out), err
}

func (c cmk) ok(args ...string) map[string]any {
	c.t.Helper()
	m, out, err := c.run(args...)
	if err != nil {
		c.t.Fatalf("cmk %v: %v\n%s", args, err, out)
	}
	return m
}

func TestCloudMonkey(t *testing.T) {
	s := start(t, "-data", t.TempDir(), "-sim-latency", "200ms")
	c := newCMK(t, s, "testsecret")
	w := look(t, s.starter())
	t.Run("ref-17 CloudMonkey", func(t *testing.T) {
		c.ok("sync")
		if l := c.ok("list", "zones"); l["count"] != 1.0 {
			t.Errorf("%v", l)
		}
		made := c.ok("deploy", "virtualmachine", "name=monkey", "serviceofferingid="+w.small, "templateid="+w.template, "zoneid="+w.zone)
		vm, _ := made["virtualmachine"].(map[string]any)
		id, _ := vm["id"].(string)
		if vm["state"] != "Running" || id == "" {
			t.Fatalf("%v", made)
		}
		l := c.ok("list", "virtualmachines", "filter=id,state")
		if vms, _ := l["virtualmachine"].([]any); len(vms) != 1 || len(vms[0].(map[string]any)) != 2 {
			t.Errorf("%v", l)
		}
		c.ok("stop", "virtualmachine", "id="+id)
		if got := state(t, s.starter(), id); got != "Stopped" {
			t.Errorf("is %s", got)
		}
		if _, out, err := c.run("stop", "virtualmachine", "id=99999999-9999-4999-8999-999999999999"); err == nil {
			t.Errorf("the id of nothing: exit 0: %s", out)
		}
		if _, out, err := newCMK(t, s, "wrong").run("list", "zones"); err == nil || strings.Contains(out, "panic:") {
			t.Errorf("wrong secret: %v: %s", err, out)
		}
	})
}
