package job

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// work is a handler with its args.
type work func(ctx context.Context) (json.RawMessage, error)

// readyMost is how many bytes of args are decoded ahead at most.
const readyMost = 4 << 10

// kind is what this node knows of a kind of job.
type kind struct {
	name string
	span string // name of its runs' spans
	args reflect.Type
	opt  handler

	tagged bool // args have a field tagged secret

	run func(ctx context.Context, args json.RawMessage) (json.RawMessage, error) // nil: only submitted here

	// ready decodes args ahead of the handler's goroutine, whose stack then need not grow for it; its answer is nil if they
	// are bad. Nil where the host's own code decodes.
	ready func(args json.RawMessage) work
}

var (
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textType        = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// hostDecodes says whether decoding a t may call methods of the host's types.
func hostDecodes(t reflect.Type, within ...reflect.Type) bool {
	if slices.Contains(within, t) {
		return false
	}
	if p := reflect.PointerTo(t); p.Implements(unmarshalerType) || p.Implements(textType) {
		return true
	}
	within = append(slices.Clip(within), t)
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if hostDecodes(t.Field(i).Type, within...) {
				return true
			}
		}
	case reflect.Map:
		return hostDecodes(t.Key(), within...) || hostDecodes(t.Elem(), within...)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return hostDecodes(t.Elem(), within...)
	}
	return false
}

// Handle registers f for jobs of kind, whose Args are an A and whose result is an R. It panics if kind is taken or bad, like
// http.ServeMux, and must be called before Run.
//
// f gets a fresh A per run; args that cannot be decoded fail the job with code "invalid". What f returns decides: nil
// stores the result, [Permanent] fails the job, [Again] runs it again without spending an attempt, any other error spends
// one and is retried by the kind's policy ([Retry]). f may run again after a crash, so it must be idempotent or use [Step],
// [FinishTx], [Token]. When its ctx ends, context.Cause tells why: [ErrCancelled], [ErrDeadline], [ErrLost], [ErrStopping].
func Handle[A, R any](m *Manager, kind string, f func(ctx context.Context, args A) (R, error), opts ...HandleOption) {
	if f == nil {
		panic("job: Handle " + kind + ": nil function")
	}
	call := func(ctx context.Context, args A) (json.RawMessage, error) {
		r, err := f(ctx, args)
		if err != nil {
			return nil, err
		}
		b, err := marshalResult(&r)
		if err != nil {
			return nil, Permanent(&FieldError{"Result", err.Error()})
		}
		return b, nil
	}
	k := m.register(kind, reflect.TypeFor[A](), func(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
		var args A
		if err := decodeArgs(raw, &args); err != nil {
			return nil, Permanent(&argsError{FieldError{"Args", err.Error()}})
		}
		return call(ctx, args)
	}, opts)
	if !k.secretive() && !hostDecodes(k.args) {
		k.ready = func(raw json.RawMessage) work {
			var args A
			if decodeArgs(raw, &args) != nil {
				return nil
			}
			return func(ctx context.Context) (json.RawMessage, error) { return call(ctx, args) }
		}
	}
}

var emptyResult = slices.Clip(json.RawMessage("{}"))

// marshalResult is json.Marshal, with a short way for what most handlers without much to say return.
func marshalResult[R any](r *R) (json.RawMessage, error) {
	switch v := any(r).(type) {
	case *struct{}:
		return emptyResult, nil
	case *int:
		return strconv.AppendInt(nil, int64(*v), 10), nil
	}
	return json.Marshal(*r)
}

// Declare makes a kind known that this node only submits. The options decide what is stored with a job (Timeout, attempts,
// Queue, Priority, NotCancellable, Unwinds), as they do on the node that handles it. It panics like [Handle].
func Declare[A, R any](m *Manager, kind string, opts ...HandleOption) {
	m.register(kind, reflect.TypeFor[A](), nil, opts)
}

// argsError says why args could not be decoded; the text may quote them.
type argsError struct{ FieldError }

func decodeArgs(raw json.RawMessage, into any) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return json.Unmarshal(raw, into)
}

func (m *Manager) register(name string, args reflect.Type, run func(context.Context, json.RawMessage) (json.RawMessage, error), opts []HandleOption) *kind {
	if why := badName(name); why != "" {
		panic(fmt.Sprintf("job: kind %q %s", name, why))
	}
	k := &kind{name: name, span: "job.run " + name, args: args, run: run, opt: defaultHandler()}
	k.tagged = hasSecret(args)
	for _, o := range opts {
		o(&k.opt)
	}
	if k.opt.bad != "" {
		panic(fmt.Sprintf("job: kind %q: %s", name, k.opt.bad))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kinds[name] != nil {
		panic(fmt.Sprintf("job: kind %q is registered twice", name))
	}
	m.kinds[name] = k
	m.types[args] = append(m.types[args], k)
	if k.opt.sink != nil {
		m.sinks.Store(true)
	}
	if run == nil {
		return k
	}
	i, _ := slices.BinarySearch(m.served, name)
	m.served = slices.Insert(slices.Clone(m.served), i, name) // claims hold the old one
	if k.opt.keep > 0 {
		m.keeps = append(slices.Clone(m.keeps), k)
		slices.SortFunc(m.keeps, func(a, b *kind) int { return strings.Compare(a.name, b.name) })
	}
	return k
}

// kindOf finds the kind a request means.
func (m *Manager) kindOf(r *Request) (*kind, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Kind != "" {
		if k := m.kinds[r.Kind]; k != nil {
			return k, nil
		}
		return nil, invalid("Kind", "%q is neither handled nor declared here", r.Kind)
	}
	ks := m.types[reflect.TypeOf(r.Args)]
	switch {
	case r.Args == nil || len(ks) == 0:
		return nil, invalid("Kind", "is empty and no kind has args of type %T", r.Args)
	case len(ks) > 1:
		return nil, invalid("Kind", "is empty and both %q and %q have args of type %T", ks[0].name, ks[1].name, r.Args)
	}
	return ks[0], nil
}

func (m *Manager) kindNamed(name string) *kind {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kinds[name]
}
