package conductor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The wire form of a value is JSON in which a struct has its non-zero exported fields only, by their Go names, nil and empty
// differ, bytes are base64 (a json.RawMessage is itself, in brackets) and times RFC 3339 in nanoseconds. What reads it never makes a value that its type cannot hold.

const maxDepth = 64

var (
	timeType  = reflect.TypeFor[time.Time]()
	rawType   = reflect.TypeFor[json.RawMessage]()
	errorType = reflect.TypeFor[error]()
)

// encode is v on the wire.
func encode(v any) (json.RawMessage, error) {
	b, err := appendValue(nil, reflect.ValueOf(v), 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return b, nil
}

func appendValue(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	switch v.Type() {
	case timeType:
		return appendTime(b, v.Interface().(time.Time)), nil
	case errorType:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return appendText(b, v.Interface().(error).Error())
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		n, err := json.Marshal(v.Float())
		return append(b, n...), err
	case reflect.String:
		return appendText(b, v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return appendValue(b, v.Elem(), depth+1)
	case reflect.Slice:
		return appendSlice(b, v, depth)
	case reflect.Map:
		return appendMap(b, v, depth)
	case reflect.Struct:
		return appendStruct(b, v, depth)
	}
	return nil, fmt.Errorf("a %s cannot be sent", v.Type())
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	if !t.IsZero() {
		b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	}
	return append(b, '"')
}

func appendText(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%.40q is not UTF-8", s)
	}
	q, err := json.Marshal(s)
	return append(b, q...), err
}

func appendSlice(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	if v.Type() == rawType && v.Len() > 0 && json.Valid(v.Bytes()) {
		return append(append(append(b, '['), v.Bytes()...), ']'), nil
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"'), nil
	}
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, v.Index(i), depth+1); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	if v.Type().Key().Kind() != reflect.String {
		return nil, fmt.Errorf("a %s cannot be sent", v.Type())
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendText(b, k.String()); err != nil {
			return nil, err
		}
		if b, err = appendValue(append(b, ':'), v.MapIndex(k), depth+1); err != nil {
			return nil, fmt.Errorf("[%q]: %w", k.String(), err)
		}
	}
	return append(b, '}'), nil
}

func appendStruct(b []byte, v reflect.Value, depth int) ([]byte, error) {
	b = append(b, '{')
	first := true
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || v.Field(i).IsZero() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(append(append(b, '"'), f.Name...), '"', ':')
		var err error
		if b, err = appendValue(b, v.Field(i), depth+1); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return append(b, '}'), nil
}

// decode reads into the value that to points at. strict: a field that its type has not is an error, else it is left out.
func decode(raw json.RawMessage, to any, strict bool) error {
	if !json.Valid(raw) {
		return fmt.Errorf("%w: not JSON", errInvalid)
	}
	if err := (&decoder{strict}).value(raw, reflect.ValueOf(to).Elem(), 0); err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	return nil
}

type decoder struct{ strict bool }

func (d *decoder) value(raw json.RawMessage, v reflect.Value, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deeply")
	}
	raw = bytes.TrimSpace(raw)
	if string(raw) == "null" {
		v.SetZero()
		return nil
	}
	switch v.Type() {
	case timeType:
		return setTime(raw, v)
	case errorType:
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return errors.New("not a text")
		}
		v.Set(reflect.ValueOf(errors.New(s)))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := d.value(raw, p.Elem(), depth+1); err != nil {
			return err
		}
		v.Set(p)
		return nil
	case reflect.Slice:
		return d.slice(raw, v, depth)
	case reflect.Map:
		return d.mapping(raw, v, depth)
	case reflect.Struct:
		return d.structure(raw, v, depth)
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.Array, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return fmt.Errorf("a %s cannot be read", v.Type())
	}
	p := reflect.New(v.Type())
	if err := json.Unmarshal(raw, p.Interface()); err != nil {
		return fmt.Errorf("not a %s", v.Kind())
	}
	v.Set(p.Elem())
	return nil
}

func setTime(raw json.RawMessage, v reflect.Value) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return errors.New("not a time")
	}
	if s == "" {
		v.SetZero()
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return errors.New("not a time")
	}
	v.Set(reflect.ValueOf(t.UTC()))
	return nil
}

func (d *decoder) slice(raw json.RawMessage, v reflect.Value, depth int) error {
	if v.Type() == rawType && raw[0] == '[' {
		inner := raw[1 : len(raw)-1]
		if !json.Valid(inner) {
			return errors.New("not one value in brackets")
		}
		v.SetBytes(bytes.Clone(inner))
		return nil
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		var b []byte
		if err := json.Unmarshal(raw, &b); err != nil {
			return errors.New("not base64")
		}
		if b == nil {
			b = []byte{}
		}
		v.Set(reflect.ValueOf(b).Convert(v.Type()))
		return nil
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return errors.New("not a list")
	}
	s := reflect.MakeSlice(v.Type(), len(parts), len(parts))
	for i, p := range parts {
		if err := d.value(p, s.Index(i), depth+1); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	v.Set(s)
	return nil
}

func (d *decoder) mapping(raw json.RawMessage, v reflect.Value, depth int) error {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil || v.Type().Key().Kind() != reflect.String {
		return errors.New("not a map")
	}
	m := reflect.MakeMapWithSize(v.Type(), len(parts))
	for _, k := range sorted(parts) {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(parts[k], e, depth+1); err != nil {
			return fmt.Errorf("[%q]: %w", k, err)
		}
		m.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), e)
	}
	v.Set(m)
	return nil
}

func (d *decoder) structure(raw json.RawMessage, v reflect.Value, depth int) error {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return errors.New("not an object")
	}
	v.SetZero()
	return d.fields(parts, v, depth)
}

// fields sets those fields of a struct that parts has.
func (d *decoder) fields(parts map[string]json.RawMessage, v reflect.Value, depth int) error {
	for _, name := range sorted(parts) {
		f, ok := v.Type().FieldByName(name)
		if !ok || len(f.Index) != 1 || !f.IsExported() {
			if d.strict {
				return fmt.Errorf("%s has no field %.64q", v.Type(), name)
			}
			continue
		}
		if err := d.value(parts[name], v.Field(f.Index[0]), depth+1); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
