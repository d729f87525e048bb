package drover_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/drover-cloud/drover"
)

// Both clocks of benbjohnson/clock are a Clock without adapter.
var (
	_ drover.Clock = clock.New()
	_ drover.Clock = (*clock.Mock)(nil)
)

func TestSpecEnv(t *testing.T) {
	t.Run("service-01 defaults", func(t *testing.T) {
		nodes := map[string]bool{}
		for range 10_000 {
			e := drover.Env{}.Defaults()
			if e.Clock == nil || e.Logger == nil || e.Tracer == nil || e.Meter == nil || e.Rand == nil || e.NewID == nil || e.Go == nil {
				t.Fatalf("a field is not set: %+v", e)
			}
			if nodes[e.Node] {
				t.Fatalf("node %q given out twice", e.Node)
			}
			nodes[e.Node] = true
			member := strings.ReplaceAll(e.Node, "/", ".")
			if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`).MatchString(member) || strings.Count(e.Node, "/") != 2 {
				t.Fatalf("node %q cannot name a member", e.Node)
			}
		}
	})
	t.Run("service-01 a bad node", func(t *testing.T) {
		for _, node := range []string{"a\nb", "a\x00", "\xff", strings.Repeat("n", 129)} {
			err := drover.Env{Node: node}.Defaults().Check()
			var field *drover.FieldError
			if !errors.As(err, &field) || field.Field != "Env.Node" || !errors.Is(err, drover.ErrConfig) {
				t.Errorf("%q: %v", node, err)
			}
		}
		for _, node := range []string{"", "a", "h/1/2", "höst 1", strings.Repeat("n", 128)} {
			if err := (drover.Env{Node: node}).Check(); err != nil {
				t.Errorf("%q: %v", node, err)
			}
		}
	})
	t.Run("service-01 ids", func(t *testing.T) {
		a, b := drover.Env{}.Defaults(), drover.Env{}.Defaults()
		v7 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
		var ids []string
		for range 10_000 {
			ids = append(ids, a.NewID(), b.NewID())
		}
		for _, id := range ids {
			if !v7.MatchString(id) {
				t.Fatalf("%q is no UUIDv7", id)
			}
		}
		if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Fatal("ids are not strictly increasing")
		}
	})
	t.Run("service-01 given fields stay", func(t *testing.T) {
		mock := clock.NewMock()
		e := drover.Env{Node: "n", Clock: mock, NewID: func() string { return "id" }}.Defaults().Defaults()
		if e.Node != "n" || e.Clock != drover.Clock(mock) || e.NewID() != "id" {
			t.Fatalf("Defaults replaced a field: %+v", e)
		}
	})
	t.Run("service-01 rand is shared safely", func(t *testing.T) {
		e := drover.Env{Rand: rand.NewPCG(1, 2)}.Defaults()
		twice := e.Defaults()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 1000 {
					e.Rand.Uint64()
					twice.Rand.Uint64()
				}
			})
		}
		wg.Wait()
		want := rand.NewPCG(1, 2)
		for range 16_000 {
			want.Uint64()
		}
		if e.Rand.Uint64() != want.Uint64() {
			t.Fatal("numbers were lost or drawn twice")
		}
	})
}

func TestEnvSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, start := drover.Env{}.Defaults(), time.Now()
		if err := e.Sleep(t.Context(), time.Second); err != nil || time.Since(start) != time.Second {
			t.Fatalf("slept %v: %v", time.Since(start), err)
		}
		cause := errors.New("cause")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := e.Sleep(ctx, time.Hour); err != cause || time.Since(start) != 2*time.Second {
			t.Fatalf("slept %v: %v", time.Since(start), err)
		}
		if err := e.Sleep(ctx, -1); err != cause {
			t.Fatalf("a done ctx was overlooked: %v", err)
		}
	})
}

// A panic in a goroutine without owner is logged and ends nothing else.
func TestEnvGoPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		e := drover.Env{Logger: slog.New(slog.NewTextHandler(&buf, nil))}.Defaults()
		e.Go("job/7", func() { panic("boom") })
		synctest.Wait()
		if s := buf.String(); !strings.Contains(s, "job/7") || !strings.Contains(s, "boom") || !strings.Contains(s, "env_test.go") {
			t.Fatalf("log: %s", s)
		}
	})
}

func TestErrors(t *testing.T) {
	base := errors.New("base")
	p := drover.Permanent(base)
	if !drover.IsPermanent(p) || drover.IsPermanent(base) || !errors.Is(p, base) || p.Error() != "base" || drover.Permanent(nil) != nil {
		t.Fatal("Permanent")
	}
	panicked := &drover.PanicError{Value: base}
	if !errors.Is(panicked, drover.ErrPanic) || !errors.Is(panicked, base) {
		t.Fatal("PanicError is not ErrPanic and its value")
	}
	for err, code := range map[error]int{nil: 0, base: 1, errors.Join(base, drover.ErrStuck): 2} {
		if got := drover.ExitCode(err); got != code {
			t.Errorf("ExitCode(%v) = %d, want %d", err, got, code)
		}
	}
}

func TestWorst(t *testing.T) {
	h := func(name, state string) drover.Health { return drover.Health{Name: name, State: state} }
	for _, c := range []struct {
		in   []drover.Health
		want string
	}{
		{nil, ""},
		{[]drover.Health{h("a", "ready"), h("b", "ready")}, "a"},
		{[]drover.Health{h("a", "stopped"), h("b", "draining"), h("c", "starting")}, "c"},
		{[]drover.Health{h("a", "starting"), h("b", "odd"), h("c", "degraded")}, "b"},
		{[]drover.Health{h("a", "degraded"), h("b", "failing"), h("c", "failing")}, "b"},
	} {
		if got := drover.Worst(c.in); got.Name != c.want {
			t.Errorf("Worst(%v) = %q, want %q", c.in, got.Name, c.want)
		}
	}
}
