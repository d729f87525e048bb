package periodic_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/periodic"
)

// open is a Ledger that gives every due time to who asks, and notes it.
type open struct {
	mu    sync.Mutex
	asked []time.Duration // after the due time
	ended []string
}

func (o *open) Take(_ context.Context, _ string, due time.Time) (epoch int64, wait time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, time.Since(due))
	return int64(len(o.asked)), 0, nil
}

func (o *open) Held() (<-chan struct{}, error) { return make(chan struct{}), nil }

func (o *open) Done(_ context.Context, _ string, _ int64, outcome string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = append(o.ended, outcome)
	return nil
}

func (o *open) Last(context.Context, string) (time.Time, error) { return time.Time{}, nil }

func TestSingletonLedger(t *testing.T) {
	t.Parallel()
	t.Run("Goexit is recorded, and nothing watches the session any more", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(l *live) {
			o := &open{}
			l.add(periodic.Every(time.Minute, "gc", func(context.Context) error { runtime.Goexit(); return nil }, periodic.Singleton(o)))
			l.run()
			l.till(2 * time.Minute)
			o.mu.Lock()
			defer o.mu.Unlock()
			if len(o.asked) == 0 || len(o.ended) != len(o.asked) || o.ended[0] == "ok" {
				t.Errorf("%d taken, ended %q", len(o.asked), o.ended)
			}
		})
	})
	for _, c := range []struct {
		name string
		task func(f periodic.Func, opt periodic.Decorator) periodic.Task
		want time.Duration
	}{
		{"every 8 s", func(f periodic.Func, opt periodic.Decorator) periodic.Task {
			return periodic.Every(8*time.Second, "gc", f, opt)
		}, 2 * time.Second},
		{"every hour", func(f periodic.Func, opt periodic.Decorator) periodic.Task {
			return periodic.Every(time.Hour, "gc", f, opt)
		}, 5 * time.Second},
		{"by a calendar", func(f periodic.Func, opt periodic.Decorator) periodic.Task {
			return periodic.Cron("* * * * *", nil, "gc", f, opt)
		}, 5 * time.Second},
	} {
		t.Run("a node that is not preferred waits, "+c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(l *live) {
				o := &open{}
				l.add(c.task(noop, periodic.Singleton(o, periodic.Prefer(func() bool { return false }))))
				l.run()
				l.till(2 * time.Hour)
				o.mu.Lock()
				defer o.mu.Unlock()
				if len(o.asked) == 0 {
					t.Fatal("asked for nothing")
				}
				for _, d := range o.asked {
					if d < c.want || d > c.want+time.Millisecond {
						t.Fatalf("asked %v after the due time, want %v", d, c.want)
					}
				}
			})
		})
	}
}
