package dispatch_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
)

// ten is a command of ten parameters.
type ten struct {
	A string        `param:"a"`
	B int           `param:"b"`
	C bool          `param:"c"`
	D dispatch.UUID `param:"d"`
	E string        `param:"e"`
	F int64         `param:"f"`
	G uint16        `param:"g"`
	H float64       `param:"h"`
	I string        `param:"i,oneof=x|y"`
	J time.Duration `param:"j"`
}

func tenCommand() (*dispatch.Registry, *dispatch.Command) {
	r := &dispatch.Registry{Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}}
	dispatch.Sync(r, "c", func(ctx context.Context, c ten) (int, error) { return c.B, nil })
	return r, &dispatch.Command{Name: "c", Params: map[string]string{
		"a": "text", "b": "42", "c": "true", "d": someID, "e": "more", "f": "7", "g": "9", "h": "1.5", "i": "x", "j": "3s",
	}}
}

// The standard stages, ten bound parameters, no store: at most 12 allocations.
func TestAllocations(t *testing.T) {
	r, c := tenCommand()
	n := testing.AllocsPerRun(1000, func() {
		if _, err := r.Dispatch(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	})
	if n > 12 {
		t.Errorf("%v allocations, want at most 12", n)
	}
}

// P19: all ten standard stages, ten bound parameters, a sync command; at most 2 µs.
func BenchmarkP19Sync(b *testing.B) {
	r, c := tenCommand()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Dispatch(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkP19Middleware is ten layers of net/http middleware, each of which passes a value on, and nothing bound.
func BenchmarkP19Middleware(b *testing.B) {
	var h http.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for i := range 10 {
		next := h
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), layer(i), i)))
		})
	}
	w, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, req)
	}
}

type layer int
