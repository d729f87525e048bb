package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
)

// orderVar makes this program a node: P12 and P13 need real processes.
const orderVar = "DROVER_BENCH_NODE"

// order is what a node is to do.
type order struct {
	DSN     string
	Workers int
	Tuned   bool
	TTL     time.Duration // of its session
	Hold    bool          // handlers run until the node is told to stop
}

// serve is the node's side: it says "ready", starts when told to, prints how many handlers it has started, and ends with
// its input.
func serve(ctx context.Context, text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	d, err := openDrover(ctx, o.DSN)
	if err != nil {
		return err
	}
	defer d.close()
	session, err := lease.New(lease.Config{Tx: d.store, Store: d.store.Leases(), Notify: d.store.Notifier(), TTL: o.TTL})
	if err != nil {
		return err
	}
	var started atomic.Int64
	release := make(chan struct{})
	handler := func(ctx context.Context, _ int) error {
		started.Add(1)
		if !o.Hold {
			return nil
		}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	tune := func(c *job.Config) {
		if o.Tuned {
			tuned(c)
		}
		c.Session = session
		c.Queues = map[string]int{"default": o.Workers}
	}
	if err := d.manage(handler, tune); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	if !in.Scan() {
		return in.Err()
	}
	sctx, stop := context.WithCancel(ctx)
	var sessions sync.WaitGroup
	sessions.Go(func() { _ = session.Run(sctx) })
	d.start(ctx)
	told := make(chan struct{})
	go func() {
		in.Scan()
		close(told)
	}()
	report(&started, told)
	close(release)
	err = d.finish()
	stop()
	sessions.Wait()
	fmt.Println(started.Load())
	return err
}

// report prints the count whenever it has changed.
func report(count *atomic.Int64, until <-chan struct{}) {
	last := int64(0)
	for {
		select {
		case <-until:
			return
		case <-time.After(2 * time.Millisecond):
		}
		if now := count.Load(); now != last {
			last = now
			fmt.Println(now)
		}
	}
}

// node is a node's process, seen from the bench.
type node struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	started atomic.Int64
	ready   chan struct{}
	ended   chan struct{}
	err     error
}

func startNode(o order) (*node, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &node{cmd: exec.Command(self), ready: make(chan struct{}), ended: make(chan struct{})}
	n.cmd.Env = append(os.Environ(), orderVar+"="+string(text))
	n.cmd.Stderr = os.Stderr
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go n.read(out)
	return n, nil
}

func (n *node) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	if lines.Scan() {
		close(n.ready)
	}
	for lines.Scan() {
		if v, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
			n.started.Store(v)
		}
	}
	n.err = n.cmd.Wait()
	close(n.ended)
}

// run lets a node start, once it is ready.
func (n *node) run() error {
	select {
	case <-n.ready:
	case <-n.ended:
		return fmt.Errorf("node ended: %w", n.err)
	}
	_, err := io.WriteString(n.in, "run\n")
	return err
}

// tell ends a node's input; wait until it has stopped.
func (n *node) tell() { n.in.Close() }

func (n *node) wait() error {
	<-n.ended
	return n.err
}

// kill is kill -9.
func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	<-n.ended
}
