package transporttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/bus"
)

// coded is an error with a code and a cause.
type coded struct {
	code  string
	cause error
}

func (e *coded) Error() string     { return "it is " + e.code }
func (e *coded) ErrorCode() string { return e.code }
func (e *coded) Unwrap() error     { return e.cause }

var (
	errKnown  = errors.New("transporttest: known")
	errExpect = errors.New("transporttest: expected")
)

func init() { bus.RegisterError("transporttest.known", errKnown) }

var failures = []testCase{
	{name: "bus-04 errors of handlers", run: func(r *rig) {
		a := r.start("a", nil)
		b := r.start("b", nil, func(b *bus.Bus) {
			b.Serve("svc", fill(&bus.Endpoint{Expect: []error{errExpect}}, map[string]handler{
				"plain":    func(context.Context, *bus.Message) ([]byte, error) { return nil, errors.New("broken") },
				"marked":   func(context.Context, *bus.Message) ([]byte, error) { return nil, bus.Expected(errors.New("marked")) },
				"expected": func(context.Context, *bus.Message) ([]byte, error) { return nil, fmt.Errorf("wrapped: %w", errExpect) },
			}))
		})
		for _, c := range []struct {
			method, text string
			logged       int
		}{{"plain", "broken", 1}, {"marked", "marked", 0}, {"expected", "wrapped: " + errExpect.Error(), 0}} {
			before := b.Log.At(slog.LevelError)
			_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Method: c.method})
			var remote *bus.RemoteError
			if !errors.As(err, &remote) || remote.Text != c.text || remote.Node != "b" || remote.Code != bus.CodeInternal {
				r.Errorf("%s: %#v", c.method, err)
			}
			if n := b.Log.At(slog.LevelError) - before; n != c.logged {
				r.Errorf("%s: %d ERROR lines, want %d", c.method, n, c.logged)
			}
			if bus.NotRun(err) || bus.Unknown(err) {
				r.Errorf("%s: it surely ran: %v", c.method, err)
			}
		}
	}},
	{name: "bus-05 chains of errors", run: func(r *rig) {
		a := r.start("a", nil)
		var b *node
		b = r.start("b", nil, serving("mid", func(ctx context.Context, m *bus.Message) ([]byte, error) {
			_, err := b.Call(ctx, msg("end", ""))
			return nil, &coded{"b.failed", err}
		}))
		r.start("c", nil, serving("end", func(context.Context, *bus.Message) ([]byte, error) {
			return nil, &coded{"c.failed", errors.Join(errKnown, errors.New("other"))}
		}))
		_, err := a.Call(context.Background(), msg("mid", ""))
		var remote *bus.RemoteError
		if !errors.As(err, &remote) || remote.Code != "b.failed" || !slices.Equal(remote.Chain, []string{"b.failed", "c.failed", "transporttest.known"}) {
			r.Fatalf("%#v", err)
		}
		r.is(err, errKnown)
		if errors.Is(err, errExpect) {
			r.Error("it is an error that nobody registered")
		}
	}},
	{name: "bus-09 nobody there", run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", echo))
		for _, m := range []*bus.Message{{Topic: "nobody"}, {Topic: "svc", Node: "zz"}, {Topic: "nobody", Node: "b"}, {Topic: "nobody", Node: "a"}} {
			began := time.Now()
			_, err := a.Call(context.Background(), m)
			r.is(err, bus.ErrNoRoute)
			r.is(a.Cast(context.Background(), m), bus.ErrNoRoute)
			if d := time.Since(began); d > time.Second || !bus.NotRun(err) {
				r.Errorf("%v: after %v", err, d)
			}
		}
	}},
	{name: "bus-12 a body that cannot be read", run: func(r *rig) {
		a := r.start("a", nil)
		b := r.start("b", nil)
		bus.Topic[int, int]{Name: "svc"}.Handle(b.Bus, func(context.Context, int) (int, error) {
			r.Error("the handler ran")
			return 0, nil
		})
		r.ok(b.Ready(context.Background()))
		began := time.Now()
		for _, body := range []string{"{", "\x00", strings.Repeat("[", 65) + strings.Repeat("]", 65)} {
			_, err := a.Call(context.Background(), msg("svc", body))
			r.is(err, bus.ErrInvalid)
		}
		_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Body: []byte("1"), Wire: bus.Wire{Codec: "gob"}})
		r.is(err, bus.ErrInvalid)
		if d := time.Since(began); d > time.Second {
			r.Errorf("told after %v", d)
		}
	}},
	{name: "bus-18 a handler panics", run: func(r *rig) {
		a := r.start("a", nil)
		r.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			if string(m.Body) == "panic" {
				panic("secret detail")
			}
			return m.Body, nil
		}))
		_, err := a.Call(context.Background(), msg("svc", "panic"))
		var remote *bus.RemoteError
		if !errors.As(err, &remote) || remote.Code != bus.CodeInternal || remote.Text != "handler panicked" {
			r.Fatalf("%#v", err)
		}
		r.call(a, msg("svc", "x"), "x")
	}},
	{name: "bus-38 unknown method, monitored", run: func(r *rig) {
		a := r.start("a", nil)
		b := r.start("b", nil, serving("svc", echo))
		_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Method: "never"}, bus.Monitor(2*time.Second), bus.Timeout(20*time.Second))
		var d *bus.DispatchError
		if !errors.As(err, &d) || !d.UnknownMethod {
			r.Fatalf("%#v", err)
		}
		if s := b.Stats(); s.Running != 0 || s.Queue != 0 {
			r.Errorf("something is left: %+v", s)
		}
	}},
}
