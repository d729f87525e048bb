package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/propagation"
)

// Headers of the wire.
const (
	headerTask     = "Drover-Task"
	headerCallback = "Drover-Callback"
	headerKey      = "Drover-Key"
	headerTimeout  = "Drover-Timeout"
	headerToken    = "Drover-Token"
	headerAgent    = "Drover-Agent"
	headerWait     = "Drover-Wait"
	headerCommand  = "Drover-Command"
)

// Paths of the wire: of agents, and of nodes.
const (
	tasksPath    = "/drover/tasks/"
	echoPath     = "/drover/echo"
	nodePath     = "/drover/agent/"
	callbackPath = nodePath + "callback"
	commandPath  = nodePath + "command"
)

const (
	maxTask = 255     // bytes of a task's id
	maxName = 255     // bytes of a token's name and store
	maxText = 4 << 10 // of what is kept of foreign texts
)

var traceContext propagation.TraceContext

// envelope is every body that is not a command or a bare result.
type envelope struct {
	Task   string          `json:"task,omitempty"`
	State  string          `json:"state,omitempty"`
	Agent  string          `json:"agent,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
}

type wireError struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

const (
	stateRunning = "running"
	stateDone    = "done"
)

// result is how a task ended.
type result struct {
	body json.RawMessage
	err  error
}

var (
	errNoResult = fmt.Errorf("%w: neither result nor error", ErrBadReply)
	errNotJSON  = fmt.Errorf("%w: not JSON", ErrBadReply)
	errTooLarge = fmt.Errorf("%w: too large", ErrBadReply)
)

// parseResult reads {"result":…} or {"error":…}.
func parseResult(body []byte) result {
	var e envelope
	if json.Unmarshal(body, &e) != nil {
		return result{err: errNotJSON}
	}
	return e.result()
}

func (e *envelope) result() result {
	switch {
	case e.Error != nil:
		return result{err: &RemoteError{Code: cut(e.Error.Code, 64), Text: cut(e.Error.Text, maxText)}}
	case e.Result == nil:
		return result{err: errNoResult}
	}
	return result{body: e.Result}
}

// decode reads a reply into v, and asks its Validate.
func decode(raw json.RawMessage, v any) error {
	if err := json.Unmarshal(raw, v); err != nil { // whose text may quote the reply
		var at *json.UnmarshalTypeError
		if errors.As(err, &at) {
			return fmt.Errorf("%w: field %q does not fit %s", ErrBadReply, at.Field, at.Type)
		}
		return errNotJSON
	}
	if c, ok := v.(interface{ Validate() error }); ok {
		if err := c.Validate(); err != nil {
			return because(ErrBadReply, err)
		}
	}
	return nil
}

// cut is at most n bytes of s, in whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// newKey is 32 random bytes in hex: what proves that a callback comes from whom the task was sent to.
func newKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime aborts first
	return hex.EncodeToString(b[:])
}

func hashKey(key string) [32]byte { return sha256.Sum256([]byte(key)) }

// isText reports whether s has 1 to n bytes of printable UTF-8 and so fits a header.
func isText(s string, n int) bool {
	return s != "" && len(s) <= n && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) &&
		s[0] != ' ' && s[len(s)-1] != ' '
}

// isHeader reports whether a header can be sent.
func isHeader(name string, values []string) bool {
	odd := func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	return name != "" && !strings.ContainsFunc(name, odd) && !slices.ContainsFunc(values, func(v string) bool { return v != "" && !isText(v, 8<<10) })
}

// checkTask refuses ids that a URL or a header would change.
func checkTask(id string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\%?#`, r) }
	if id == "" || len(id) > maxTask || strings.ContainsFunc(id, bad) || path.Clean("/"+id) != "/"+id {
		return invalid("task id %.64q: want 1 to %d printable ASCII characters, none of \"\\%%?#, no empty or dot segments", id, maxTask)
	}
	return nil
}

// token is a fencing token and what it guards.
type token struct {
	name, store string
	epoch       int64
}

func (t token) String() string { return strconv.FormatInt(t.epoch, 10) + ";" + t.store + ";" + t.name }

func (t token) check() error {
	switch {
	case !isText(t.name, maxName):
		return invalid("token name %.64q: want 1 to %d bytes of printable UTF-8", t.name, maxName)
	case !isText(t.store, maxName) || strings.Contains(t.store, ";"):
		return invalid("token store %.64q: want 1 to %d bytes of printable UTF-8 without ;", t.store, maxName)
	case t.epoch < 0:
		return invalid("token epoch %d: negative", t.epoch)
	}
	return nil
}

// parseToken reads epoch;store;name.
func parseToken(s string) (t token, err error) {
	part := strings.SplitN(s, ";", 3)
	if len(part) != 3 {
		return t, invalid("token: want epoch;store;name")
	}
	if t.epoch, err = strconv.ParseInt(part[0], 10, 64); err != nil || strconv.FormatInt(t.epoch, 10) != part[0] {
		return t, invalid("token epoch %.64q: want a number", part[0])
	}
	t.store, t.name = part[1], part[2]
	return t, t.check()
}

// database takes a store's "<id>.<incarnation>" apart; -1 if it has no number.
func (t token) database() (id string, incarnation int64) {
	if i := strings.LastIndexByte(t.store, '.'); i >= 0 {
		if n, err := strconv.ParseInt(t.store[i+1:], 10, 64); err == nil && n >= 0 {
			return t.store[:i], n
		}
	}
	return t.store, -1
}

// parseMillis reads a header of milliseconds; def if it is not there.
func parseMillis(h http.Header, name string, def time.Duration) (time.Duration, error) {
	s := h.Get(name)
	if s == "" {
		return def, nil
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms < 0 || ms > int64(maxTimeout/time.Millisecond) {
		return 0, invalid("%s %.64q: want milliseconds, at most %v", name, s, maxTimeout)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// parseURL reads an absolute http or https URL without credentials. Its errors do not quote it.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, invalid("URL: cannot be read")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("URL: scheme %.64q: want http or https", u.Scheme)
	case u.Hostname() == "":
		return nil, invalid("URL: no host")
	case u.User != nil:
		return nil, invalid("URL: has credentials")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// origin is scheme, host and port in one form, however they were written.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// beside is the URL of a path on u's host.
func beside(u *url.URL, p string) *url.URL { return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: p} }

// taskURL is where a task is polled and cancelled.
func taskURL(u *url.URL, id string) *url.URL {
	t := beside(u, tasksPath+id)
	t.RawPath = tasksPath + url.PathEscape(id)
	return t
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // what is written here encodes
		status, b = http.StatusInternalServerError, []byte("{}")
	}
	write(w, status, b)
}

func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked has gone: it asks again, or polls
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	writeJSON(w, status, envelope{Error: &wireError{code, text}})
}
