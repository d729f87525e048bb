// Command agent-job copies a disk on a host, as a step of a job. The node is killed while the agent copies; the next one attaches to
// the same task, which runs once.
//
//	go run ./examples/agent/agent-job
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

// copyDisk is the job: its id and the step's name are the task's, so that whoever runs it again asks for the same task.
func copyDisk(c *agent.Client, host string) func(ctx context.Context, disk string) (string, error) {
	return func(ctx context.Context, disk string) (string, error) {
		j, _ := job.FromContext(ctx)
		token := job.Token(ctx)
		task, err := c.Start(ctx, host+"/disk/copy", disk, agent.Task(j.ID+"/copy"), agent.Token("disk/"+disk, token.Store, token.Epoch),
			agent.Timeout(time.Hour))
		if err != nil {
			return "", err
		}
		return agent.Wait[string](ctx, c, task) // whose end, should this node be stopped, is not the task's
	}
}

// node is one process: it submits the job, unless that is there already, and waits for its end.
func node(ctx context.Context, dir, listen, host string) error {
	dsn, err := sqlite.DSN(filepath.Join(dir, "drover.db"))
	if err != nil {
		return err
	}
	sqldb, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	defer sqldb.Close()
	db := sqlite.New(bun.NewDB(sqldb, sqlitedialect.New()), sqlite.Config{})
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	env := drover.Env{Node: "n1", Logger: quiet}
	c, err := agent.New(agent.Config{Env: env, Callback: "http://" + listen, Pending: db.Agents(), Tx: db, Notify: db.Notifier()})
	if err != nil {
		return err
	}
	jobs, err := job.New(job.Config{Env: env, DB: db})
	if err != nil {
		return err
	}
	job.Handle(jobs, "disk.copy", copyDisk(c, host))
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	front := &http.Server{Handler: c.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = front.Serve(l) }()
	g := drover.Group{Env: env}
	g.Add("calls", c)
	g.Add("jobs", jobs)
	g.Add("user", drover.Func(func(ctx context.Context) error {
		j, err := jobs.Submit(ctx, job.Request{Kind: "disk.copy", Args: "disk-1", Idem: "the only one"})
		if err == nil {
			j, err = jobs.Wait(ctx, j.ID)
		}
		if err != nil {
			return err
		}
		r, err := job.Result[string](j)
		fmt.Printf("%s: %s\n", j.State, r)
		return err
	}))
	return g.Run(ctx)
}

// Where a node process finds the rest.
const dirVar, listenVar, hostVar = "AGENT_JOB_DIR", "AGENT_JOB_LISTEN", "AGENT_JOB_HOST"

// host runs the agent; begun is told when it begins to copy, and it goes on when more is closed.
func host(ctx context.Context, nodeURL string, begun chan<- int, more <-chan struct{}) (url string, err error) {
	s, err := agent.NewServer(agent.ServerConfig{Env: drover.Env{Logger: quiet}, Nodes: []string{nodeURL}, AdoptStore: true})
	if err != nil {
		return "", err
	}
	n := 0
	agent.Handle(s, "/disk/copy", func(ctx context.Context, disk string) (string, error) {
		n++
		begun <- n
		select {
		case <-more:
			return fmt.Sprintf("%s was copied in %d run", disk, n), nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	front := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = front.Serve(l) }()
	go func() { _ = s.Run(ctx) }()
	context.AfterFunc(ctx, func() { _ = front.Close() })
	return "http://" + l.Addr().String(), nil
}

// run is the host, and starts one node after the other.
func run(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	dir, err := os.MkdirTemp("", "agent-job")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	free, err := net.Listen("tcp", "127.0.0.1:0") // for the nodes, one after the other
	if err != nil {
		return err
	}
	listen := free.Addr().String()
	free.Close()
	begun, more := make(chan int, 8), make(chan struct{})
	url, err := host(ctx, "http://"+listen, begun, more)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(ctx, self)
		cmd.Env = append(os.Environ(), dirVar+"="+dir, listenVar+"="+listen, hostVar+"="+url)
		cmd.Stderr = os.Stderr
		return cmd
	}
	first := start()
	if err := first.Start(); err != nil {
		return err
	}
	select {
	case <-begun:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := first.Process.Kill(); err != nil {
		return err
	}
	_ = first.Wait() // it was killed
	fmt.Println("the agent copies, and its node is dead")
	close(more)
	out, err := start().Output()
	fmt.Print("the next node: ", string(out))
	return err
}

func main() {
	ctx := context.Background()
	f := run
	if dir := os.Getenv(dirVar); dir != "" {
		f = func(ctx context.Context) error { return node(ctx, dir, os.Getenv(listenVar), os.Getenv(hostVar)) }
	}
	if err := f(ctx); err != nil {
		log.Fatal(err)
	}
}
