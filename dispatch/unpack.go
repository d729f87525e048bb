package dispatch

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a command's parameters.
const (
	maxParams = 1000
	maxName   = 256
	maxValues = 256 << 10
	maxIndex  = 9999
)

// values are unpacked parameters: plain ones by lower-case name, and structures name[index].field by name and index.
type values struct {
	plain map[string]string
	lists map[string][]element
}

// element is one index of a structure.
type element struct {
	index  int
	fields []field
}

// field keeps the letter case it was sent with, for keys of maps.
type field struct{ lower, sent, value string }

func (e *element) get(lower string) (string, bool) {
	for _, f := range e.fields {
		if f.lower == lower {
			return f.value, true
		}
	}
	return "", false
}

// unpack checks names and texts and sorts them out. Parameters that are plain and lower-case already, the usual case, are
// not copied.
func unpack(params map[string]string) (values, error) {
	if len(params) > maxParams {
		return values{}, Errorf(TooLarge, "more than %d parameters", maxParams)
	}
	total, simple := 0, true
	var bad []string
	for name, value := range params {
		total += len(value)
		if len(name) > maxName {
			return values{}, Errorf(TooLarge, "parameter name of more than %d bytes: %.64s…", maxName, name)
		}
		if !clean(name) || !clean(value) {
			bad = append(bad, printable(name))
		}
		simple = simple && isPlain(name)
	}
	if total > maxValues {
		return values{}, Errorf(TooLarge, "parameters of more than %d bytes", maxValues)
	}
	switch {
	case len(bad) > 0:
		slices.Sort(bad)
		faults := make([]*FieldError, len(bad))
		for i, name := range bad {
			faults[i] = &FieldError{Field: name, Reason: BadText, Limit: "UTF-8 without control characters"}
		}
		return values{}, fieldsError(faults)
	case simple:
		return values{plain: params}, nil
	}
	return sortOut(params)
}

// isPlain tells whether name needs no unpacking: lower case, no bracket, not empty.
func isPlain(name string) bool {
	for i := range len(name) {
		if c := name[i]; c == '[' || c == ']' || 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf {
			return false
		}
	}
	return name != ""
}

func sortOut(params map[string]string) (values, error) {
	v := values{plain: make(map[string]string, len(params)), lists: map[string][]element{}}
	names := make([]string, 0, len(params))
	for name := range params {
		names = append(names, name)
	}
	slices.Sort(names) // so that of several faults the same one is told each time
	for _, name := range names {
		if err := v.add(name, params[name]); err != nil {
			return values{}, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.lists)) {
		if _, both := v.plain[name]; both {
			return values{}, malformed(name, "both a value and a structure")
		}
		slices.SortFunc(v.lists[name], func(a, b element) int { return cmp.Compare(a.index, b.index) })
	}
	return v, nil
}

func (v *values) add(name, value string) error {
	if name == "" {
		return malformed(name, "empty name")
	}
	if !strings.ContainsAny(name, "[]") {
		lower := strings.ToLower(name)
		if old, twice := v.plain[lower]; twice && old != value {
			return malformed(name, "given twice, in different letter case")
		}
		v.plain[lower] = value
		return nil
	}
	list, index, sent, why := splitName(name)
	if why != "" {
		return malformed(name, why)
	}
	list, lower := strings.ToLower(list), strings.ToLower(sent)
	at := slices.IndexFunc(v.lists[list], func(e element) bool { return e.index == index })
	if at < 0 {
		at = len(v.lists[list])
		v.lists[list] = append(v.lists[list], element{index: index})
	}
	e := &v.lists[list][at]
	if _, twice := e.get(lower); twice {
		return malformed(name, "given twice, in different letter case")
	}
	e.fields = append(e.fields, field{lower, sent, value})
	return nil
}

// splitName takes name[index].field apart; why says what is wrong with it.
func splitName(name string) (list string, index int, field, why string) {
	open, shut := strings.IndexByte(name, '['), strings.IndexByte(name, ']')
	switch {
	case strings.Count(name, "[") > 1:
		return "", 0, "", "two ["
	case strings.Count(name, "]") > 1:
		return "", 0, "", "two ]"
	case open < 0:
		return "", 0, "", "missing ["
	case shut < 0:
		return "", 0, "", "missing ]"
	case shut < open:
		return "", 0, "", "] before ["
	case open == 0:
		return "", 0, "", "empty name"
	case strings.Contains(name[:shut], "."):
		return "", 0, "", ". before ]"
	case !strings.HasPrefix(name[shut+1:], "."):
		return "", 0, "", "no . after ]"
	}
	list, field = name[:open], name[shut+2:]
	switch {
	case field == "":
		return "", 0, "", "empty field"
	case strings.Contains(field, "."):
		return "", 0, "", "second level"
	}
	digits := name[open+1 : shut]
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n > maxIndex || digits[0] == '+' || len(digits) > 1 && digits[0] == '0' {
		return "", 0, "", "index is not a number from 0 to 9999"
	}
	return list, int(n), field, ""
}

func malformed(name, why string) error {
	return &Error{Code: Malformed, Text: "malformed parameter " + strconv.Quote(printable(name)) + ": " + why}
}

// clean allows tab, LF and CR of the control characters.
func clean(s string) bool {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s)
}

// printable cuts what goes into an error text.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
