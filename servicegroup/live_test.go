package servicegroup_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

// live is a Group that runs in real time on a real server.
type live struct {
	*servicegroup.Group
	downs, events atomic.Int64
	changed       chan struct{}
	cancel        context.CancelFunc
	done          chan error
}

func logger(l *lines) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func record(id, instance string) servicegroup.Member {
	return servicegroup.Member{Group: "drover", ID: id, Instance: instance, Health: drover.Health{State: "ready"}}
}

// quick is a member whose evidence is a second old at most, and silent for three is down.
func quick(c *servicegroup.Config) { c.Interval, c.Down = time.Second, 3*time.Second }

func run(t testing.TB, d servicegroup.Driver, id string, set ...func(*servicegroup.Config)) *live {
	t.Helper()
	cfg := config(d, id)
	cfg.Env.Rand = nil
	for _, f := range set {
		f(&cfg)
	}
	g, err := servicegroup.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := &live{Group: g, changed: make(chan struct{}, 1), done: make(chan error, 1)}
	g.Watch(func(old, new servicegroup.View) {
		for _, e := range servicegroup.Diff(old, new) {
			n.events.Add(1)
			if e.Kind == servicegroup.EventDown {
				n.downs.Add(1)
			}
		}
		select {
		case n.changed <- struct{}{}:
		default:
		}
	})
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	go func() { n.done <- g.Run(ctx) }()
	t.Cleanup(func() { n.stop(t) })
	return n
}

func (n *live) stop(t testing.TB) {
	t.Helper()
	n.cancel()
	select {
	case err := <-n.done:
		n.done <- err
	case <-time.After(20 * time.Second):
		t.Error("Run does not end")
	}
}

// until waits for a view.
func (n *live) until(t testing.TB, d time.Duration, ok func(v servicegroup.View) bool) {
	t.Helper()
	limit := time.After(d)
	for !ok(n.View()) {
		select {
		case <-n.changed:
		case <-time.After(100 * time.Millisecond):
		case <-limit:
			t.Fatalf("after %v the view is %+v", d, n.View())
		}
	}
}

func (n *live) up(t testing.TB, id string) {
	t.Helper()
	n.until(t, 30*time.Second, func(v servicegroup.View) bool { return v.IsUp(id) })
}

func eventually(t testing.TB, d time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v", d)
		}
	}
}

// noGoroutines waits until none runs in what.
func noGoroutines(t testing.TB, what string) {
	t.Helper()
	var b []byte
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		b = make([]byte, 4<<20)
		b = b[:runtime.Stack(b, true)]
		if !strings.Contains(string(b), what) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("goroutines left in %s:\n%.4000s", what, b[strings.Index(string(b), what)-300:])
		}
	}
}
