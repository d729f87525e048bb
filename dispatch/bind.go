package dispatch

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

const (
	defaultMaxString = 255
	maxListItems     = 1000
)

// bind fills the struct v by s. allowed tells which role-restricted parameters the caller may pass; nil allows all. Every
// fault is collected, in the order of the fields.
func (s *schema) bind(vs *values, v reflect.Value, allowed func(*param) bool) (bad []*FieldError) {
	for _, p := range s.params {
		if p.roles != nil && allowed != nil && !allowed(p) {
			continue // to this caller the parameter does not exist
		}
		if fe := p.bind(vs, v.FieldByIndex(p.index), &bad); fe != nil {
			bad = append(bad, fe)
		}
	}
	return bad
}

func (p *param) bind(vs *values, v reflect.Value, bad *[]*FieldError) *FieldError {
	if p.kind == kMap || p.kind == kStruct || p.kind == kStructs {
		return p.bindStructure(vs, v, bad)
	}
	text, given := "", false
	for _, name := range p.lower {
		if t, ok := vs.plain[name]; ok {
			if given && t != text {
				return p.fault(Duplicate, t, "one of the parameter's names")
			}
			text, given = t, true
		}
	}
	if !given {
		for _, name := range p.lower {
			if _, structured := vs.lists[name]; structured {
				return p.fault(BadType, name+"[…]", "a single value")
			}
		}
	}
	if p.words["trim"] {
		text = strings.TrimSpace(text)
	}
	if given && text == "" && (p.kind == kInt || p.kind == kUint || p.kind == kFloat || p.kind == kUUID || p.kind == kTime || p.kind == kDuration) {
		given = false // blank counts as absent
	}
	switch {
	case given:
	case p.hasDef:
		text = p.def
	case p.required:
		return p.fault(Missing, "", "")
	default:
		return nil
	}
	return p.parse(text, p.target(v))
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

// bindStructure binds what comes as name[index].field. Faults inside are appended to bad; the one returned is of the whole.
func (p *param) bindStructure(vs *values, v reflect.Value, bad *[]*FieldError) *FieldError {
	var list []element
	for _, name := range p.lower {
		if t, plain := vs.plain[name]; plain && t != "" {
			return p.fault(BadType, t, p.name+"[0].…")
		}
		list = append(list, vs.lists[name]...)
	}
	if len(list) == 0 {
		if p.required {
			return p.fault(Missing, "", "")
		}
		return nil
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
		*bad = append(*bad, p.bindElement(list[0], v)...)
	default:
		if len(list) > maxListItems {
			return p.fault(TooLong, p.name, fmt.Sprintf("at most %d", maxListItems))
		}
		out := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, e := range list {
			*bad = append(*bad, p.bindElement(e, out.Index(i))...)
		}
		v.Set(out)
	}
	return nil
}

func (p *param) bindElement(e element, v reflect.Value) []*FieldError {
	inner := values{plain: make(map[string]string, len(e.fields))}
	for _, f := range e.fields {
		inner.plain[f.lower] = f.value
	}
	bad := p.sub.bind(&inner, v, nil)
	for _, f := range e.fields {
		if p.sub.byName[f.lower] == nil {
			bad = append(bad, &FieldError{Field: f.sent, Reason: Unknown})
		}
	}
	for _, fe := range bad {
		fe.Field = fmt.Sprintf("%s[%d].%s", p.name, e.index, fe.Field)
	}
	return bad
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
	if len(m) > maxListItems {
		return nil, p.fault(TooLong, p.name, fmt.Sprintf("at most %d", maxListItems))
	}
	return m, nil
}
