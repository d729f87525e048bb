package bus

import (
	"fmt"
	"strings"
)

const (
	maxSubject  = 255
	maxSegments = 16
)

// checkSubject refuses what no event can have: segments of [A-Za-z0-9_/:-]+ joined by dots are wanted.
func checkSubject(s string) error {
	if s == "" || len(s) > maxSubject {
		return invalid("subject %q: want 1 to %d bytes", s, maxSubject)
	}
	segs := strings.Split(s, ".")
	if len(segs) > maxSegments {
		return invalid("subject %q: more than %d segments", s, maxSegments)
	}
	for _, seg := range segs {
		if !isSegment(seg, "") {
			return invalid("subject %q: want segments of [A-Za-z0-9_/:-] joined by dots", s)
		}
	}
	return nil
}

func isSegment(s, also string) bool {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_/:-"+also, c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// pattern is what a subscription wants.
type pattern struct {
	segs     []segment
	exact    bool // "$": nothing below
	literals int
}

type segment struct {
	text string
	kind byte // 0 literal, '*' any, '?' glob, '{' capture of text
}

// parsePattern reads a pattern of Subscribe.
func parsePattern(s string) (p pattern, err error) {
	text, exact := strings.CutSuffix(s, "$")
	p.exact = exact
	if len(s) > maxSubject || text == "" && exact {
		return p, fmt.Errorf("bus: pattern %q: want at most %d bytes and something before $", s, maxSubject)
	}
	if text == "" {
		return p, nil
	}
	names := map[string]bool{}
	for seg := range strings.SplitSeq(text, ".") {
		x := segment{text: seg}
		name, braced := strings.CutPrefix(seg, "{")
		switch {
		case braced:
			name, braced = strings.CutSuffix(name, "}")
			if !braced || !isSegment(name, "") || names[name] {
				return p, fmt.Errorf("bus: pattern %q: want {name} as a whole segment, each name once", s)
			}
			names[name] = true
			x = segment{name, '{'}
		case seg == "*":
			x.kind = '*'
		case !isSegment(seg, "*?"):
			return p, fmt.Errorf("bus: pattern %q: want segments of [A-Za-z0-9_/:-], *, ? and {name} joined by dots", s)
		case strings.ContainsAny(seg, "*?"):
			x.kind = '?'
		default:
			p.literals++
		}
		p.segs = append(p.segs, x)
	}
	if len(p.segs) > maxSegments {
		return p, fmt.Errorf("bus: pattern %q: more than %d segments", s, maxSegments)
	}
	return p, nil
}

// interest is p in the words of a transport's address, never less than p.
func (p pattern) interest() string {
	words := make([]string, 0, len(p.segs)+1)
	for _, s := range p.segs {
		if s.kind == 0 {
			words = append(words, s.text)
		} else {
			words = append(words, "*")
		}
	}
	if !p.exact {
		words = append(words, ">")
	}
	return strings.Join(words, ".")
}

// match tests the segments of a subject; params are captures.
func (p pattern) match(subject []string) (params map[string]string, ok bool) {
	if len(subject) < len(p.segs) || p.exact && len(subject) > len(p.segs) {
		return nil, false
	}
	for i, s := range p.segs {
		switch s.kind {
		case 0:
			ok = s.text == subject[i]
		case '?':
			ok = glob(s.text, subject[i])
		default:
			ok = true
		}
		if !ok {
			return nil, false
		}
	}
	for i, s := range p.segs {
		if s.kind == '{' {
			if params == nil {
				params = map[string]string{}
			}
			params[s.text] = subject[i]
		}
	}
	return params, true
}

// glob is * for any characters and ? for one.
func glob(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]) && pattern[p] != '*':
			p++
			i++
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Matches reports whether an event of subject goes to a, an address with a pattern as its Subject.
func (a Address) Matches(subject string) bool {
	words, segs := strings.Split(a.Subject, "."), strings.Split(subject, ".")
	if n := len(words) - 1; words[n] == ">" {
		if words = words[:n]; len(segs) < n {
			return false
		}
		segs = segs[:n]
	}
	if len(words) != len(segs) {
		return false
	}
	for i, w := range words {
		if w != "*" && w != segs[i] {
			return false
		}
	}
	return true
}
