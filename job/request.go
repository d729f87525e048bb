package job

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/drover-cloud/drover/syncqueue"
)

// Request is what a caller asks for. Only Args is required when its type belongs to one registered kind, only Kind when the
// kind takes no arguments. Names (Kind, Queue, Unique, Idem, Name, Resource) have 1 to 128 printable bytes.
type Request struct {
	ID           string // caller's own UUID: same id and same request = the existing job; other request = ErrDuplicate
	Idem         string // the same for any text, per account (Identity["account"]) and kind
	Fingerprint  string // what "same request" means; "" = hash of account, kind, key, parent and args
	Kind         string
	Args         any
	Queue        string
	Parent, Name string // Parent: default the running job; Name is unique among a parent's children
	Detached     bool   // no child of the running job
	Sync         syncqueue.Key
	Unique       string // joins the live job of that name and kind instead of making a second
	OnDuplicate  DuplicatePolicy
	Priority     int // 0 = the kind's; −100 to 100, lower runs first
	RunAt        time.Time
	Timeout      time.Duration // per run; 0 = the kind's
	Deadline     time.Time     // overall; a child's is at most its parent's
	MaxAttempts  int           // 0 = the kind's
	Identity     map[string]string
	Resource     string

	roomy bool // Args may be larger than Config.MaxArgs: they were stored once already
}

// DuplicatePolicy says what a request does that meets a live job with its Unique.
type DuplicatePolicy int

const (
	Join   DuplicatePolicy = iota // answer that job
	Refuse                        // ErrDuplicate
)

const (
	maxName          = 128
	maxDepth         = 16
	maxBatch         = 10_000
	maxIdentity      = 64
	maxIdentityBytes = 8 << 10
	maxPriority      = 100
	minYear          = 2000 // an earlier time is a mistake, and so is a later one
	maxYear          = 2200
)

// badName says why s cannot be a name, or "".
func badName(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxName:
		return fmt.Sprintf("has %d bytes, most are %d", len(s), maxName)
	case !utf8.ValidString(s):
		return "is not UTF-8"
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return "has a character that cannot be printed"
		}
	}
	return ""
}

// checkNames checks everything that is a name and was given.
func (r *Request) checkNames() error {
	for _, f := range []struct{ field, value string }{
		{"Kind", r.Kind}, {"Queue", r.Queue}, {"Unique", r.Unique}, {"Idem", r.Idem}, {"Name", r.Name},
		{"Resource", r.Resource}, {"Fingerprint", r.Fingerprint}, {"Sync.ID", r.Sync.ID}, {"Sync.Kind", r.Sync.Kind},
	} {
		if f.value == "" {
			continue
		}
		if why := badName(f.value); why != "" {
			return &FieldError{f.field, why}
		}
	}
	if (r.Sync.Kind == "") != (r.Sync.ID == "") {
		return invalid("Sync", "has a kind or an id, but not both")
	}
	return nil
}

// check normalises what can be and refuses what cannot be stored.
func (r *Request) check() error {
	if err := r.checkNames(); err != nil {
		return err
	}
	if r.ID != "" {
		id, ok := canonicalID(r.ID)
		if !ok {
			return invalid("ID", "%.64q is not a canonical UUID", r.ID)
		}
		r.ID = id
	}
	switch {
	case r.Priority < -maxPriority || r.Priority > maxPriority:
		return invalid("Priority", "%d, must be %d to %d", r.Priority, -maxPriority, maxPriority)
	case r.Timeout < 0 && r.Timeout != NoTimeout:
		return invalid("Timeout", "%v is negative", r.Timeout)
	case r.MaxAttempts < 0 || r.MaxAttempts > 1_000_000:
		return invalid("MaxAttempts", "%d, must be 0 to 1000000", r.MaxAttempts)
	case badTime(r.RunAt) != "":
		return invalid("RunAt", "%s", badTime(r.RunAt))
	case badTime(r.Deadline) != "":
		return invalid("Deadline", "%s", badTime(r.Deadline))
	case r.OnDuplicate != Join && r.OnDuplicate != Refuse:
		return invalid("OnDuplicate", "%d is unknown", r.OnDuplicate)
	}
	return checkIdentity(r.Identity)
}

// badTime says why t, unless it is zero, cannot be meant, or "".
func badTime(t time.Time) string {
	if y := t.UTC().Year(); !t.IsZero() && (y < minYear || y > maxYear) {
		return fmt.Sprintf("year %d, must be %d to %d", y, minYear, maxYear)
	}
	return ""
}

func checkIdentity(id map[string]string) error {
	if len(id) > maxIdentity {
		return invalid("Identity", "%d entries, most are %d", len(id), maxIdentity)
	}
	n := 0
	for k, v := range id {
		n += len(k) + len(v)
		if !utf8.ValidString(k) || !utf8.ValidString(v) || bytes.IndexByte([]byte(k+v), 0) >= 0 {
			return invalid("Identity", "has a key or value that is not text")
		}
	}
	if n > maxIdentityBytes {
		return invalid("Identity", "%d bytes, most are %d", n, maxIdentityBytes)
	}
	return nil
}

// canonicalID lowers a UUID in its canonical form of 36 characters.
func canonicalID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	upper := false
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f':
		case 'A' <= c && c <= 'F':
			upper = true
		default:
			return "", false
		}
	}
	if upper {
		s = string(bytes.ToLower([]byte(s)))
	}
	return s, true
}

// encodeArgs is the stored form of args, at most limit bytes. A json.RawMessage is taken as it is, compacted.
func encodeArgs(args any, limit int) (json.RawMessage, error) {
	if args == nil {
		return json.RawMessage("null"), nil
	}
	b, err := json.Marshal(args)
	if err != nil {
		return nil, invalid("Args", "%T cannot be encoded: %v", args, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("job: Args: %d bytes, most are %d: %w", len(b), limit, ErrTooLarge)
	}
	return b, nil
}
