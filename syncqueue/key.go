package syncqueue

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxKey is the longest Kind and ID of a Key, in bytes.
const maxKey = 128

// Key names the thing: {"vm", "42"}. The zero Key means no turn-taking.
type Key struct{ Kind, ID string }

// Validate gives ErrInvalid, with the reason, for a Key that names nothing: an ID without Kind, more than 128 bytes of
// either, control characters, what is not UTF-8. The zero Key is valid.
func (k Key) Validate() error {
	if k.Kind == "" && k.ID != "" {
		return fmt.Errorf("%w: key: kind is empty, id is %q", ErrInvalid, clip(k.ID))
	}
	if err := validPart("kind", k.Kind); err != nil {
		return err
	}
	return validPart("id", k.ID)
}

func validPart(name, s string) error {
	if len(s) > maxKey {
		return fmt.Errorf("%w: key: %s is %d bytes long, %d are allowed", ErrInvalid, name, len(s), maxKey)
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f { // rare: look closer
			if why := notText(s); why != "" {
				return fmt.Errorf("%w: key: %s %.64q %s", ErrInvalid, name, s, why)
			}
			return nil
		}
	}
	return nil
}

// notText says why s is no text that every store keeps, or "".
func notText(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "is not UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has control characters"
	}
	return ""
}

func clip(s string) string { return s[:min(len(s), maxKey)] }

// String is kind/id, for people.
func (k Key) String() string { return k.Kind + "/" + k.ID }

// Compare orders keys by kind, then id.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Kind, o.Kind), strings.Compare(k.ID, o.ID))
}

// goroutine names the goroutine that works for k.
func (k Key) goroutine() string { return "syncqueue/" + k.Kind + "/" + k.ID }
