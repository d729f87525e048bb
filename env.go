package drover

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/benbjohnson/clock"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Clock is the part of a clock that drover uses. clock.New() and *clock.Mock of benbjohnson/clock satisfy it as they are.
type Clock interface {
	// Now keeps the monotonic reading where there is one.
	Now() time.Time
	// After sends the time once d has passed; d ≤ 0 fires at once.
	After(d time.Duration) <-chan time.Time
}

// Env is what a component is handed: everything it may use that a test wants to control. It is a value; changing a copy
// affects only what is built from the copy. The zero value is production.
type Env struct {
	// Node names this process, unique in the cluster: 1 to 128 bytes of printable UTF-8. "" means host/pid/8 hex digits, fixed
	// by Defaults.
	Node string
	// Clock nil means real time.
	Clock Clock
	// Logger nil means slog.Default(). No secrets and no job arguments are logged.
	Logger *slog.Logger
	// Tracer and Meter nil mean the global OpenTelemetry providers.
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
	// Rand serves jitter and tie-breaks only; nil means seeded by the operating system. Defaults puts any source behind
	// a mutex, so that components may share it.
	Rand rand.Source
	// NewID nil means UUIDv7, increasing within a process whoever asks.
	NewID func() string
	// Go starts f as a goroutine named after its work ("job/7"); nothing in drover starts one otherwise. Nil means the
	// go statement, with a panic recovered and logged; see Env.For for panics that have an owner.
	Go func(name string, f func())
}

// Defaults is e with every nil field filled. Components call it once, in New.
func (e Env) Defaults() Env {
	if e.Node == "" {
		e.Node = newNode()
	}
	if e.Clock == nil {
		e.Clock = clock.New()
	}
	if e.Logger == nil {
		e.Logger = slog.Default()
	}
	if e.Tracer == nil {
		e.Tracer = otel.GetTracerProvider()
	}
	if e.Meter == nil {
		e.Meter = otel.GetMeterProvider()
	}
	switch r := e.Rand.(type) {
	case nil:
		e.Rand = &lockedSource{src: rand.NewPCG(entropy(), entropy())}
	case *lockedSource:
	default:
		e.Rand = &lockedSource{src: r}
	}
	if e.NewID == nil {
		e.NewID = newID
	}
	if e.Go == nil {
		log := e.Logger
		e.Go = func(name string, f func()) { go guard(name, log, f) }
	}
	return e
}

// Check refuses a Node that can name nothing, with a *[FieldError]. Components that tell others their node call it in New.
func (e Env) Check() error {
	why := ""
	switch n := e.Node; {
	case len(n) > 128:
		why = fmt.Sprintf("%d bytes, must be at most 128", len(n))
	case !utf8.ValidString(n):
		why = "not UTF-8"
	case strings.ContainsFunc(n, func(r rune) bool { return !unicode.IsPrint(r) }):
		why = "has characters that do not print"
	default:
		return nil
	}
	return &FieldError{"Env.Node", why}
}

// Sleep waits for d on e.Clock, which must be set. It returns nil, or the cause of ctx as soon as that is done; a ctx
// that is done already returns at once, also when d ≤ 0.
func (e Env) Sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() == nil && d > 0 {
		select {
		case <-ctx.Done():
		case <-e.Clock.After(d):
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// guard is the outermost frame of a goroutine of the default Env.Go.
func guard(name string, log *slog.Logger, f func()) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic in goroutine", "goroutine", name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	f()
}

// lockedSource makes a source of randomness safe for concurrent use.
type lockedSource struct {
	mu  sync.Mutex
	src rand.Source
}

func (s *lockedSource) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src.Uint64()
}

// spread is d ± share·d, drawn from src.
func spread(src rand.Source, d time.Duration, share float64) time.Duration {
	u := float64(src.Uint64()>>11) / (1 << 53)
	return d + time.Duration(share*(2*u-1)*float64(d))
}

func entropy() uint64 {
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails: the runtime aborts first
	return binary.LittleEndian.Uint64(b[:])
}

// newNode is host/pid/random. Characters that a member's name cannot have become dots.
func newNode() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	if len(host) > 96 {
		host = host[:96]
	}
	host = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '.'
	}, host)
	return fmt.Sprintf("%s/%d/%08x", host, os.Getpid(), nodeSalt())
}

// over is e with nil fields taken from base.
func (e Env) over(base Env) Env {
	if e.Node == "" {
		e.Node = base.Node
	}
	if e.Clock == nil {
		e.Clock = base.Clock
	}
	if e.Logger == nil {
		e.Logger = base.Logger
	}
	if e.Tracer == nil {
		e.Tracer = base.Tracer
	}
	if e.Meter == nil {
		e.Meter = base.Meter
	}
	if e.Rand == nil {
		e.Rand = base.Rand
	}
	if e.NewID == nil {
		e.NewID = base.NewID
	}
	if e.Go == nil {
		e.Go = base.Go
	}
	return e
}
