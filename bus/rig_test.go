package bus_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
)

// cluster is a Hub with buses, each behind faults of its own.
type cluster struct {
	testing.TB
	hub memory.Hub
}

// wire is a Transport whose sends a test bends; on is asked first, and sends by calling next, or not.
type wire struct {
	bus.Transport
	mu sync.Mutex
	on func(ctx context.Context, m *bus.Message, next func(ctx context.Context, m *bus.Message) error) error
}

func (w *wire) set(on func(ctx context.Context, m *bus.Message, next func(ctx context.Context, m *bus.Message) error) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = on
}

func (w *wire) Send(ctx context.Context, m *bus.Message) error {
	w.mu.Lock()
	on := w.on
	w.mu.Unlock()
	if on == nil {
		return w.Transport.Send(ctx, m)
	}
	return on(ctx, m, w.Transport.Send)
}

type node struct {
	*bus.Bus
	wire *wire
	stop func() error
}

var quietLog = slog.New(slog.NewTextHandler(io.Discard, nil))

func (c *cluster) start(name string, set func(*bus.Config), serve ...func(b *bus.Bus)) *node {
	c.Helper()
	cfg := bus.Config{Env: drover.Env{Node: name, Logger: quietLog}}
	if set != nil {
		set(&cfg)
	}
	n := &node{wire: &wire{Transport: c.hub.Open(name)}}
	n.Bus = bus.New(n.wire, cfg)
	for _, f := range serve {
		f(n.Bus)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = n.Run(ctx)
	}()
	n.stop = func() error {
		cancel()
		<-done
		return err
	}
	c.Cleanup(func() {
		n.wire.set(nil)
		if err := n.stop(); err != nil {
			c.Errorf("Run of %s: %v", name, err)
		}
	})
	if err := n.Ready(context.Background()); err != nil {
		c.Fatal(err)
	}
	return n
}

type handler = func(ctx context.Context, m *bus.Message) ([]byte, error)

func serving(topic string, f handler) func(b *bus.Bus) {
	return func(b *bus.Bus) {
		ep := &bus.Endpoint{}
		bus.HandleFunc(ep, "handle", f)
		b.Serve(topic, ep)
	}
}

func echo(_ context.Context, m *bus.Message) ([]byte, error) { return m.Body, nil }

func silent(ctx context.Context, _ *bus.Message) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func msg(topic, body string) *bus.Message { return &bus.Message{Topic: topic, Body: []byte(body)} }

func errOf(_ []byte, err error) error { return err }

// bubble runs f in virtual time.
func bubble(t *testing.T, name string, f func(c *cluster)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(&cluster{TB: t}) })
	})
}

// hang is a send that never ends by itself.
func hang(ctx context.Context, _ *bus.Message, _ func(context.Context, *bus.Message) error) error {
	<-ctx.Done()
	return fmt.Errorf("%w: %w", bus.ErrNotSent, context.Cause(ctx))
}

func sleep(d time.Duration) { time.Sleep(d) }
