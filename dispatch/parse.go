package dispatch

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parse reads text into v by the parameter's type and checks it by its tags.
func (p *param) parse(text string, v reflect.Value) *FieldError {
	switch p.kind {
	case kString, kSecret:
		return p.parseString(text, v)
	case kBool:
		switch strings.ToLower(text) {
		case "true", "1", "yes":
			v.SetBool(true)
		case "false", "0", "no":
			v.SetBool(false)
		default:
			return p.fault(BadType, text, "true or false")
		}
	case kInt:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return p.number(err, text)
		}
		v.SetInt(n)
		return p.inRange(float64(n), text)
	case kUint:
		n, err := strconv.ParseUint(strings.TrimPrefix(text, "+"), 10, v.Type().Bits())
		if err != nil {
			return p.number(err, text)
		}
		v.SetUint(n)
		return p.inRange(float64(n), text)
	case kFloat:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || strings.ContainsAny(text, "xX_") {
			return p.number(err, text)
		}
		v.SetFloat(f)
		return p.inRange(f, text)
	case kTime:
		t, ok := parseTime(text, p.layout, p.endof)
		if !ok {
			return p.fault(BadType, text, "a date")
		}
		v.Set(reflect.ValueOf(t))
	case kDuration:
		return p.parseDuration(text, v)
	case kUUID:
		return p.parseUUID(text, v)
	case kHost:
		if !isHost(text) {
			return p.fault(NoMatch, text, "1 to 63 letters, digits and inner hyphens, starting with a letter")
		}
		v.SetString(text)
	case kList:
		return p.parseList(text, v)
	case kBytes:
		return p.parseBytes(text, v)
	case kText:
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			return p.fault(BadType, text, err.Error())
		}
	}
	return nil
}

func (p *param) number(err error, text string) *FieldError {
	if err != nil && strings.Contains(err.Error(), "out of range") {
		return p.fault(OutOfRange, text, "a number of type "+p.typ.String())
	}
	return p.fault(BadType, text, "a number")
}

func (p *param) inRange(n float64, text string) *FieldError {
	if p.min != nil && n < *p.min {
		return p.fault(OutOfRange, text, fmt.Sprintf("at least %v", *p.min))
	}
	if p.max != nil && n > *p.max {
		return p.fault(OutOfRange, text, fmt.Sprintf("at most %v", *p.max))
	}
	return nil
}

// length checks what is counted in bytes or items.
func (p *param) length(n int, limit float64, text string) *FieldError {
	if p.max != nil {
		limit = *p.max
	}
	if float64(n) > limit {
		return p.fault(TooLong, text, fmt.Sprintf("at most %v", limit))
	}
	if p.min != nil && float64(n) < *p.min {
		return p.fault(TooShort, text, fmt.Sprintf("at least %v", *p.min))
	}
	return nil
}

func (p *param) parseString(text string, v reflect.Value) *FieldError {
	if fe := p.length(len(text), defaultMaxString, text); fe != nil {
		return fe
	}
	if p.oneOf != nil && !slices.Contains(p.oneOf, text) {
		return p.fault(NotOneOf, text, strings.Join(p.oneOf, ", "))
	}
	if p.pattern != nil && !p.pattern.MatchString(text) {
		return p.fault(NoMatch, text, p.pattern.String())
	}
	v.SetString(text)
	return nil
}

func (p *param) parseDuration(text string, v reflect.Value) *FieldError {
	d, err := time.ParseDuration(text)
	if err != nil {
		s, err := strconv.ParseInt(text, 10, 64)
		if err != nil || s > math.MaxInt64/int64(time.Second) || s < math.MinInt64/int64(time.Second) {
			return p.fault(BadType, text, "a duration such as 90s, or seconds")
		}
		d = time.Duration(s) * time.Second
	}
	if d < 0 && p.min == nil {
		return p.fault(OutOfRange, text, "not negative")
	}
	v.SetInt(int64(d))
	return p.inRange(d.Seconds(), text)
}

func (p *param) parseUUID(text string, v reflect.Value) *FieldError {
	if minusOne := text == "-1" && p.minusone; !minusOne && !isUUID(text) {
		return p.fault(BadType, text, "a UUID")
	}
	v.SetString(strings.ToLower(text))
	return nil
}

func (p *param) parseList(text string, v reflect.Value) *FieldError {
	if strings.TrimSpace(text) == "" {
		if p.required {
			return p.fault(Missing, "", "")
		}
		return nil
	}
	parts := strings.Split(text, ",")
	if fe := p.length(len(parts), maxListItems, text); fe != nil {
		return fe
	}
	out := reflect.MakeSlice(v.Type(), len(parts), len(parts))
	for i, part := range parts {
		if fe := p.elem.parse(strings.TrimSpace(part), out.Index(i)); fe != nil {
			fe.Field = fmt.Sprintf("%s[%d]", p.name, i)
			return fe
		}
	}
	v.Set(out)
	return nil
}

func (p *param) parseBytes(text string, v reflect.Value) *FieldError {
	text = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/", "\n", "", "\r", "").Replace(text), "=")
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return p.fault(BadType, text, "base64")
	}
	if fe := p.length(len(b), maxValues, text); fe != nil {
		return fe
	}
	v.SetBytes(b)
	return nil
}

func parseTime(text, layout string, endOf bool) (time.Time, bool) {
	dateOnly := func() (time.Time, bool) {
		t, err := time.Parse(time.DateOnly, text)
		if err == nil && endOf {
			t = t.Add(24*time.Hour - time.Second)
		}
		return t, err == nil
	}
	layouts := []string{time.RFC3339, "2006-01-02T15:04:05-0700"}
	switch layout {
	case "date":
		return dateOnly()
	case "datetime":
		if t, ok := dateOnly(); ok {
			return t, true
		}
		layouts = append(layouts, time.DateTime)
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return false
		}
	}
	return true
}

func isHost(s string) bool {
	letter := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
	if s == "" || len(s) > 63 || !letter(s[0]) || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !letter(c) && c != '-' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
