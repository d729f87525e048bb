package watchlock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/watchlock"
)

// seen notes log lines and counts.
type seen struct {
	noop.MeterProvider
	mu     sync.Mutex
	lines  []string
	counts []string
}

type meter struct {
	noop.Meter
	to *seen
}

type counter struct {
	noop.Int64Counter
	to *seen
}

func (s *seen) Meter(string, ...metric.MeterOption) metric.Meter { return meter{to: s} }

func (m meter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return counter{to: m.to}, nil
}

func (c counter) Add(_ context.Context, n int64, opts ...metric.AddOption) {
	set := metric.NewAddConfig(opts).Attributes()
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.counts = append(c.to.counts, fmt.Sprint(n, " ", set.Encoded(attribute.DefaultEncoder())))
}

func (s *seen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, line, _ := strings.Cut(strings.TrimSpace(string(b)), "held=")
	s.lines = append(s.lines, line)
	return len(b), nil
}

// rig runs f with a Watch at work.
func rig(t *testing.T, name string, f func(t *testing.T, w *watchlock.Watch, s *seen)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &seen{}
			env := drover.Env{Node: "n", Logger: slog.New(slog.NewTextHandler(s, nil)), Meter: s}.Defaults()
			w := watchlock.New(env, "tracker")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- w.Run(ctx) }()
			f(t, w, s)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	})
}

func (s *seen) want(t *testing.T, lines ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.lines, lines) {
		t.Errorf("reports %q, want %q", s.lines, lines)
	}
	if len(s.counts) != len(lines) {
		t.Errorf("counts %q", s.counts)
	}
}

func hold(t *testing.T, l *watchlock.Lock, by watchlock.Holder, d time.Duration) {
	t.Helper()
	if err := l.Do(t.Context(), by, func() { time.Sleep(d) }); err != nil {
		t.Error(err)
	}
}

func TestReports(t *testing.T) {
	audit := watchlock.Holder{Op: "audit", Host: "h1", Claim: "c7"}
	rig(t, "service-45 3.5 s are three reports", func(t *testing.T, w *watchlock.Watch, s *seen) {
		l, other := w.Lock("snapshots"), w.Lock("audits")
		time.Sleep(400 * time.Millisecond)
		hold(t, other, watchlock.Holder{Op: "claim"}, 300*time.Millisecond) // a look is due 1 s after it was taken
		go func() {
			time.Sleep(2500 * time.Millisecond)
			_ = l.Do(t.Context(), watchlock.Holder{Op: "claim"}, func() {})
		}()
		hold(t, l, audit, 3500*time.Millisecond)
		time.Sleep(10 * time.Second)
		s.want(t, "1s waiting=0 host=h1 claim=c7", "2s waiting=0 host=h1 claim=c7", "3s waiting=1 host=h1 claim=c7")
		if len(s.counts) > 0 && s.counts[0] != "1 component=tracker,label=audit,lock=snapshots" {
			t.Error(s.counts[0])
		}
	})
	rig(t, "below a second there is none, however often", func(t *testing.T, w *watchlock.Watch, s *seen) {
		l := w.Lock("snapshots")
		for range 20 {
			hold(t, l, audit, 900*time.Millisecond)
		}
		s.want(t)
	})
	rig(t, "two at once, and what is held now", func(t *testing.T, w *watchlock.Watch, s *seen) {
		a, b := w.Lock("a"), w.Lock("b")
		go hold(t, a, watchlock.Holder{Op: "x"}, 1500*time.Millisecond)
		time.Sleep(600 * time.Millisecond)
		go hold(t, b, watchlock.Holder{Op: "y"}, 1500*time.Millisecond)
		synctest.Wait()
		want := []watchlock.Held{{"a", watchlock.Holder{Op: "x"}, 600 * time.Millisecond, 0}, {"b", watchlock.Holder{Op: "y"}, 0, 0}}
		if got := w.Held(); !slices.Equal(got, want) {
			t.Errorf("held %+v", got)
		}
		time.Sleep(10 * time.Second)
		s.want(t, "1s waiting=0", "1s waiting=0")
		if got := w.Held(); len(got) != 0 {
			t.Errorf("held %+v", got)
		}
	})
	rig(t, "a panic and the end of the goroutine free it", func(t *testing.T, w *watchlock.Watch, s *seen) {
		l := w.Lock("a")
		func() {
			defer func() { _ = recover() }()
			_ = l.Do(t.Context(), audit, func() { panic(1) })
		}()
		go func() { _ = l.Do(t.Context(), audit, runtime.Goexit) }()
		synctest.Wait()
		hold(t, l, audit, 0)
	})
	rig(t, "an ended ctx", func(t *testing.T, w *watchlock.Watch, s *seen) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		if err := w.Lock("a").Do(ctx, audit, func() { t.Error("was run") }); !errors.Is(err, why) {
			t.Error(err)
		}
	})
}

func TestCaller(t *testing.T) {
	w := watchlock.New(drover.Env{}.Defaults(), "x")
	var deep func(n int) (string, bool)
	deep = func(n int) (string, bool) {
		if n == 0 {
			return watchlock.Caller()
		}
		return deep(n - 1)
	}
	for _, n := range []int{0, 60, 64, 200} {
		if by, under := deep(n); under {
			t.Errorf("depth %d, no lock: %s", n, by)
		}
		_ = w.Lock("a").Do(t.Context(), watchlock.Holder{}, func() {
			if _, under := deep(n); !under {
				t.Errorf("depth %d: not seen", n)
			}
		})
	}
	_ = w.Lock("a").Do(t.Context(), watchlock.Holder{}, func() {
		if by, _ := watchlock.Caller(); !strings.HasSuffix(by, "watchlock_test.TestCaller") {
			t.Errorf("taken by %q", by)
		}
	})
}

func BenchmarkDo(b *testing.B) {
	w := watchlock.New(drover.Env{}.Defaults(), "x")
	l, ctx, n := w.Lock("a"), b.Context(), 0
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Do(ctx, watchlock.Holder{Op: "claim"}, func() { n++ })
	}
}
