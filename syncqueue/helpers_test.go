package syncqueue_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/syncqueue"
)

var (
	k1      = syncqueue.Key{Kind: "vm", ID: "1"}
	k2      = syncqueue.Key{Kind: "vm", ID: "2"}
	errBoom = errors.New("boom")
)

// local is a Local that logs to the returned buffer.
func local() (*syncqueue.Local, *logBuffer) {
	b := new(logBuffer)
	return &syncqueue.Local{Env: drover.Env{Node: "n", Logger: slog.New(slog.NewTextHandler(b, nil))}}, b
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) lines(with string) (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.b.String()) {
		if strings.Contains(line, with) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// block occupies a turn of k until release is called, which returns when the turn is free.
func block(t *testing.T, l *syncqueue.Local, k syncqueue.Key) (release func()) {
	t.Helper()
	c, started := make(chan struct{}), make(chan struct{})
	h := l.Go(t.Context(), k, func(context.Context) error { close(started); <-c; return nil }, syncqueue.Name("blocker"))
	<-started
	return func() {
		close(c)
		if err := h.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func sleep(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func checkEmpty(t *testing.T, l *syncqueue.Local) {
	t.Helper()
	if s := l.Stats(); len(s) != 0 {
		t.Errorf("keys left: %+v", s)
	}
}
