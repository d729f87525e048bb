package amqp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
	fixture "github.com/drover-cloud/drover/internal/testkit"
)

func TestSpec(t *testing.T) {
	t.Run("bus-83 a queue is deleted", func(t *testing.T) {
		n := open(fixture.RabbitMQ(t))
		ep := &bus.Endpoint{}
		bus.HandleFunc(ep, "handle", func(_ context.Context, m *bus.Message) ([]byte, error) { return m.Body, nil })
		a := bus.New(n.Open(t, "a"), bus.Config{Env: drover.Env{Node: "a"}})
		b := bus.New(n.Open(t, "b"), bus.Config{Env: drover.Env{Node: "b"}})
		b.Serve("svc", ep)
		for _, x := range []*bus.Bus{a, b} {
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = x.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			if err := x.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		call := func() error {
			_, err := a.Call(t.Context(), &bus.Message{Topic: "svc", Body: []byte("x")}, bus.Timeout(2*time.Second))
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		conn, err := client.Dial("amqp://guest:guest@" + n.server.Addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDelete(n.prefix+".q.svc", false, false, false); err != nil {
			t.Fatal(err)
		}
		if err := call(); err != nil && !errors.Is(err, bus.ErrNoRoute) { // a mandatory message is returned
			t.Errorf("without a queue: %v", err)
		}
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if err := call(); err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatalf("it is not consumed again: %v", err)
			}
		}
	})
}

const frozenURL = "DROVER_AMQP_CONSUMER"

// TestConsumer is the process that bus-84 stops: it tells what it runs.
func TestConsumer(t *testing.T) {
	addr, prefix, ok := strings.Cut(os.Getenv(frozenURL), " ")
	if !ok {
		t.Skip("run by TestSpec")
	}
	x, err := amqp.New(amqp.Config{Env: drover.Env{Node: "frozen"}, URL: "amqp://guest:guest@" + addr + "/", Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	b := bus.New(x, bus.Config{Env: drover.Env{Node: "frozen"}})
	b.Serve("svc", told(func(id string) { fmt.Println("ran", id) }))
	go func() { _ = b.Run(t.Context()) }()
	if err := b.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is done
}

func told(f func(id string)) *bus.Endpoint {
	ep := &bus.Endpoint{}
	bus.HandleFunc(ep, "handle", func(_ context.Context, m *bus.Message) ([]byte, error) {
		f(string(m.Body))
		return nil, nil
	})
	return ep
}

func TestFrozen(t *testing.T) {
	if os.Getenv("DROVER_LONG") == "" {
		t.Skip("takes a minute: DROVER_LONG=1")
	}
	t.Run("bus-84 a consumer is frozen", func(t *testing.T) {
		n := open(fixture.RabbitMQ(t))
		var mu sync.Mutex
		runs := map[string]int{}
		ran := func(id string) { mu.Lock(); defer mu.Unlock(); runs[id]++ }
		cmd := exec.Command(os.Args[0], "-test.run", "^TestConsumer$")
		cmd.Env = append(os.Environ(), frozenURL+"="+n.server.Addr+" "+n.prefix)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready := make(chan struct{})
		read := make(chan struct{})
		go func() {
			defer close(read)
			for s := bufio.NewScanner(out); s.Scan(); {
				if s.Text() == "ready" {
					close(ready)
				}
				if id, ok := strings.CutPrefix(s.Text(), "ran "); ok {
					ran(id)
				}
			}
		}()
		<-ready
		b := bus.New(n.Open(t, "b"), bus.Config{Env: drover.Env{Node: "b"}})
		b.Serve("svc", told(ran))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = b.Run(ctx) }()
		defer func() { cancel(); <-done }()
		if err := b.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			if err := b.Cast(ctx, &bus.Message{Topic: "svc", Body: []byte(strconv.Itoa(i))}, bus.Timeout(5*time.Minute)); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(45 * time.Second) // until the broker gives up on the frozen one
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		in.Close()
		<-read
		_ = cmd.Wait()
		mu.Lock()
		defer mu.Unlock()
		for id, k := range runs {
			if k > 1 {
				t.Errorf("%s ran %d times", id, k)
			}
		}
		if len(runs) < 200-2*64 {
			t.Errorf("%d of 200 ran: more than the frozen one held is missing", len(runs))
		}
	})
}
