package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultMaxString = 255
	maxListItems     = 1000
)

// bind makes the command's struct of what was unpacked. Every fault is collected.
func (p *pass) bind(ctx context.Context) (any, error) {
	value := p.cmd.fresh()
	b := binder{pass: p}
	b.schema(p.cmd.schema, &p.values, reflect.ValueOf(value).Elem(), -1, "")
	if len(b.refs) > 0 {
		if err := b.lookup(ctx); err != nil {
			return nil, err
		}
	}
	p.used, p.unknown = b.used, b.unknown
	if len(b.bad) == 0 {
		return value, nil
	}
	slices.SortStableFunc(b.bad, func(x, y fault) int { return cmp.Compare(x.at, y.at) })
	bad := make([]*FieldError, len(b.bad))
	for i, f := range b.bad {
		bad[i] = f.FieldError
	}
	return nil, fieldsError(bad)
}

// binder collects what binding finds.
type binder struct {
	pass    *pass
	used    int      // names of values that the command has
	unknown []string // members of structures that it does not have
	bad     []fault
	refs    []ref
}

// fault is one with the position of its field in the command.
type fault struct {
	at int
	*FieldError
}

// ref is an entity that a parameter names.
type ref struct {
	at    int
	p     *param
	field string
	id    string
}

// schema binds the struct v. at is the position of the field it belongs to, -1 at the top; prefix names it.
func (b *binder) schema(s *schema, vs *values, v reflect.Value, at int, prefix string) {
	for i, p := range s.params {
		n := at
		if n < 0 {
			n = i
		}
		have := len(b.bad)
		if fe := b.param(p, vs, v.FieldByIndex(p.index), n, prefix); fe != nil {
			fe.Field = prefix + fe.Field
			b.bad = append(b.bad, fault{n, fe})
		}
		if p.entity != "" && len(b.bad) == have {
			b.note(p, v.FieldByIndex(p.index), n, prefix)
		}
	}
}

func (b *binder) param(p *param, vs *values, v reflect.Value, at int, prefix string) *FieldError {
	allowed := p.roles == nil || b.pass.allowed(p.roles) // else to this caller the parameter does not exist
	if p.kind == kMap || p.kind == kStruct || p.kind == kStructs {
		if !allowed {
			return nil
		}
		return b.structure(p, vs, v, at, prefix)
	}
	text, given := "", false
	if allowed {
		var fe *FieldError
		if text, given, fe = b.text(p, vs); fe != nil {
			return fe
		}
	}
	switch {
	case given && (text != "" || !p.required):
	case !given && p.hasDef:
		text = p.def
	case p.required && allowed:
		return p.fault(Missing, "", "")
	default:
		return nil
	}
	return p.parse(text, p.target(v))
}

// text finds what was given under one of the parameter's names. Blank counts as absent, but for texts and lists.
func (b *binder) text(p *param, vs *values) (text string, given bool, fe *FieldError) {
	for _, name := range p.lower {
		t, ok := vs.plain[name]
		if !ok {
			continue
		}
		b.used++
		if given && t != text {
			return "", false, p.fault(Duplicate, t, "one of the parameter's names")
		}
		text, given = t, true
	}
	if !given && len(vs.lists) > 0 {
		for _, name := range p.lower {
			if _, structured := vs.lists[name]; structured {
				b.used++
				return "", false, p.fault(BadType, name+"[…]", "a single value")
			}
		}
	}
	if p.trim {
		text = strings.TrimSpace(text)
	}
	if text == "" && p.kind.blankIsAbsent() {
		given = false
	}
	return text, given, nil
}

// target is where the value goes: behind the pointer if the field is one.
func (p *param) target(v reflect.Value) reflect.Value {
	if !p.pointer {
		return v
	}
	v.Set(reflect.New(p.typ))
	return v.Elem()
}

func (p *param) fault(reason, value, limit string) *FieldError {
	if p.secret {
		value = redacted
	}
	return &FieldError{Field: p.name, Reason: reason, Value: printable(value), Limit: limit}
}

// structure binds what comes as name[index].field. Faults inside are collected; the one returned is of the whole.
func (b *binder) structure(p *param, vs *values, v reflect.Value, at int, prefix string) *FieldError {
	var list []element
	for _, name := range p.lower {
		t, plain := vs.plain[name]
		if plain {
			b.used++
		}
		if t != "" {
			return p.fault(BadType, t, p.name+"[0].…")
		}
		if l, has := vs.lists[name]; has {
			b.used++
			list = append(list, l...)
		}
	}
	if len(list) == 0 {
		if p.required {
			return p.fault(Missing, "", "")
		}
		return nil
	}
	if len(list) > maxListItems {
		return p.fault(TooLong, p.name, fmt.Sprintf("at most %d", maxListItems))
	}
	v = p.target(v)
	switch p.kind {
	case kMap:
		m, fe := p.pairs(list)
		if fe == nil {
			v.Set(reflect.ValueOf(m))
		}
		return fe
	case kStruct:
		if len(list) != 1 || list[0].index != 0 {
			return p.fault(Other, p.name+"["+strconv.Itoa(list[len(list)-1].index)+"]", "exactly index 0")
		}
		b.element(p, list[0], v, at, prefix)
	default:
		out := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, e := range list {
			b.element(p, e, out.Index(i), at, prefix)
		}
		v.Set(out)
	}
	return nil
}

func (b *binder) element(p *param, e element, v reflect.Value, at int, prefix string) {
	inner := values{plain: make(map[string]string, len(e.fields))}
	prefix = fmt.Sprintf("%s%s[%d].", prefix, p.name, e.index)
	for _, f := range e.fields {
		inner.plain[f.lower] = f.value
		if x := p.sub.byName[f.lower]; x == nil || !b.pass.allowed(x.roles) {
			b.unknown = append(b.unknown, prefix+printable(f.sent))
		}
	}
	used := b.used
	b.schema(p.sub, &inner, v, at, prefix)
	b.used = used // members are counted with their structure
}

// pairs reads p[i].key=k&p[i].value=v and p[i].k=v, mixed as one likes.
func (p *param) pairs(list []element) (map[string]string, *FieldError) {
	m := make(map[string]string, len(list))
	put := func(e element, k, v string) *FieldError {
		if _, twice := m[k]; twice {
			return &FieldError{Field: fmt.Sprintf("%s[%d]", p.name, e.index), Reason: Duplicate, Value: printable(k)}
		}
		m[k] = v
		return nil
	}
	for _, e := range list {
		key, hasKey := e.get("key")
		value, hasValue := e.get("value")
		if len(e.fields) == 2 && hasKey && hasValue {
			if fe := put(e, key, value); fe != nil {
				return nil, fe
			}
			continue
		}
		for _, f := range e.fields {
			if fe := put(e, f.sent, f.value); fe != nil {
				return nil, fe
			}
		}
	}
	return m, nil
}
