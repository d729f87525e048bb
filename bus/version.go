package bus

import (
	"strconv"
	"strings"
)

// version is major.minor[.rev].
type version struct{ major, minor, rev int }

// parseVersion reads a version; "" is 1.0.
func parseVersion(s string) (v version, err error) {
	if s == "" || s == "1.0" {
		return version{major: 1}, nil
	}
	parts := strings.Split(s, ".")
	if len(parts) != 2 && len(parts) != 3 {
		return v, invalid("version %q: want major.minor or major.minor.rev", s)
	}
	for i, into := range []*int{&v.major, &v.minor, &v.rev}[:len(parts)] {
		n, err := strconv.ParseUint(parts[i], 10, 31)
		if err != nil {
			return v, invalid("version %q: want decimal numbers", s)
		}
		*into = int(n)
	}
	return v, nil
}

// serves reports whether an implementation of v serves who asks for req.
func (v version) serves(req version) bool {
	return v.major == req.major && (req.minor < v.minor || req.minor == v.minor && req.rev <= v.rev)
}

// Compatible reports whether an endpoint of version impl serves a message of version req: majors are equal, the asked minor
// is not higher, and in the same minor neither is the revision. "" is 1.0. A text that is no version is ErrInvalid.
func Compatible(impl, req string) (bool, error) {
	i, err := parseVersion(impl)
	if err != nil {
		return false, err
	}
	r, err := parseVersion(req)
	return err == nil && i.serves(r), err
}
