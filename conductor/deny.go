package conductor

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
)

// Denied is a Runner and every Store of a process that must not have one: each method fails with ErrDenied, and each place
// that calls one is logged once, with its stack. Nothing blocks and nothing panics.
type Denied struct {
	faces
	log  *slog.Logger
	told func(text string)

	mu   sync.Mutex
	seen map[uintptr]bool
}

// Deny makes a Denied; logger nil = slog.Default().
func Deny(logger *slog.Logger) *Denied {
	if logger == nil {
		logger = slog.Default()
	}
	d := &Denied{log: logger, seen: map[uintptr]bool{}}
	d.faces = faces{d}
	return d
}

// InTx fails; fn is not called.
func (d *Denied) InTx(context.Context, func(ctx context.Context, tx store.Tx) error) error {
	return d.refuse("InTx")
}

func (d *Denied) do(_ context.Context, _ store.Tx, m *method, _ any) (any, error) {
	return nil, d.refuse(m.String())
}

// OnDenied calls f for every call; it is for tests.
func (d *Denied) OnDenied(f func(text string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = f
}

func (d *Denied) refuse(what string) error {
	err := fmt.Errorf("%w: %s: this process has no store", ErrDenied, what)
	site := caller()
	d.mu.Lock()
	first, told := !d.seen[site], d.told
	d.seen[site] = true
	d.mu.Unlock()
	if first {
		d.log.Error("a store was called in a process that has none", "method", what, "stack", string(debug.Stack()))
	}
	if told != nil {
		told(err.Error())
	}
	return err
}

// caller is the place outside this package that called.
func caller() uintptr {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !inside(f.Function) || !more {
			return f.PC
		}
	}
}

func inside(function string) bool {
	const pkg = scope + "."
	return len(function) > len(pkg) && function[:len(pkg)] == pkg
}

// Members fails, too.
func (d *Denied) Members() servicegroup.Driver { return deniedMembers{d} }

// Notifier gives channels that never fire.
func (d *Denied) Notifier() store.Notifier { return silence{} }

type silence struct{}

func (silence) Wake(string) (<-chan struct{}, func()) { return make(chan struct{}), func() {} }

type deniedMembers struct{ d *Denied }

func (m deniedMembers) Join(context.Context, servicegroup.Member) (servicegroup.Member, error) {
	return servicegroup.Member{}, m.d.refuse("member.join")
}
func (m deniedMembers) Beat(context.Context, servicegroup.Member) error {
	return m.d.refuse("member.beat")
}
func (m deniedMembers) Leave(context.Context, servicegroup.Member) error {
	return m.d.refuse("member.leave")
}
func (m deniedMembers) Members(context.Context, string) ([]servicegroup.Member, error) {
	return nil, m.d.refuse("member.members")
}
