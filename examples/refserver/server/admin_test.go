package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The verbs beside the server, while it runs.
func TestAdmin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := start(t, "-data", dir, "-db", "", "-session-login")
	admin := func(in string, args ...string) (string, error) {
		var out strings.Builder
		done, err := Admin(t.Context(), append(args, "-data", dir), noEnv, seedFile(t), strings.NewReader(in), &out)
		if !done {
			t.Errorf("%v: is no verb", args)
		}
		return out.String(), err
	}
	key := func(args ...string) string {
		t.Helper()
		said, err := admin("", args...)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "alice.env")
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(said, file) || strings.Contains(said, "SECRET") || !strings.Contains(string(text), n.URL()) {
			t.Errorf("%q, %v", said, err)
		}
		return string(text)
	}
	first := key("keys", "alice", "-new")
	if again := key("keys", "alice"); again != first {
		t.Error("another key without -rotate")
	}
	if again := key("keys", "alice", "-rotate"); again == first {
		t.Error("the same key with -rotate")
	}
	for _, bad := range [][]string{{"keys", "nobody"}, {"keys", "alice", "-new"}, {"passwd", "nobody"}} {
		if _, err := admin("long enough, really\n", bad...); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
	if _, err := admin("short\n", "passwd", "alice"); err == nil {
		t.Error("a short password is taken")
	}
	if said, err := admin("long enough, really\n", "passwd", "alice"); err != nil || said != "" {
		t.Errorf("%q, %v", said, err)
	}
	(&browser{node: n}).login("alice", "long enough, really").ok(t)
	if done, err := Admin(t.Context(), []string{"-data", dir}, noEnv, nil, nil, nil); done || err != nil {
		t.Error("flags are no verb")
	}
	var out strings.Builder
	if _, err := Admin(t.Context(), []string{"catalogue"}, noEnv, seedFile(t), nil, &out); err != nil || !strings.Contains(out.String(), "| deployVirtualMachine | async-create | serviceofferingid!") {
		t.Errorf("%s, %v", out.String(), err)
	}
}
