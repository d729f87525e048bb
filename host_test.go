package drover_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHostBuild builds a module of a host's own that uses jobs and membership in memory: no database driver, bun, libvirt,
// broker, ZooKeeper or memcached client comes with it.
func TestHostBuild(t *testing.T) {
	repo, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(repo, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	// the versions of the library's own go.mod, so that nothing need be downloaded
	_, requires, _ := strings.Cut(read("go.mod"), "require")
	write("go.mod", "module example.com/host\n\ngo 1.26\n\nrequire github.com/drover-cloud/drover v0.0.0\n\nreplace github.com/drover-cloud/drover => "+repo+"\n\nrequire"+requires)
	write("go.sum", read("go.sum"))
	write("main.go", `package main

import (
	"context"

	"github.com/drover-cloud/drover/bus"
	hub "github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/servicegroup"
	members "github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/store/memory"
)

func main() {
	b := bus.New((&hub.Hub{}).Open("n1"), bus.Config{})
	_ = b.Run
	var db memory.Store
	m, err := job.New(job.Config{DB: &db})
	if err != nil {
		panic(err)
	}
	if _, err := servicegroup.New(servicegroup.Config{Driver: members.New()}); err != nil {
		panic(err)
	}
	job.Handle(m, "hello", func(ctx context.Context, name string) (string, error) { return "hello " + name, nil })
}
`)
	run := func(args ...string) string {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("build", "-o", os.DevNull, ".")
	deps := run("list", "-deps", ".")
	for _, forbidden := range []string{"uptrace/bun", "database/sql", "jackc/pgx", "modernc.org", "libvirt", "amqp", "nats", "zookeeper/zk", "gomemcache", "servicegroup/db", "servicegroup/zk", "servicegroup/memcached", "drover/testkit", "drover/internal/testkit", "testing"} {
		for pkg := range strings.Lines(deps) {
			if pkg = strings.TrimSpace(pkg); strings.Contains(pkg, forbidden) {
				t.Errorf("a host of jobs, messages and membership in memory pulls in %s", pkg)
			}
		}
	}
}
