package dispatch

import (
	"context"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// CommandInfo describes a command. Slices are empty, never nil, since clients of listings read them unchecked.
type CommandInfo struct {
	Name       string      `json:"name"`
	Version    string      `json:"version"`
	Doc        string      `json:"description"`
	Mode       string      `json:"mode"` // sync, list, async, async-create
	Async      bool        `json:"isasync"`
	Since      string      `json:"since"`
	Deprecated string      `json:"deprecated,omitempty"`
	Roles      []string    `json:"roles"`
	Params     []ParamInfo `json:"params"`
	Response   []FieldInfo `json:"response"`
	Errors     []Code      `json:"errors"`
}

// ParamInfo describes a parameter. Type is one of uuid string boolean integer long short float double date list map.
type ParamInfo struct {
	Name     string      `json:"name"`
	Aliases  []string    `json:"aliases"`
	Type     string      `json:"type"`
	Required bool        `json:"required"`
	Doc      string      `json:"description"`
	Max      int64       `json:"max,omitempty"`
	Min      int64       `json:"min,omitempty"`
	Default  string      `json:"default,omitempty"` // never of a secret
	OneOf    []string    `json:"oneof"`
	Entity   string      `json:"entity,omitempty"`
	Roles    []string    `json:"roles"`
	Since    string      `json:"since,omitempty"`
	Secret   bool        `json:"secret,omitempty"`
	Fields   []ParamInfo `json:"fields"` // of a structure; a map without any takes all names
}

// FieldInfo describes a member of a response, nested one level.
type FieldInfo struct {
	Name   string      `json:"name"`
	Type   string      `json:"type"`
	Doc    string      `json:"description"`
	Fields []FieldInfo `json:"fields"`
}

// Catalog lists the commands that the caller may use, by name, then version, with the parameters it may pass.
func (r *Registry) Catalog(ctx context.Context, caller any) []CommandInfo {
	r.seal()
	p := &pass{Context: ctx, reg: r, c: Command{Caller: caller}}
	out := []CommandInfo{}
	for _, versions := range r.commands {
		for _, c := range versions {
			if p.permit(ctx, nil, c) != nil {
				continue
			}
			info := c.info
			info.Params = slices.DeleteFunc(slices.Clone(info.Params), func(x ParamInfo) bool { return !p.allowed(x.Roles) })
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b CommandInfo) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		return compareVersions(a.Version, b.Version)
	})
	return out
}

func describe(name, mode string, o *options, s *schema, result reflect.Type) CommandInfo {
	info := CommandInfo{
		Name: name, Version: o.version, Doc: o.doc, Mode: mode, Async: strings.HasPrefix(mode, "async"), Since: o.since, Deprecated: o.deprecated,
		Roles: filled(o.roles), Params: []ParamInfo{}, Response: filled(fieldsOf(result, 0)), Errors: filled(o.errors),
	}
	for _, p := range s.params {
		info.Params = append(info.Params, p.describe())
	}
	return info
}

func filled[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (p *param) describe() ParamInfo {
	i := ParamInfo{Name: p.name, Aliases: filled(p.aliases), Type: p.kind.word(p.typ), Required: p.required, Doc: p.doc, OneOf: filled(p.oneOf),
		Entity: p.entity, Roles: filled(p.roles), Since: p.since, Secret: p.secret}
	i.Fields = []ParamInfo{}
	if p.sub != nil {
		for _, x := range p.sub.params {
			i.Fields = append(i.Fields, x.describe())
		}
	}
	if !p.secret {
		i.Default = p.def
	}
	if p.min != nil {
		i.Min = int64(*p.min)
	}
	if p.max != nil {
		i.Max = int64(*p.max)
	} else if p.kind == kString || p.kind == kSecret {
		i.Max = defaultMaxString
	}
	return i
}

// word is the type's name in listings.
func (k kind) word(t reflect.Type) string {
	switch k {
	case kUUID:
		return "uuid"
	case kBool:
		return "boolean"
	case kTime:
		return "date"
	case kList:
		return "list"
	case kMap, kStruct, kStructs:
		return "map"
	case kFloat:
		if t.Kind() == reflect.Float32 {
			return "float"
		}
		return "double"
	case kInt, kUint:
		switch t.Bits() {
		case 8, 16:
			return "short"
		case 32:
			return "integer"
		}
		if t.Kind() == reflect.Int || t.Kind() == reflect.Uint {
			return "integer"
		}
		return "long"
	}
	return "string"
}

// fieldsOf reads the json and doc tags of a result; recursion ends after one nested level.
func fieldsOf(t reflect.Type, depth int) (fields []FieldInfo) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.ConvertibleTo(typeTime) || depth > 1 {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && name == "":
			fields = append(fields, fieldsOf(f.Type, depth)...)
			continue
		case name == "":
			name = f.Name
		}
		fields = append(fields, FieldInfo{Name: name, Type: jsonType(f.Type), Doc: f.Tag.Get("doc"), Fields: filled(fieldsOf(f.Type, depth+1))})
	}
	return fields
}

func jsonType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return "map"
	case t == reflect.TypeFor[[]byte]():
		return "string"
	case t.ConvertibleTo(typeTime):
		return "date"
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()), t.Implements(reflect.TypeFor[json.Marshaler]()):
		return "string"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return "integer"
	case reflect.Int64, reflect.Uint64:
		return "long"
	case reflect.Float32:
		return "float"
	case reflect.Float64:
		return "double"
	case reflect.Slice, reflect.Array:
		return "list"
	case reflect.Map:
		return "map"
	case reflect.Struct:
		return "map"
	}
	return "string"
}
