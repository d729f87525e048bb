package dispatch

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// schema is how a command's struct is bound, compiled once at registration.
type schema struct {
	params []*param
	byName map[string]*param // lower-case names and aliases
	secret bool              // some parameter is secret
}

// param is one field of a command.
type param struct {
	name     string // as written; compared in lower case
	aliases  []string
	lower    []string // name and aliases
	doc      string
	index    []int // of the field in the struct, through embedded ones
	typ      reflect.Type
	kind     kind
	elem     *param  // of a list
	sub      *schema // of a struct or a list of structs
	pointer  bool
	required bool
	min, max *float64
	def      string
	hasDef   bool
	oneOf    []string
	pattern  *regexp.Regexp
	entity   string
	access   string
	secret   bool
	roles    []string
	since    string
	layout   string
	trim     bool
	endof    bool // of a date: the last second of its day
	minusone bool
	removed  bool // entities that are gone will do
}

// kind is what a parameter's text is read as.
type kind int

// blankIsAbsent tells whether an empty text is none.
func (k kind) blankIsAbsent() bool {
	switch k {
	case kInt, kUint, kFloat, kUUID, kTime, kDuration:
		return true
	}
	return false
}

const (
	kString kind = iota
	kBool
	kInt
	kUint
	kFloat
	kTime
	kDuration
	kUUID
	kHost
	kSecret
	kList
	kMap
	kStruct
	kStructs
	kBytes
	kText
)

var (
	typeTime     = reflect.TypeFor[time.Time]()
	typeDuration = reflect.TypeFor[time.Duration]()
	typeUUID     = reflect.TypeFor[UUID]()
	typeHost     = reflect.TypeFor[Host]()
	typeSecret   = reflect.TypeFor[Secret]()
	typeBytes    = reflect.TypeFor[[]byte]()
	typeMap      = reflect.TypeFor[map[string]string]()
	typeText     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// compile reads the tags of t; its errors name command, struct and field.
func compile(command string, t reflect.Type) (*schema, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("dispatch: command %s: %s is not a struct", command, t)
	}
	s := &schema{byName: map[string]*param{}}
	if err := s.addFields(t, nil); err != nil {
		return nil, fmt.Errorf("dispatch: command %s: %s: %w", command, t, err)
	}
	return s, nil
}

// compileSub is compile for a struct inside a command's, which no structure can be in: names have one level.
func compileSub(t reflect.Type) (*schema, error) {
	s := &schema{byName: map[string]*param{}}
	if err := s.addFields(t, nil); err != nil {
		return nil, err
	}
	for _, p := range s.params {
		if p.kind == kMap || p.kind == kStruct || p.kind == kStructs {
			return nil, fmt.Errorf("field %s: a %s inside a structure cannot be named", p.name, p.typ)
		}
	}
	return s, nil
}

func (s *schema) addFields(t reflect.Type, index []int) error {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clone(index), i)
		tag, tagged := f.Tag.Lookup("param")
		switch {
		case tag == "-":
			continue
		case f.Anonymous && f.Type.Kind() == reflect.Struct && !tagged:
			if err := s.addFields(f.Type, at); err != nil {
				return err
			}
			continue
		case !f.IsExported():
			return fmt.Errorf(`field %s: not exported (use param:"-" to leave it out)`, f.Name)
		case !tagged:
			return fmt.Errorf(`field %s: no param tag (use param:"-" to leave it out)`, f.Name)
		}
		p, err := compileParam(f.Type, tag)
		if err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
		p.index, p.doc = at, f.Tag.Get("doc")
		if err := s.add(p); err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
	}
	return nil
}

func (s *schema) add(p *param) error {
	for _, name := range append([]string{p.name}, p.aliases...) {
		lower := strings.ToLower(name)
		if other := s.byName[lower]; other != nil {
			return fmt.Errorf("parameter %q is taken by %q (names compare without letter case)", name, other.name)
		}
		s.byName[lower] = p
		p.lower = append(p.lower, lower)
	}
	s.params = append(s.params, p)
	s.secret = s.secret || p.secret || p.sub != nil && p.sub.secret
	return nil
}

func compileParam(t reflect.Type, tag string) (*param, error) {
	p := &param{typ: t}
	name, rest, _ := strings.Cut(tag, ",")
	if name == "" || strings.ContainsAny(name, "[]. ") {
		return nil, fmt.Errorf("bad parameter name %q", name)
	}
	p.name = name
	for rest != "" {
		var word string
		word, rest = cutWord(rest)
		if err := p.word(word); err != nil {
			return nil, err
		}
	}
	if t.Kind() == reflect.Pointer {
		p.pointer, p.typ = true, t.Elem()
	}
	if err := p.setKind(); err != nil {
		return nil, err
	}
	return p, p.check()
}

// cutWord takes the next tag word; a pattern runs to the end, since it may hold commas.
func cutWord(s string) (word, rest string) {
	if strings.HasPrefix(s, "pattern=") {
		return s, ""
	}
	word, rest, _ = strings.Cut(s, ",")
	return word, rest
}

func (p *param) word(w string) (err error) {
	key, val, has := strings.Cut(w, "=")
	number := func() *float64 {
		f, e := strconv.ParseFloat(val, 64)
		if e != nil {
			err = fmt.Errorf("tag word %q: not a number", w)
		}
		return &f
	}
	switch {
	case !has:
		switch key {
		case "required":
			p.required = true
		case "secret":
			p.secret = true
		case "trim":
			p.trim = true
		case "endof":
			p.endof = true
		case "minusone":
			p.minusone = true
		case "removed":
			p.removed = true
		default:
			err = fmt.Errorf("unknown tag word %q", w)
		}
	case key == "min":
		p.min = number()
	case key == "max":
		p.max = number()
	case key == "default":
		p.def, p.hasDef = val, true
	case key == "oneof":
		p.oneOf = strings.Split(val, "|")
	case key == "pattern":
		p.pattern, err = regexp.Compile("^(?:" + val + ")$")
	case key == "entity":
		p.entity = val
	case key == "access":
		p.access = val
	case key == "roles":
		p.roles = strings.Split(val, "|")
	case key == "since":
		p.since = val
	case key == "alias":
		p.aliases = append(p.aliases, val)
	case key == "layout":
		p.layout = val
	default:
		err = fmt.Errorf("unknown tag word %q", w)
	}
	return err
}

func (p *param) setKind() error {
	t := p.typ
	switch t {
	case typeTime:
		p.kind = kTime
	case typeDuration:
		p.kind = kDuration
	case typeUUID:
		p.kind = kUUID
	case typeHost:
		p.kind = kHost
	case typeSecret:
		p.kind, p.secret = kSecret, true
	case typeBytes:
		p.kind = kBytes
	case typeMap:
		p.kind = kMap
	default:
		return p.setKindByShape(t)
	}
	return nil
}

func (p *param) setKindByShape(t reflect.Type) (err error) {
	if reflect.PointerTo(t).Implements(typeText) {
		p.kind = kText
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		p.kind = kString
	case reflect.Bool:
		p.kind = kBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.kind = kInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.kind = kUint
	case reflect.Float32, reflect.Float64:
		p.kind = kFloat
	case reflect.Struct:
		p.kind = kStruct
		p.sub, err = compileSub(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct && t.Elem() != typeTime && !reflect.PointerTo(t.Elem()).Implements(typeText) {
			p.kind = kStructs
			p.sub, err = compileSub(t.Elem())
			return err
		}
		elem := *p
		elem.typ, elem.pointer, elem.required, elem.hasDef, elem.min, elem.max = t.Elem(), false, false, false, nil, nil
		p.kind, p.elem = kList, &elem
		if err = elem.setKind(); err == nil && elem.kind >= kList && elem.kind != kText {
			err = fmt.Errorf("unknown type %s", t)
		}
	default:
		err = fmt.Errorf("unknown type %s", t)
	}
	return err
}

// check refuses tags that contradict each other or the type.
func (p *param) check() error {
	numeric := p.kind == kInt || p.kind == kUint || p.kind == kFloat || p.kind == kDuration
	sized := numeric || p.kind == kString || p.kind == kSecret || p.kind == kBytes || p.kind == kList
	leaf := p
	if p.elem != nil {
		leaf = p.elem
	}
	switch {
	case p.required && p.hasDef:
		return fmt.Errorf("required and default contradict each other")
	case p.min != nil && p.max != nil && *p.min > *p.max:
		return fmt.Errorf("min %v is above max %v", *p.min, *p.max)
	case (p.min != nil || p.max != nil) && !sized:
		return fmt.Errorf("min and max do not go with %s", p.typ)
	case p.oneOf != nil && leaf.kind != kString:
		return fmt.Errorf("oneof does not go with %s", p.typ)
	case p.pattern != nil && leaf.kind != kString:
		return fmt.Errorf("pattern does not go with %s", p.typ)
	case p.layout != "" && (p.kind != kTime || p.layout != "date" && p.layout != "datetime"):
		return fmt.Errorf("layout=%s does not go with %s", p.layout, p.typ)
	case numeric && p.kind != kFloat && (inexact(p.min) || inexact(p.max)):
		return fmt.Errorf("min and max go up to 2^53")
	case p.secret && leaf.kind != kString && leaf.kind != kSecret && leaf.kind != kBytes:
		return fmt.Errorf("secret does not go with %s", p.typ)
	case p.entity != "" && leaf.kind != kUUID:
		return fmt.Errorf("entity does not go with %s, only with UUID", p.typ)
	case p.entity == "" && (p.access != "" || p.removed):
		return fmt.Errorf("access and removed go with entity")
	case p.minusone && leaf.kind != kUUID, p.endof && p.kind != kTime, p.trim && p.kind != kString && p.kind != kSecret:
		return fmt.Errorf("trim, endof or minusone does not go with %s", p.typ)
	case p.hasDef && (p.kind == kMap || p.kind == kStruct || p.kind == kStructs):
		return fmt.Errorf("default does not go with %s", p.typ)
	}
	if p.hasDef { // a default must bind
		v := reflect.New(p.typ).Elem()
		if fe := p.parse(p.def, v); fe != nil {
			return fmt.Errorf("default: %w", fe)
		}
	}
	return nil
}

// inexact tells whether a limit is beyond what a float64 counts exactly.
func inexact(limit *float64) bool { return limit != nil && math.Abs(*limit) > 1<<53 }
