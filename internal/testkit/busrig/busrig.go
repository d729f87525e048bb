// Package busrig runs buses in tests.
package busrig

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
)

// Node is a bus that runs.
type Node struct {
	*bus.Bus
	Log  *Log
	Stop func() error // ends Run, and gives its error
}

// Start makes a bus on x and runs it until the test ends; set may change its configuration, serve what it is to serve.
func Start(t testing.TB, x bus.Transport, name string, set func(c *bus.Config), serve ...func(b *bus.Bus)) *Node {
	t.Helper()
	n := &Node{Log: &Log{}}
	cfg := bus.Config{Env: drover.Env{Node: name, Logger: slog.New(n.Log)}}
	if set != nil {
		set(&cfg)
	}
	n.Bus = bus.New(x, cfg)
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
	n.Stop = func() error {
		cancel()
		<-done
		return err
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Errorf("Run of %s: %v", name, err)
		}
	})
	up, off := context.WithTimeout(context.Background(), 20*time.Second)
	defer off()
	if err := n.Ready(up); err != nil {
		t.Fatalf("%s is not ready: %v", name, err)
	}
	return n
}

// Handler is a method.
type Handler = func(ctx context.Context, m *bus.Message) ([]byte, error)

// Serving offers one method, "handle", at topic.
func Serving(topic string, f Handler) func(b *bus.Bus) {
	return func(b *bus.Bus) {
		ep := &bus.Endpoint{}
		bus.HandleFunc(ep, "handle", f)
		b.Serve(topic, ep)
	}
}

// Echo answers what it is asked.
func Echo(_ context.Context, m *bus.Message) ([]byte, error) { return m.Body, nil }

// Silent answers when its caller has gone.
func Silent(ctx context.Context, _ *bus.Message) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Msg is a message to any one of topic.
func Msg(topic, body string) *bus.Message { return &bus.Message{Topic: topic, Body: []byte(body)} }

// ErrOf is the error of a call.
func ErrOf(_ []byte, err error) error { return err }

// Log keeps what a bus logs.
type Log struct {
	mu    sync.Mutex
	lines []slog.Record
	text  bytes.Buffer
}

func (h *Log) Enabled(context.Context, slog.Level) bool { return true }
func (h *Log) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *Log) WithGroup(string) slog.Handler            { return h }

// Handle keeps r.
func (h *Log) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, r)
	return slog.NewTextHandler(&h.text, nil).Handle(ctx, r)
}

// At counts the lines of a level.
func (h *Log) At(l slog.Level) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.lines {
		if r.Level == l {
			n++
		}
	}
	return n
}

// String is the text of all lines.
func (h *Log) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}
