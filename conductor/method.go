package conductor

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/drover-cloud/drover/store"
)

// Kind is how a method of a Store runs remotely.
type Kind byte

// Kinds of methods.
const (
	// R reads: a call of its own, before the commit.
	R Kind = 'R'
	// W writes and is buffered until the commit. What it answers meanwhile is the expected result; if the server's differs, the
	// body runs again with that.
	W Kind = 'W'
	// X writes with a result that nobody can expect: it is the commit, and the last operation.
	X Kind = 'X'
)

func (k Kind) String() string { return string(k) }

// Method declares a method of a Store to both ends: the client calls it, the server serves it with a function. A method
// with several arguments or results has them in structs. What is sent are exported fields of plain data.
type Method[A, T any] struct {
	// Store and Name are [a-z0-9-]+, unique together.
	Store, Name string
	Kind        Kind
	// Rows name the rows that the arguments name, for the shape rule: a row written is not read again. May be nil.
	Rows func(a A) []string
	// Stamp of an R is the version of what was read by its arguments: a commit after it is a conflict unless the server reads
	// the same. "" or nil: not checked. Of a W it is what the body may have decided by; "" or nil: nothing.
	Stamp func(a A, r T) string
	// Guess is the expected result of a W. Nil: the zero value.
	Guess func(a A) T
	// Drawn says that the result of a W has values that only the commit can know: the body runs once more with those.
	Drawn bool
	// Brief makes of the result of an X what is kept for a repeat if it is larger than 64 KiB; Replay reads the result again
	// by it. Without them Bounded promises that no result is larger.
	Brief   func(r T) string
	Replay  func(ctx context.Context, tx store.Tx, a A, brief string) (T, error)
	Bounded bool
	// Allow says which hosts may do it, beside Policy.Allow; nil: none.
	Allow func(host string, a A) bool
}

// Call does the operation in a transaction of c: errors are the served function's.
func (m *Method[A, T]) Call(ctx context.Context, c *Client, tx store.Tx, a A) (T, error) {
	return call(ctx, c, tx, m, a)
}

// Served is a Method with the function that does it.
type Served struct{ *method }

// Serve joins m and the function that does it in a transaction of the server's store.
func (m *Method[A, T]) Serve(f func(ctx context.Context, tx store.Tx, a A) (T, error)) Served {
	core := m.core()
	core.run = func(ctx context.Context, _ any, tx store.Tx, a any) (any, error) { return f(ctx, tx, a.(A)) }
	return Served{core}
}

// method is a Method without its types.
type method struct {
	store, name string
	drawn       bool
	live        bool // goes by the lane of beats
	bounded     bool
	kind        func(a any) Kind
	rows        func(a any) []string
	stamp       func(a, r any) string
	guess       func(a any) any
	brief       func(r any) string
	replay      func(ctx context.Context, inner any, tx store.Tx, a any, brief string) (any, error)
	run         func(ctx context.Context, inner any, tx store.Tx, a any) (any, error)
	args        func(raw json.RawMessage, strict bool) (any, error)
	result      func(raw json.RawMessage) (any, error)
	allow       func(g *grant, a any) error    // before it runs; nil = nobody may by OwnRows
	check       func(g *grant, a, r any) error // after it has run
	wrote       func(a, r any) []string
	save        *saver
	back        Back
	keep        func(r any) (key string, row any)
}

func (m *method) String() string { return m.store + "." + m.name }

func (m *Method[A, T]) core() *method {
	c := &method{store: m.Store, name: m.Name, drawn: m.Drawn, bounded: m.Bounded || m.Kind != X}
	c.kind = func(any) Kind { return m.Kind }
	c.rows = func(a any) []string {
		if m.Rows == nil {
			return nil
		}
		return m.Rows(a.(A))
	}
	c.stamp = func(a, r any) string {
		if m.Stamp == nil {
			return ""
		}
		return m.Stamp(a.(A), r.(T))
	}
	c.guess = func(a any) any {
		if m.Guess == nil {
			var zero T
			return zero
		}
		return m.Guess(a.(A))
	}
	if m.Brief != nil {
		c.brief = func(r any) string { return m.Brief(r.(T)) }
	}
	if m.Replay != nil {
		c.replay = func(ctx context.Context, _ any, tx store.Tx, a any, brief string) (any, error) {
			return m.Replay(ctx, tx, a.(A), brief)
		}
	}
	c.allow = allowed(m.Allow)
	c.args = func(raw json.RawMessage, strict bool) (any, error) {
		var a A
		err := decode(raw, &a, strict)
		return a, err
	}
	c.result = func(raw json.RawMessage) (any, error) {
		var r T
		err := decode(raw, &r, false)
		return r, err
	}
	return c
}

// table is a store's methods at this end.
type table map[string]*method

// names of methods must be those of bus, too.
func (m *method) validate() error {
	switch {
	case !isName(m.store) || !isName(m.name):
		return badField("Method", fmt.Sprintf("%q: want [a-z0-9-]+", m.String()))
	case m.run == nil:
		return badField("Method", m.String()+": no function")
	case !m.bounded && (m.brief == nil || m.replay == nil):
		return badField("Method", m.String()+": an X whose result may be large needs Brief and Replay, or Bounded")
	}
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 48 && s[0] != '-'
}

// face is who does operations: a Client, a Checked or a Denied.
type face interface {
	do(ctx context.Context, tx store.Tx, m *method, a any) (any, error)
}

func call[A, T any](ctx context.Context, f face, tx store.Tx, m *Method[A, T], a A) (r T, err error) {
	return doAs[T](ctx, f, tx, m.core(), a)
}

// doAs does m and answers its result as a T.
func doAs[T any](ctx context.Context, f face, tx store.Tx, m *method, a any) (r T, err error) {
	got, err := f.do(ctx, tx, m, a)
	if v, ok := got.(T); ok {
		r = v
	}
	return r, err
}
