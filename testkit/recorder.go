package testkit

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/drover-cloud/drover/internal/testkit/sched"
)

// recorder is the T of a world: what fails there ends that world and is kept, so that only Explore fails the test.
type recorder struct {
	testing.TB
	s   *sched.Sched
	ctx context.Context

	mu      sync.Mutex
	failed  bool
	skipped bool
	lines   []string
}

func (r *recorder) note(fail bool, text string) {
	text = strings.TrimSuffix(text, "\n")
	r.mu.Lock()
	r.failed = r.failed || fail
	r.lines = append(r.lines, text)
	r.mu.Unlock()
	if fail {
		r.s.Fail(text)
	}
}

func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Helper()                  {}
func (r *recorder) Log(a ...any)             { r.note(false, fmt.Sprintln(a...)) }
func (r *recorder) Logf(f string, a ...any)  { r.note(false, fmt.Sprintf(f, a...)) }
func (r *recorder) Error(a ...any)           { r.note(true, fmt.Sprintln(a...)) }
func (r *recorder) Errorf(f string, a ...any) {
	r.note(true, fmt.Sprintf(f, a...))
}
func (r *recorder) Fail() { r.note(true, "failed") }
func (r *recorder) FailNow() {
	r.note(true, "failed")
	r.s.Abort()
}
func (r *recorder) Fatal(a ...any) {
	r.note(true, fmt.Sprintln(a...))
	r.s.Abort()
}
func (r *recorder) Fatalf(f string, a ...any) {
	r.note(true, fmt.Sprintf(f, a...))
	r.s.Abort()
}
func (r *recorder) Failed() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.failed }
func (r *recorder) Skip(a ...any) {
	r.note(false, fmt.Sprintln(a...))
	r.SkipNow()
}
func (r *recorder) Skipf(f string, a ...any) {
	r.note(false, fmt.Sprintf(f, a...))
	r.SkipNow()
}
func (r *recorder) SkipNow() {
	r.mu.Lock()
	r.skipped = true
	r.mu.Unlock()
	r.s.Abort()
}
func (r *recorder) Skipped() bool     { r.mu.Lock(); defer r.mu.Unlock(); return r.skipped }
func (r *recorder) Output() io.Writer { return writer{r} }

type writer struct{ r *recorder }

func (w writer) Write(p []byte) (int, error) {
	w.r.note(false, string(p))
	return len(p), nil
}
