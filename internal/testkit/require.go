package testkit

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// known are the names that DROVER_REQUIRE_SERVERS may list.
var known = []string{"bash", "chromium", "cmk", "guest", "libvirt", "memcached", "nats", "postgres", "rabbitmq", "zookeeper", "zsh"}

// Missing ends the test for want of a server: skipped, or failed where DROVER_REQUIRE_SERVERS requires it. how says what
// to install or set.
func Missing(t testing.TB, server, how string) {
	t.Helper()
	required, err := requires(os.Getenv("DROVER_REQUIRE_SERVERS"), server)
	switch {
	case err != "":
		t.Fatal(err)
	case required:
		t.Fatalf("%s is required by DROVER_REQUIRE_SERVERS and missing: %s", server, how)
	default:
		t.Skipf("%s: %s", server, how)
	}
}

// requires reads the variable's value: whether server must be there, or what is wrong with the value.
func requires(value, server string) (bool, string) {
	switch value {
	case "", "0":
		return false, ""
	case "1":
		return server != "cmk", "" // which no package has and no `go install` makes: it is required by name only
	}
	required := false
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(known, name) {
			return false, "DROVER_REQUIRE_SERVERS: unknown server " + name + "; known: " + strings.Join(known, ", ")
		}
		required = required || name == server
	}
	return required, ""
}
