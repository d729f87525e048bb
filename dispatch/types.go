package dispatch

import (
	"log/slog"

	"github.com/drover-cloud/drover/job"
)

// UUID is a lower-case UUID of 36 characters; upper case is lowered when bound.
type UUID string

// Host is a host name: one RFC 1123 label of at most 63 letters, digits and inner hyphens, starting with a letter.
type Host string

// Secret is a string that no log, error or encoding shows.
type Secret string

// String gives [redacted], as GoString, LogValue and MarshalText do.
func (s Secret) String() string { return redacted }

// GoString keeps %#v from showing it.
func (s Secret) GoString() string { return redacted }

// LogValue keeps slog from showing it.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps encoders from showing it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal gives the text itself.
func (s Secret) Reveal() string { return string(s) }

const redacted = "[redacted]"

// Entity is something a command touches: named by a parameter tagged entity=, or by the command's Entities method.
type Entity struct {
	Type, ID, Access string
	Removed          bool // still known, but gone: parameters refuse it unless tagged removed
}

// Cipher seals secret parameters before they are stored with a job, and opens them when it runs: what job.Config.Cipher takes.
type Cipher = job.Cipher
