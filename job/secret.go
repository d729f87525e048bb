package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Cipher seals what is secret before it is stored, and opens it for the handler; it is the host's, and so are its keys. Every node
// must open what any has sealed. Its methods may be called from anywhere.
type Cipher interface {
	Seal(ctx context.Context, plain []byte) ([]byte, error)
	Open(ctx context.Context, sealed []byte) ([]byte, error)
}

// sealedKey is the only field of the object that stands for a sealed value.
const sealedKey = "$sealed"

type sealedValue struct {
	Sealed []byte `json:"$sealed"`
}

// secretTag knows the word in the tags drover and param, and a tag of its own.
func secretTag(tag reflect.StructTag) bool {
	if _, ok := tag.Lookup("secret"); ok {
		return true
	}
	return slices.Contains(strings.Split(tag.Get("drover")+","+tag.Get("param"), ","), "secret")
}

// hasSecret says whether a value of type t has a field that is tagged secret.
func hasSecret(t reflect.Type, within ...reflect.Type) bool {
	t = elem(t)
	if t.Kind() != reflect.Struct || slices.Contains(within, t) {
		return false
	}
	for i := range t.NumField() {
		if f := t.Field(i); secretTag(f.Tag) || hasSecret(f.Type, append(slices.Clip(within), t)...) {
			return true
		}
	}
	return false
}

func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}

// secretive says that a kind's args are not stored as they are.
func (k *kind) secretive() bool { return k.opt.sensitive || k.tagged }

// seal makes the stored form of a kind's args.
func (m *Manager) seal(ctx context.Context, k *kind, args json.RawMessage) (json.RawMessage, error) {
	switch {
	case !k.secretive() || string(args) == "null":
		return args, nil
	case m.cfg.Cipher == nil:
		return nil, invalid("Args", "kind %q has secrets, so Config.Cipher is required", k.name)
	case bytes.Contains(args, []byte(sealedKey)) || bytes.Contains(bytes.ToLower(args), []byte(`\u0024`)):
		return nil, invalid("Args", "%q may not stand in args that are sealed", sealedKey)
	case k.opt.sensitive:
		return m.sealValue(ctx, args)
	}
	return m.sealIn(ctx, k.args, args)
}

func (m *Manager) sealValue(ctx context.Context, v json.RawMessage) (json.RawMessage, error) {
	sealed, err := m.cfg.Cipher.Seal(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("job: Args not sealed: %w", err)
	}
	return json.Marshal(sealedValue{sealed})
}

// sealIn seals the tagged fields within v, the JSON of a t.
func (m *Manager) sealIn(ctx context.Context, t reflect.Type, v json.RawMessage) (json.RawMessage, error) {
	if !hasSecret(t) || string(v) == "null" {
		return v, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return m.sealIn(ctx, t.Elem(), v)
	case reflect.Slice, reflect.Array:
		var vs []json.RawMessage
		if json.Unmarshal(v, &vs) != nil {
			return nil, misfit(t)
		}
		for i := range vs {
			var err error
			if vs[i], err = m.sealIn(ctx, t.Elem(), vs[i]); err != nil {
				return nil, err
			}
		}
		return json.Marshal(vs)
	}
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(v, &fields) != nil {
		return nil, misfit(t)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var err error
		if t.Kind() == reflect.Map {
			fields[name], err = m.sealIn(ctx, t.Elem(), fields[name])
		} else {
			fields[name], err = m.sealField(ctx, t, name, fields[name])
		}
		if err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

// sealField seals v, which encoding/json would decode into the field of that name, if it is secret. Where fields of one name hide
// each other, one that is secret makes all so.
func (m *Manager) sealField(ctx context.Context, t reflect.Type, name string, v json.RawMessage) (json.RawMessage, error) {
	for i := range t.NumField() {
		f := t.Field(i)
		own, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && own == "" && elem(f.Type).Kind() == reflect.Struct {
			sealed, err := m.sealField(ctx, elem(f.Type), name, v)
			if err != nil || !bytes.Equal(sealed, v) {
				return sealed, err
			}
			continue
		}
		if own == "" {
			own = f.Name
		}
		if !strings.EqualFold(own, name) {
			continue
		}
		if secretTag(f.Tag) && string(v) != "null" {
			return m.sealValue(ctx, v)
		}
		if sealed, err := m.sealIn(ctx, f.Type, v); err != nil || !bytes.Equal(sealed, v) {
			return sealed, err
		}
	}
	return v, nil
}

// misfit does not say what does not fit: it may be the secret.
func misfit(t reflect.Type) error { return invalid("Args", "do not fit %s", t) }

// open is the reverse of seal.
func (m *Manager) open(ctx context.Context, k *kind, args json.RawMessage) (json.RawMessage, error) {
	if !k.secretive() || !bytes.Contains(args, []byte(sealedKey)) {
		return args, nil
	}
	if m.cfg.Cipher == nil {
		return nil, invalid("Cipher", "is required to open the args of kind %q", k.name)
	}
	return m.openIn(ctx, args)
}

func (m *Manager) openIn(ctx context.Context, v json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(v, []byte(sealedKey)) {
		return v, nil
	}
	var err error
	switch v[0] {
	case '[':
		var vs []json.RawMessage
		if err := json.Unmarshal(v, &vs); err != nil {
			return nil, err
		}
		for i := range vs {
			if vs[i], err = m.openIn(ctx, vs[i]); err != nil {
				return nil, err
			}
		}
		return json.Marshal(vs)
	case '{':
		fields := map[string]json.RawMessage{}
		if err := json.Unmarshal(v, &fields); err != nil {
			return nil, err
		}
		if sealed, ok := fields[sealedKey]; ok && len(fields) == 1 {
			var b []byte
			if err := json.Unmarshal(sealed, &b); err != nil {
				return nil, err
			}
			return m.cfg.Cipher.Open(ctx, b)
		}
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			if fields[name], err = m.openIn(ctx, fields[name]); err != nil {
				return nil, err
			}
		}
		return json.Marshal(fields)
	}
	return v, nil
}

// opened runs f with the run's args as they were submitted. What cannot be decoded is not told of secret ones.
func (r *run) opened(ctx context.Context, f func(context.Context, json.RawMessage) (json.RawMessage, error)) (json.RawMessage, error) {
	if !r.kind.secretive() {
		return f(ctx, r.row.Args)
	}
	args, err := r.m.open(ctx, r.kind, r.row.Args)
	if err != nil {
		return nil, fmt.Errorf("job: Args not opened: %w", err)
	}
	out, err := f(ctx, args)
	if bad := (*argsError)(nil); errors.As(err, &bad) {
		err = Permanent(&FieldError{"Args", "cannot be decoded"})
	}
	return out, err
}
