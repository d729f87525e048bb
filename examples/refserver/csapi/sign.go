package csapi

import (
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- the protocol's hash
	"encoding/base64"
	"slices"
	"strings"
)

// Canonical is the text that is signed: all parameters but the signature, sorted by name before lower-casing, names as they are,
// values form encoded with %20 for a space and * for %2A, everything in lower case.
func Canonical(params map[string]string) string { return canonical(params, false) }

// canonical signs a tilde as %7E for clients that encode it.
func canonical(params map[string]string, tilde bool) string {
	names := make([]string, 0, len(params))
	size := 0
	for name, value := range params {
		if !strings.EqualFold(name, "signature") {
			names = append(names, name)
			size += len(name) + len(value) + 2
		}
	}
	slices.Sort(names)
	text := make([]byte, 0, size+size/2)
	for i, name := range names {
		if i > 0 {
			text = append(text, '&')
		}
		text = append(append(text, strings.ToLower(name)...), '=')
		text = encode(text, params[name], tilde)
	}
	return string(text)
}

// encode appends the value, form encoded and lower-cased in one go.
func encode(text []byte, value string, tilde bool) []byte {
	const hex = "0123456789abcdef"
	for i := range len(value) {
		switch c := value[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '*', c == '~' && !tilde:
			text = append(text, c)
		case 'A' <= c && c <= 'Z':
			text = append(text, c+'a'-'A')
		default:
			text = append(text, '%', hex[c>>4], hex[c&15])
		}
	}
	return text
}

// Sign is the signature of params: base64 of HMAC-SHA1 over Canonical.
func Sign(params map[string]string, secret []byte) string {
	return base64.StdEncoding.EncodeToString(mac(Canonical(params), secret))
}

func mac(text string, secret []byte) []byte {
	h := hmac.New(sha1.New, secret)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Verify checks a signature in constant time. A value with a tilde may be signed either way, since Java's and Go's encoders
// disagree about it.
func Verify(params map[string]string, signature string, secret []byte) bool {
	got, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		got = nil // the same work, and never equal
	}
	if hmac.Equal(got, mac(Canonical(params), secret)) {
		return true
	}
	for name, value := range params {
		if !strings.EqualFold(name, "signature") && strings.Contains(value, "~") {
			return hmac.Equal(got, mac(canonical(params, true), secret))
		}
	}
	return false
}
