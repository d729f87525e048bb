package libvirt_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestChild is a test for TestNothingLeft to run: it fails while a daemon and a guest run.
func TestChild(t *testing.T) {
	if os.Getenv("DROVER_CHILD") == "" {
		t.Skip("for TestNothingLeft")
	}
	d := daemon(t)
	guest(t, open(t, d, qemu), 1)
	t.Fatal("as it should")
}

func TestNothingLeft(t *testing.T) {
	t.Parallel()
	child := func(t *testing.T, env ...string) (string, error) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.run", "^TestChild$", "-test.v")
		cmd.Env = append(os.Environ(), append(env, "DROVER_CHILD=1")...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	t.Run("virt-30 a test that fails leaves nothing", func(t *testing.T) {
		daemon(t) // or there is nothing to see
		tmp, err := os.MkdirTemp("", "drl")
		ok(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(tmp) })
		ok(t, os.Chmod(tmp, 0o755))
		out, err := child(t, "TMPDIR="+tmp)
		if err == nil || !strings.Contains(out, "as it should") {
			t.Fatalf("%v: %s", err, out)
		}
		if left, _ := filepath.Glob(tmp + "/*"); len(left) > 0 {
			t.Error(left)
		}
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range lines {
			if b, _ := os.ReadFile(f); strings.Contains(string(b), tmp) {
				t.Errorf("%s: %q", f, b)
			}
		}
	})
	t.Run("virt-30 without libvirt", func(t *testing.T) {
		const none = "DROVER_LIBVIRTD=/nonexistent/libvirtd"
		if out, err := child(t, none, "DROVER_REQUIRE_SERVERS="); err != nil || !strings.Contains(out, "SKIP: TestChild") || !strings.Contains(out, "apt-get install") {
			t.Errorf("%v: %s", err, out)
		}
		for _, required := range []string{"1", "libvirt"} {
			if out, err := child(t, none, "DROVER_REQUIRE_SERVERS="+required); err == nil || !strings.Contains(out, "is required") {
				t.Errorf("%v: %s", err, out)
			}
		}
	})
}
