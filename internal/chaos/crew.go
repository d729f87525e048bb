package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// crew is the worker processes.
type crew struct {
	cfg    workerConfig // of each
	proxy  string       // store DSN of slot 0
	size   int
	ledger *ledger
	log    *os.File
	path   string // of this program

	mu      sync.Mutex
	live    []*member // neither killed nor frozen
	all     []*member // processes
	frozen  sync.WaitGroup
	n       int
	over    bool
	crashed int // ended by themselves, without a reason
	taken   int // ended because their name was taken
}

// member is one process.
type member struct {
	slot   int
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	exited chan struct{}
	doomed bool
	asleep bool
}

// start fills the crew's slots.
func (c *crew) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for slot := range c.size {
		if err := c.spawn(slot, false); err != nil {
			return err
		}
	}
	return nil
}

// spawn starts a process; under the slot's own name it takes over from the one before at once. mu is held.
func (c *crew) spawn(slot int, sameName bool) error {
	c.n++
	cfg := c.cfg
	cfg.Name, cfg.Seed, cfg.Asleep = fmt.Sprintf("w%d", slot), c.cfg.Seed+uint64(c.n), c.n%3 != 0
	if !sameName {
		cfg.Name = fmt.Sprintf("w%d.%d", slot, c.n)
	}
	if slot == 0 {
		cfg.Store = c.proxy
	}
	m := &member{slot: slot, name: cfg.Name, exited: make(chan struct{}), asleep: cfg.Asleep}
	m.cmd = exec.Command(c.path, "-test.run=NONE")
	m.cmd.Env = append(os.Environ(), cfg.env(), "GOMAXPROCS=2")
	m.cmd.Stdout, m.cmd.Stderr = c.log, c.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	var err error
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	c.live, c.all = append(c.live, m), append(c.all, m)
	go c.wait(m)
	return nil
}

// wait notes the end of m, and replaces it if nobody wanted that.
func (c *crew) wait(m *member) {
	err := m.cmd.Wait()
	close(m.exited)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(o *member) bool { return o == m })
	c.leave(m)
	if m.doomed || c.over {
		return
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == replaced {
		c.taken++
	} else {
		c.crashed++
		fmt.Fprintln(c.log, "chaos: worker", m.name, "ended by itself:", err)
	}
	c.refill(m.slot, false)
}

func (c *crew) leave(m *member) {
	c.live = slices.DeleteFunc(c.live, func(o *member) bool { return o == m })
}

// refill replaces a member that has left, unless there are enough.
func (c *crew) refill(slot int, sameName bool) {
	if c.over || len(c.live) >= c.size {
		return
	}
	if err := c.spawn(slot, sameName); err != nil {
		c.crashed++
		fmt.Fprintln(c.log, "chaos:", err)
	}
}

// pick takes a live member out.
func (c *crew) pick(victim uint64) *member {
	if len(c.live) == 0 {
		return nil
	}
	slices.SortFunc(c.live, func(a, b *member) int { return a.slot - b.slot })
	m := c.live[victim%uint64(len(c.live))]
	c.leave(m)
	return m
}

// kill ends one by SIGKILL; its successor starts at once.
func (c *crew) kill(victim uint64, sameName bool) (name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.pick(victim)
	if m == nil {
		return ""
	}
	m.doomed = true
	_ = m.cmd.Process.Kill()
	c.refill(m.slot, sameName)
	return m.name
}

// freeze stops one by SIGSTOP for d; its successor starts at once, and when it wakes it is one too many for a while.
func (c *crew) freeze(ctx context.Context, victim uint64, d time.Duration, sameName bool) (name string) {
	c.mu.Lock()
	m := c.pick(victim)
	c.mu.Unlock()
	if m == nil {
		return ""
	}
	c.book(ctx, `INSERT INTO chaos_frozen VALUES ($1) ON CONFLICT DO NOTHING`, m.name)
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	c.mu.Lock()
	c.refill(m.slot, sameName)
	c.mu.Unlock()
	c.frozen.Go(func() { c.thaw(ctx, m, d) })
	return m.name
}

func (c *crew) thaw(ctx context.Context, m *member, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-m.exited:
	case <-time.After(d):
	}
	_ = m.cmd.Process.Signal(syscall.SIGCONT)
	c.book(context.WithoutCancel(ctx), `DELETE FROM chaos_frozen WHERE worker = $1`, m.name)
	select {
	case <-ctx.Done():
	case <-m.exited:
	case <-time.After(time.Second):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.all, m) {
		c.live = append(c.live, m)
	}
}

// book writes to the ledger if it can be reached soon.
func (c *crew) book(ctx context.Context, q, name string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = c.ledger.write(ctx, q, name)
}

// stop ends all: asked first, then killed.
func (c *crew) stop() {
	c.mu.Lock()
	c.over = true
	all := slices.Clone(c.all)
	c.mu.Unlock()
	for _, m := range all {
		_ = m.cmd.Process.Signal(syscall.SIGCONT)
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
	}
	patience := time.After(8 * time.Second)
	for _, m := range all {
		select {
		case <-m.exited:
		case <-patience:
			patience = nil
			for _, m := range all {
				_ = m.cmd.Process.Kill()
			}
			<-m.exited
		}
		_ = m.stdin.Close()
	}
}
