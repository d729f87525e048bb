package bus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/internal/testkit/busrig"
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
	*busrig.Node
	wire *wire
}

func (c *cluster) start(name string, set func(*bus.Config), serve ...func(b *bus.Bus)) *node {
	c.Helper()
	w := &wire{Transport: c.hub.Open(name)}
	n := &node{busrig.Start(c, w, name, set, serve...), w}
	c.Cleanup(func() { w.set(nil) }) // before it is stopped
	return n
}

// Words of the tests.
var (
	serving = busrig.Serving
	echo    = busrig.Echo
	silent  = busrig.Silent
	msg     = busrig.Msg
	errOf   = busrig.ErrOf
)

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
