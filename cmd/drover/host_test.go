package main

import (
	"bytes"
	"strings"
	"testing"

	fixture "github.com/drover-cloud/drover/internal/testkit"
)

func TestHost(t *testing.T) {
	t.Parallel()
	drover := func(args ...string) (code int, out string) {
		var stdout, stderr bytes.Buffer
		code = run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
		return code, stdout.String() + stderr.String()
	}
	for uri, want := range map[string]int{"": badUsage, "qemu+ssh://h/system": badUsage, "test+unix:///default?socket=/nonexistent": unreachable} {
		if code, out := drover("host", "ping", uri); code != want {
			t.Errorf("%q: %d: %s", uri, code, out)
		}
	}
	uri := fixture.StartLibvirtd(t, fixture.LibvirtdOptions{}).URI("test:///default")
	if code, out := drover("host", "ping", uri); code != 0 || !strings.Contains(out, "libvirt-test") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := drover("host", "list", uri); code != 0 || !strings.Contains(out, "6695eb01-f6a4-8304-79aa-97f2502e193f  test  on") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := drover("-o", "json", "host", "list", uri); code != 0 || !strings.Contains(out, `"power":"on"`) {
		t.Errorf("%d: %s", code, out)
	}
}
