package libvirt_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestDependencies(t *testing.T) {
	t.Parallel()
	t.Run("virt-29 no cgo, and little besides", func(t *testing.T) {
		goTool := func(args ...string) string {
			cmd := exec.Command("go", args...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return string(out)
		}
		if os.Getenv("DROVER_LONG") != "" {
			goTool("build", ".")
		}
		for _, p := range strings.Fields(goTool("list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")) {
			allowed := false
			for _, prefix := range []string{
				"github.com/drover-cloud/drover", "libvirt.org/go/libvirtxml", "go.opentelemetry.io/otel", "github.com/cenkalti/backoff/v4",
				"github.com/benbjohnson/clock",
				"github.com/cespare/xxhash/v2", "github.com/go-logr", "go.opentelemetry.io/auto/sdk", // of the otel API
			} {
				allowed = allowed || p == prefix || strings.HasPrefix(p, prefix+"/")
			}
			for _, bad := range []string{"/store", "/job", "/bus", "/sdk"} {
				allowed = allowed && !strings.HasPrefix(p, "github.com/drover-cloud/drover"+bad) && !strings.HasPrefix(p, "go.opentelemetry.io/otel"+bad)
			}
			if !allowed {
				t.Errorf("depends on %s", p)
			}
		}
	})
}
