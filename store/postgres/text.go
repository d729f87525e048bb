package postgres

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// keySep parts kind and id of a key in one column; control characters are not allowed in either.
const keySep = "\x1f"

func keyText(k syncqueue.Key) string {
	if k == (syncqueue.Key{}) {
		return ""
	}
	return k.Kind + keySep + k.ID
}

func parseKey(s string) syncqueue.Key {
	kind, id, _ := strings.Cut(s, keySep)
	return syncqueue.Key{Kind: kind, ID: id}
}

// texts scans a text[].
type texts []string

func (a *texts) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		if v == nil {
			*a = nil
			return nil
		}
		return fmt.Errorf("postgres: %T is no text[]", v)
	}
	out, err := parseArray(s)
	*a = out
	return err
}

// parseArray reads the text form of a one-dimensional array.
func parseArray(s string) (out []string, err error) {
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return nil, fmt.Errorf("postgres: %.64q is no array", s)
	}
	if s = s[1 : len(s)-1]; s == "" {
		return nil, nil
	}
	for s != "" {
		var item strings.Builder
		if s[0] == '"' {
			i := 1
			for ; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
				if i < len(s) {
					item.WriteByte(s[i])
				}
			}
			s = s[min(i+1, len(s)):]
		} else {
			i := strings.IndexByte(s, ',')
			if i < 0 {
				i = len(s)
			}
			item.WriteString(s[:i])
			s = s[i:]
		}
		out = append(out, item.String())
		s = strings.TrimPrefix(s, ",")
	}
	return out, nil
}

// ints scans a bigint[] or int[].
type ints []int64

func (a *ints) Scan(v any) error {
	*a = nil
	s, ok := v.(string)
	if !ok || len(s) < 2 {
		if v == nil {
			return nil
		}
		return fmt.Errorf("postgres: %T is no bigint[]", v)
	}
	s = s[1 : len(s)-1]
	*a = make(ints, 0, strings.Count(s, ",")+1)
	for s != "" {
		part, rest, _ := strings.Cut(s, ",")
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return err
		}
		*a = append(*a, n)
		s = rest
	}
	return nil
}

// Nullable arguments: zero is NULL.

func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func nullJSON(m json.RawMessage) *string {
	if len(m) == 0 {
		return nil
	}
	s := string(m)
	return &s
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func nullInt[I ~int | ~int64](n I) *int64 {
	if n == 0 {
		return nil
	}
	v := int64(n)
	return &v
}

func asTime(t sql.NullTime) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

func asJSON(s sql.NullString) json.RawMessage {
	if !s.Valid || s.String == "" {
		return nil
	}
	return json.RawMessage(s.String)
}

// encode is v as JSON text, NULL for nil values.
func encode(v any) (*string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if s := string(b); s != "null" {
		return &s, nil
	}
	return nil, nil
}

func decode(s sql.NullString, v any) error {
	if !s.Valid || s.String == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s.String), v); err != nil {
		return fmt.Errorf("postgres: stored JSON: %w", err)
	}
	return nil
}

// clip cuts s to n bytes at a rune's end.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// isID tells whether s can be a job's id: a UUID in its canonical form.
func isID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
		default:
			return false
		}
	}
	return true
}

// uuid is an id as it travels in arrays: pgx and the server make more of text than of 16 bytes.
type uuid = [16]byte

// asUUID reads what isID has let through.
func asUUID(s string) (u uuid) {
	k := 0
	for i := 0; i+1 < len(s) && k < len(u); i += 2 {
		if s[i] == '-' {
			i++
		}
		u[k] = nibble(s[i])<<4 | nibble(s[i+1])
		k++
	}
	return u
}

func nibble(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// ids are those of all that can be one.
func ids(all []string) []string {
	out := make([]string, 0, len(all))
	for _, id := range all {
		if isID(id) {
			out = append(out, id)
		}
	}
	return out
}

// States as drover_done and drover_extra store them.
var stateCodes = map[job.State]int16{job.Succeeded: 5, job.Failed: 6, job.Cancelled: 7}

func final(s job.State) bool { return stateCodes[s] != 0 }

func finalState(code int16) job.State {
	switch code {
	case 5:
		return job.Succeeded
	case 6:
		return job.Failed
	}
	return job.Cancelled
}

// Modes of drover_pend.
const (
	modeLoose     = -1
	modeReady     = 0
	modeArrival   = 1
	modeWaiting   = 2
	modeScheduled = 3
	modeParked    = 5
	modeRecalls   = 6 // waits for its own turn, which a borrower has
)

func modeState(mode int16) job.State {
	switch mode {
	case modeLoose, modeReady:
		return job.Ready
	case modeArrival, modeWaiting, modeRecalls:
		return job.Waiting
	case modeScheduled:
		return job.Scheduled
	}
	return job.Parked
}

// Internal marks beside job.Flag in the flags columns.
const (
	flagMask   = 1<<16 - 1
	flagExtra  = 1 << 20 // has a row in drover_extra that a claim should read
	flagUnique = 1 << 21 // has a Unique name to free
	flagAwaits = 1 << 22 // somebody may have joined it; in SQL 4194304
	flagLends  = 1 << 23 // somebody may borrow its turn; in SQL 8388608
)

const (
	bitDetached = 1
	bitRootSelf = 2
	depthShift  = 8
)
