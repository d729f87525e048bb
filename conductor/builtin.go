package conductor

import (
	"context"
	"encoding/json"

	"github.com/drover-cloud/drover/store"
)

// on declares a method of a store S that drover has itself.
func on[S, A, T any](name string, kind Kind, f func(ctx context.Context, s S, tx store.Tx, a A) (T, error), more ...func(*method)) *method {
	pub := &Method[A, T]{Kind: kind, Name: name, Bounded: true}
	m := pub.core()
	m.allow = nil
	m.run = func(ctx context.Context, inner any, tx store.Tx, a any) (any, error) {
		return f(ctx, inner.(S), tx, a.(A))
	}
	for _, o := range more {
		o(m)
	}
	return m
}

// tableOf gives methods their store's name.
func tableOf(name string, ms ...*method) table {
	t := table{}
	for _, m := range ms {
		m.store = name
		t[m.name] = m
	}
	return t
}

func rows[A any](f func(a A) []string) func(*method) {
	return func(m *method) { m.rows = func(a any) []string { return f(a.(A)) } }
}

func kindBy[A any](f func(a A) Kind) func(*method) {
	return func(m *method) { m.kind = func(a any) Kind { return f(a.(A)) } }
}

func stamp[A, T any](f func(a A, r T) string) func(*method) {
	return func(m *method) {
		m.stamp = func(a, r any) string {
			v, _ := r.(T)
			return f(a.(A), v)
		}
	}
}

func guess[A, T any](f func(a A) T) func(*method) {
	return func(m *method) { m.guess = func(a any) any { return f(a.(A)) } }
}

// wrote names the rows that were written, where not all that the arguments name were.
func wrote[A, T any](f func(a A, r T) []string) func(*method) {
	return func(m *method) {
		m.wrote = func(a, r any) []string {
			v, _ := r.(T)
			return f(a.(A), v)
		}
	}
}

func drawn(m *method) { m.drawn = true }

func live(m *method) { m.live = true }

// allow decides by the arguments whether a host may, within the transaction that would do it.
func allow[A any](f func(g *grant, a A) error) func(*method) {
	return func(m *method) { m.allow = func(g *grant, a any) error { return f(g, a.(A)) } }
}

// check decides by what was found.
func check[A, T any](f func(g *grant, a A, r T) error) func(*method) {
	return func(m *method) {
		m.check = func(g *grant, a, r any) error {
			v, _ := r.(T)
			return f(g, a.(A), v)
		}
	}
}

// again repeats a result by what brief kept of it.
func again[S, A, T any](brief func(r T) string, replay func(ctx context.Context, s S, tx store.Tx, a A, brief string) (T, error)) func(*method) {
	return func(m *method) {
		m.bounded = false
		m.brief = func(r any) string { return brief(r.(T)) }
		m.replay = func(ctx context.Context, inner any, tx store.Tx, a any, brief string) (any, error) {
			return replay(ctx, inner.(S), tx, a.(A), brief)
		}
	}
}

// saver makes a method send what has changed of a row only.
type saver struct {
	key     func(a any) string
	version func(a any) int64
	load    func(ctx context.Context, inner any, tx store.Tx, key string) (any, error) // the row as args
}

func saves[S, A any](key func(a A) string, version func(a A) int64, load func(ctx context.Context, s S, tx store.Tx, key string) (A, error)) func(*method) {
	return func(m *method) {
		m.save = &saver{
			key:     func(a any) string { return key(a.(A)) },
			version: func(a any) int64 { return version(a.(A)) },
			load: func(ctx context.Context, inner any, tx store.Tx, key string) (any, error) {
				return load(ctx, inner.(S), tx, key)
			},
		}
	}
}

// keeps says which row of a result a later save is compared with.
func keeps[T, Row any](key func(r T) string, row func(r T) Row) func(*method) {
	return func(m *method) {
		m.keep = func(r any) (string, any) { return key(r.(T)), row(r.(T)) }
	}
}

// do is call for a method of drover's own stores.
func do[T any](ctx context.Context, f face, tx store.Tx, m *method, a any) (T, error) {
	return doAs[T](ctx, f, tx, m, a)
}

// act is do of a method that answers an error only.
func act(ctx context.Context, f face, tx store.Tx, m *method, a any) error {
	_, err := f.do(ctx, tx, m, a)
	return err
}

func toJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
