package bus

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"
)

// Topic is the typed face of one method. An empty Method is "handle", an empty Version "1.0".
type Topic[Req, Rep any] struct{ Name, Namespace, Method, Version string }

// decodeError says that a body cannot be read: nothing ran.
type decodeError struct{ err error }

func (e *decodeError) Error() string        { return ErrInvalid.Error() + ": body: " + e.err.Error() }
func (e *decodeError) Is(target error) bool { return target == ErrInvalid }

// To is the message of r to: "" any one, "*" all, "#key" the owner of a key, else a node.
func (t Topic[Req, Rep]) To(b *Bus, to string, r Req) (*Message, error) {
	m := &Message{Topic: t.Name, Namespace: t.Namespace, Method: cmp.Or(t.Method, "handle"), Version: t.Version}
	switch {
	case to == "*":
		m.Fanout = true
	case strings.HasPrefix(to, "#"):
		if m.Key = to[1:]; m.Key == "" {
			return nil, invalid("an empty key")
		}
	default:
		m.Node = to
	}
	var err error
	if m.Body, err = b.cfg.Codec.Marshal(r); err != nil {
		return nil, &fault{kind: ErrInvalid, cause: err, text: "body: " + err.Error()}
	}
	return m, nil
}

// Call sends r and reads the answer; see Bus.Call.
func (t Topic[Req, Rep]) Call(ctx context.Context, b *Bus, to string, r Req, opts ...CallOption) (rep Rep, err error) {
	m, err := t.To(b, to, r)
	if err != nil {
		return rep, err
	}
	body, err := b.Call(ctx, m, opts...)
	if err != nil {
		return rep, err
	}
	return t.read(b, body)
}

func (t Topic[Req, Rep]) read(b *Bus, body []byte) (rep Rep, err error) {
	if err := b.cfg.Codec.Unmarshal(body, &rep); err != nil {
		return rep, &RemoteError{Code: "invalid", Text: "the reply of " + t.Name + " cannot be read: " + err.Error()}
	}
	return rep, nil
}

// Cast sends r; see Bus.Cast.
func (t Topic[Req, Rep]) Cast(ctx context.Context, b *Bus, to string, r Req, opts ...CallOption) error {
	m, err := t.To(b, to, r)
	if err != nil {
		return err
	}
	return b.Cast(ctx, m, opts...)
}

// Answer is what a node of a Scatter answered.
type Answer[Rep any] struct {
	Rep Rep
	Err error
}

// Scatter calls one after the other of to, parallel at a time; see Bus.Scatter.
func (t Topic[Req, Rep]) Scatter(ctx context.Context, b *Bus, to []string, r Req, parallel int, opts ...CallOption) iter.Seq2[int, Answer[Rep]] {
	return func(yield func(int, Answer[Rep]) bool) {
		ms := make([]*Message, len(to))
		for i := range to {
			var err error
			if ms[i], err = t.To(b, to[i], r); err != nil {
				ms[i] = nil // refused by Call
			}
		}
		for i, reply := range b.Scatter(ctx, ms, parallel, opts...) {
			a := Answer[Rep]{Err: reply.Err}
			if a.Err == nil {
				a.Rep, a.Err = t.read(b, reply.Body)
			}
			if !yield(i, a) {
				return
			}
		}
	}
}

// Handle serves the method with f, at an endpoint of its own; stop takes it away. It panics as Bus.Serve does. A body that
// is no Req never reaches f: its caller gets ErrInvalid.
func (t Topic[Req, Rep]) Handle(b *Bus, f func(ctx context.Context, r Req) (Rep, error), opts ...func(*Endpoint)) (stop func()) {
	ep := &Endpoint{Namespace: t.Namespace, Version: t.Version}
	for _, o := range opts {
		o(ep)
	}
	HandleFunc(ep, cmp.Or(t.Method, "handle"), Typed(b, f))
	return b.Serve(t.Name, ep)
}

// Typed is f as a function of HandleFunc, by b's codec.
func Typed[Req, Rep any](b *Bus, f func(ctx context.Context, r Req) (Rep, error)) func(ctx context.Context, m *Message) ([]byte, error) {
	return func(ctx context.Context, m *Message) ([]byte, error) {
		if name := m.Wire.Codec; name != "" && name != b.cfg.Codec.Name() {
			return nil, &decodeError{fmt.Errorf("codec %q is unknown here", name)}
		}
		var r Req
		if err := b.cfg.Codec.Unmarshal(m.Body, &r); err != nil {
			return nil, &decodeError{err}
		}
		rep, err := f(ctx, r)
		if err != nil {
			return nil, err
		}
		body, err := b.cfg.Codec.Marshal(rep)
		if err != nil {
			return nil, fmt.Errorf("bus: the reply cannot be written: %w", err)
		}
		return body, nil
	}
}
