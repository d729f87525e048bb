package conductor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/drover-cloud/drover/bus"
)

// schema is a version of a store's entities, "major.minor"; further parts do not count.
type schema struct{ major, minor int }

func parseVersion(s string) (v schema, err error) {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return v, fmt.Errorf("%.40q: want major.minor", s)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return v, fmt.Errorf("%.40q: want decimal numbers", s)
		}
		switch i {
		case 0:
			v.major = int(n)
		case 1:
			v.minor = int(n)
		}
	}
	return v, nil
}

// Back says what older minors of a store's version do not know of a method's result. Fields are named by their path ("Row.State");
// a list or map on the way is looked through.
type Back struct {
	// Since is the first minor that has the field; for older ones it is left out.
	Since map[string]int
	// Values are, by field, the values that a minor has brought, and what stood for them before.
	Values map[string]map[string]Older
}

// Older is a value that came with the minor Since. As stands for it in older ones; "": nothing does, which is [ErrVersion].
type Older struct {
	Since int
	As    string
}

// Versioned is s with what its versions have in common with older ones.
func (s Served) Versioned(b Back) Served {
	s.back = b
	return s
}

// fits says whether a client of version asked can be served, and by which minor it is to be answered; -1: as it is.
func fits(serves, asked string) (minor int, err error) {
	have, err := parseVersion(serves)
	if err != nil || asked == "" {
		return -1, err
	}
	want, err := parseVersion(asked)
	switch {
	case err != nil:
		return -1, fmt.Errorf("%w: version %w", errInvalid, err)
	case want.major != have.major:
		return -1, fmt.Errorf("conductor: version %s is served, not %s: %w", serves, asked, bus.ErrUnsupported)
	case want.minor >= have.minor:
		return -1, nil
	}
	return want.minor, nil
}

// port makes the encoded result one of an older minor.
func (b Back) port(raw json.RawMessage, minor int) (json.RawMessage, error) {
	if len(b.Since) == 0 && len(b.Values) == 0 {
		return raw, nil
	}
	v, err := loose(raw)
	if err != nil {
		return nil, err
	}
	for _, path := range sorted(b.Since) {
		if b.Since[path] <= minor {
			continue
		}
		err := at(v, strings.Split(path, "."), func(in map[string]any, field string) error {
			delete(in, field)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, path := range sorted(b.Values) {
		err := at(v, strings.Split(path, "."), func(in map[string]any, field string) error {
			s, _ := in[field].(string)
			old, young := b.Values[path][s]
			switch {
			case !young || old.Since <= minor:
			case old.As == "":
				return fmt.Errorf("%w: %s is %q since minor %d, asked for %d", ErrVersion, path, s, old.Since, minor)
			default:
				in[field] = old.As
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return json.Marshal(v)
}

// restore gives sent, a row of a client of that minor, what this does not know of the stored one.
func (b Back) restore(stored, sent json.RawMessage, minor int) (json.RawMessage, error) {
	if minor < 0 || len(b.Since) == 0 && len(b.Values) == 0 {
		return sent, nil
	}
	was, err := loose(stored)
	if err != nil {
		return nil, err
	}
	is, err := loose(sent)
	if err != nil {
		return nil, fmt.Errorf("%w: not a row", errInvalid)
	}
	for _, path := range sorted(b.Since) {
		if b.Since[path] > minor {
			both(was, is, strings.Split(path, "."), func(old, now map[string]any, field string) { now[field] = old[field] })
		}
	}
	for _, path := range sorted(b.Values) {
		both(was, is, strings.Split(path, "."), func(old, now map[string]any, field string) {
			s, _ := old[field].(string)
			if o, young := b.Values[path][s]; young && o.Since > minor && now[field] == o.As {
				now[field] = s // it has sent back what stood for it
			}
		})
	}
	return json.Marshal(is)
}

func loose(raw json.RawMessage) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	err = dec.Decode(&v)
	return v, err
}

// both calls f where path leads in was, if is goes as far.
func both(was, is any, path []string, f func(old, now map[string]any, field string)) {
	old, ok := was.(map[string]any)
	now, ok2 := is.(map[string]any)
	if !ok || !ok2 || old[path[0]] == nil {
		return
	}
	if len(path) == 1 {
		f(old, now, path[0])
		return
	}
	both(old[path[0]], now[path[0]], path[1:], f)
}

// at calls f where path leads.
func at(v any, path []string, f func(in map[string]any, field string) error) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := at(e, path, f); err != nil {
				return err
			}
		}
	case map[string]any:
		next, ok := v[path[0]]
		switch {
		case ok && len(path) == 1:
			return f(v, path[0])
		case ok:
			return at(next, path[1:], f)
		}
	}
	return nil
}
