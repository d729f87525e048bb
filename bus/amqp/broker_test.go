package amqp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	client "github.com/rabbitmq/amqp091-go"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/amqp"
	"github.com/drover-cloud/drover/bus/internal/broker"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/internal/testkit/busrig"
)

// channel is one of the client's own.
func channel(t testing.TB, s *fixture.Server) *client.Channel {
	t.Helper()
	conn, err := client.Dial(url(s.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func TestSpec(t *testing.T) {
	t.Run("bus-83 nobody there", func(t *testing.T) {
		a := busrig.Start(t, open(fixture.RabbitMQ(t)).Open(t, "a"), "a", nil)
		for range 20 { // the return comes before the confirm, always
			if _, err := a.Call(t.Context(), &bus.Message{Topic: "none"}); !errors.Is(err, bus.ErrNoRoute) {
				t.Fatalf("call: %v", err)
			}
			if err := a.Cast(t.Context(), &bus.Message{Topic: "none", Node: "x"}); !errors.Is(err, bus.ErrNoRoute) {
				t.Fatalf("cast: %v", err)
			}
		}
	})
	t.Run("bus-83 a full queue", func(t *testing.T) {
		n := open(fixture.RabbitMQ(t))
		a := busrig.Start(t, n.Open(t, "a"), "a", nil)
		ch := channel(t, n.Server)
		q, err := ch.QueueDeclare("", false, true, true, false, client.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		if err == nil {
			err = ch.QueueBind(q.Name, "full", n.Prefix+".rpc", false, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		cast := func() error { return a.Cast(t.Context(), &bus.Message{Topic: "full"}) }
		for cast() == nil {
		}
		err = cast()
		var busy *bus.BusyError
		if !errors.As(err, &busy) || busy.RetryAfter != time.Second || !bus.NotRun(err) {
			t.Errorf("cast: %v", err)
		}
		if _, err := a.Call(t.Context(), &bus.Message{Topic: "full"}); !errors.Is(err, bus.ErrBusy) {
			t.Errorf("call: %v", err)
		}
	})
	t.Run("bus-83 a queue is deleted", func(t *testing.T) {
		n := open(fixture.RabbitMQ(t))
		a := busrig.Start(t, n.Open(t, "a"), "a", nil)
		busrig.Start(t, n.Open(t, "b"), "b", nil, busrig.Serving("svc", busrig.Echo))
		call := func() error {
			_, err := a.Call(t.Context(), &bus.Message{Topic: "svc", Body: []byte("x")}, bus.Timeout(2*time.Second))
			return err
		}
		ch := channel(t, n.Server)
		best := time.Hour
		for range 3 {
			if err := call(); err != nil {
				t.Fatal(err)
			}
			if _, err := ch.QueueDelete(n.Prefix+".q.svc", false, false, false); err != nil { // cancels its consumer
				t.Fatal(err)
			}
			began := time.Now()
			for err := call(); err != nil; err = call() {
				if !errors.Is(err, bus.ErrNoRoute) { // a mandatory message is returned
					t.Fatalf("without a queue: %v", err)
				}
				if time.Since(began) > 20*time.Second {
					t.Fatal("it is not consumed again")
				}
				time.Sleep(10 * time.Millisecond)
			}
			best = min(best, time.Since(began))
		}
		if best > time.Second {
			t.Errorf("consumed again after %v", best)
		}
	})
	t.Run("bus-85 a node restarts", func(t *testing.T) {
		n := open(fixture.RabbitMQ(t))
		release, ran := make(chan struct{}), make(chan string, 4)
		a := busrig.Start(t, n.Open(t, "a"), "a", nil, busrig.Serving("hold", func(_ context.Context, m *bus.Message) ([]byte, error) {
			ran <- "holds"
			<-release
			return m.Body, nil
		}))
		life := func(inc int64) *busrig.Node {
			return busrig.Start(t, n.Open(t, "b"), "b", func(c *bus.Config) { c.Incarnation = inc }, telling(func(body string) { ran <- body }))
		}
		first := life(1)
		go func() { _, _ = first.Call(t.Context(), &bus.Message{Topic: "hold"}, bus.Timeout(20*time.Second)) }()
		<-ran
		if err := first.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := a.Cast(t.Context(), &bus.Message{Topic: "svc", Node: "b", Body: []byte("while away")}); err != nil {
			t.Fatalf("its queue is gone: %v", err)
		}
		second := life(2)
		if got := <-ran; got != "while away" {
			t.Errorf("ran %s", got)
		}
		close(release)
		for end := time.Now().Add(10 * time.Second); a.Stats().Dropped != 1; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the reply to its first life: %+v", a.Stats())
			}
		}
		if s := second.Stats(); s.LateReplies != 0 {
			t.Errorf("its second life got a reply of the first: %+v", s)
		}
	})
	t.Run("bus-89 a false name", falseName)
}

// falseName: with Proof, nodes connect as users of their names.
func falseName(t *testing.T) {
	n := open(fixture.RabbitMQ(t))
	proven := func(node string) (*amqp.Transport, error) {
		return amqp.New(amqp.Config{Env: drover.Env{Node: node}, URL: url(n.Server.Addr), Prefix: n.Prefix, Proof: true})
	}
	if _, err := proven("a"); !errors.Is(err, drover.ErrConfig) {
		t.Errorf("node a as user guest: %v", err)
	}
	// as is the node of that name, in two lives
	origin := make(chan bus.Origin, 1)
	log := &busrig.Log{}
	x, err := amqp.New(amqp.Config{Env: drover.Env{Node: "guest", Logger: slog.New(log)}, URL: url(n.Server.Addr), Prefix: n.Prefix, Proof: true})
	if err != nil {
		t.Fatal(err)
	}
	busrig.Start(t, x, "guest", func(c *bus.Config) { c.Incarnation = 1 }, busrig.Serving("svc", func(ctx context.Context, m *bus.Message) ([]byte, error) {
		if p, _ := bus.PeerFrom(ctx); string(m.Body) == "true" {
			origin <- p
		} else {
			t.Errorf("%s ran", m.Body)
		}
		return nil, nil
	}))
	evil := busrig.Start(t, n.Open(t, "evil"), "evil", nil) // connects as guest, and says it is evil
	if err := evil.Cast(t.Context(), &bus.Message{Topic: "svc", Node: "guest", Body: []byte("false")}); err != nil {
		t.Fatal(err)
	}
	again, err := proven("guest")
	if err != nil {
		t.Fatal(err)
	}
	a := busrig.Start(t, again, "guest", func(c *bus.Config) { c.Incarnation = 2 })
	if err := a.Cast(t.Context(), &bus.Message{Topic: "svc", Body: []byte("true")}); err != nil {
		t.Fatal(err)
	}
	if p := <-origin; p.Node != "guest" || !p.Proven {
		t.Errorf("%+v", p)
	}
	for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "false sender"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing was logged")
		}
	}
	// The broker itself refuses who claims another's user.
	ch := channel(t, n.Server)
	gone := ch.NotifyClose(make(chan *client.Error, 1))
	m := &bus.Message{ID: "1", Topic: "svc", Method: "handle", Wire: bus.Wire{From: "other"}}
	if err := ch.PublishWithContext(t.Context(), n.Prefix+".rpc", "svc", false, false, client.Publishing{UserId: "other", Body: broker.Append(nil, m)}); err != nil {
		t.Fatal(err)
	}
	if e := <-gone; e == nil || e.Code != client.PreconditionFailed {
		t.Errorf("the broker says %v", e)
	}
}

const frozenAt = "DROVER_AMQP_CONSUMER"

// TestConsumer is the process that bus-84 stops: it tells what it runs.
func TestConsumer(t *testing.T) {
	addr, prefix, ok := strings.Cut(os.Getenv(frozenAt), " ")
	if !ok {
		t.Skip("run by TestFrozen")
	}
	x, err := amqp.New(amqp.Config{Env: drover.Env{Node: "frozen"}, URL: url(addr), Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	busrig.Start(t, x, "frozen", nil, telling(func(id string) { fmt.Println("ran", id) }))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is done
}

func telling(f func(body string)) func(b *bus.Bus) {
	return busrig.Serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
		f(string(m.Body))
		return nil, nil
	})
}

// consumer is that process.
type consumer struct {
	cmd  *exec.Cmd
	in   io.Closer
	read chan struct{} // closed when it has ended
}

func startConsumer(t *testing.T, n *fixture.BusNet, ran func(id string)) *consumer {
	t.Helper()
	c := &consumer{cmd: exec.Command(os.Args[0], "-test.run", "^TestConsumer$"), read: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), frozenAt+"="+n.Server.Addr+" "+n.Prefix)
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in = in
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		defer close(c.read)
		for s := bufio.NewScanner(out); s.Scan(); {
			if s.Text() == "ready" {
				close(ready)
			}
			if id, ok := strings.CutPrefix(s.Text(), "ran "); ok {
				ran(id)
			}
		}
	}()
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	select {
	case <-ready:
	case <-c.read:
		t.Fatal("the consumer does not start")
	}
	return c
}

func (c *consumer) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func TestFrozen(t *testing.T) {
	if os.Getenv("DROVER_LONG") == "" {
		t.Skip("takes half a minute: DROVER_LONG=1")
	}
	t.Run("bus-84 a consumer is frozen", func(t *testing.T) {
		const sent, unacked = 200, 64
		n := open(fixture.RabbitMQ(t))
		var mu sync.Mutex
		runs := map[string]int{}
		here := 0
		ran := func(id string) { mu.Lock(); defer mu.Unlock(); runs[id]++ }
		c := startConsumer(t, n, ran)
		b := busrig.Start(t, n.Open(t, "b"), "b", nil, telling(func(id string) { ran(id); mu.Lock(); defer mu.Unlock(); here++ }))
		c.signal(t, syscall.SIGSTOP)
		for i := range sent {
			if err := b.Cast(t.Context(), &bus.Message{Topic: "svc", Body: []byte(strconv.Itoa(i))}, bus.Timeout(5*time.Minute)); err != nil {
				t.Error(err)
			}
		}
		eventually := func(within time.Duration, what string, ok func() bool) {
			t.Helper()
			for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
				mu.Lock()
				done := ok()
				mu.Unlock()
				if done {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("not within %v: %s; %d ran here", within, what, here)
				}
			}
		}
		eventually(20*time.Second, "the other takes all that the frozen one does not hold", func() bool { return here >= sent-unacked })
		// The broker gives up on it, and what it held comes here: it may have run, so it is not run again.
		eventually(90*time.Second, "the broker hands on what the frozen one held", func() bool { return b.Stats().Duplicates >= unacked })
		c.signal(t, syscall.SIGCONT)
		_ = c.in.Close()
		<-c.read
		_ = c.cmd.Wait()
		mu.Lock()
		defer mu.Unlock()
		for id, k := range runs {
			if k > 1 {
				t.Errorf("%s ran %d times", id, k)
			}
		}
		if here != sent-unacked {
			t.Errorf("%d of %d ran here", here, sent-unacked)
		}
	})
}
