package csapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/drover-cloud/drover/dispatch"
)

// Limits of a request; dispatch has those of names and of all values together.
const (
	maxBody   = 1 << 20
	maxLine   = 256 << 10
	maxValue  = 64 << 10
	maxValues = 256 << 10
	maxParams = 1000
)

// request is what came in: decoded parameters by name as sent.
type request struct {
	params map[string]string
	names  map[string]string // lower case to as sent
}

// get finds a parameter in any case.
func (r *request) get(name string) string { return r.params[r.names[name]] }

func (r *request) has(name string) bool {
	_, ok := r.names[name]
	return ok
}

// errMethod is the one refusal that no dispatch.Code has.
var errMethod = &dispatch.Error{Code: "method", Text: "only GET, or POST of application/x-www-form-urlencoded, on /client/api"}

// parse merges query and form; of a name that occurs twice the first value counts, the query's before the form's.
func parse(w http.ResponseWriter, r *http.Request) (*request, error) {
	q := &request{params: map[string]string{}, names: map[string]string{}}
	var bad error
	note := func(err error) {
		if bad == nil {
			bad = err
		}
	}
	note(q.merge(r.URL.RawQuery))
	if len(r.RequestURI) > maxLine {
		return &request{}, dispatch.Errorf(dispatch.TooLarge, "a request line of more than 256 KiB")
	}
	if r.URL.Path != "/client/api" {
		return q, errMethod
	}
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		if ct := r.Header.Get("Content-Type"); ct != "" {
			if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/x-www-form-urlencoded" {
				return q, errMethod
			}
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var big *http.MaxBytesError
		switch {
		case errors.As(err, &big):
			return q, dispatch.Errorf(dispatch.TooLarge, "a body of more than 1 MiB")
		case err != nil:
			return q, dispatch.Errorf(dispatch.Malformed, "the body could not be read")
		}
		note(q.merge(string(body)))
	default:
		return q, errMethod
	}
	if bad != nil {
		return q, bad
	}
	return q, q.check()
}

// merge adds the pairs of a query string; on an error those before it are kept, so that the envelope can name the command.
func (r *request) merge(raw string) error {
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil || strings.Contains(pair, ";") {
			return dispatch.Errorf(dispatch.Malformed, "malformed parameter %q: not form encoded", cut(k))
		}
		if _, twice := r.params[name]; twice {
			continue
		}
		if len(r.params) == maxParams {
			return dispatch.Errorf(dispatch.TooLarge, "more than %d parameters", maxParams)
		}
		lower := strings.ToLower(name)
		if other, twice := r.names[lower]; twice && r.params[other] != value {
			return dispatch.Errorf(dispatch.Malformed, "malformed parameter %q: given twice, in different letter case", cut(name))
		}
		r.params[name], r.names[lower] = value, name
	}
	return nil
}

func (r *request) check() error {
	total := 0
	for name, value := range r.params {
		if len(value) > maxValue {
			return dispatch.Errorf(dispatch.TooLarge, "parameter %q has more than 64 KiB", cut(name))
		}
		total += len(value)
	}
	if total > maxValues {
		return dispatch.Errorf(dispatch.TooLarge, "parameters of more than 256 KiB")
	}
	if want := r.get("response"); want != "" && !strings.EqualFold(want, "json") {
		return BadParam("response", dispatch.NotOneOf, want, "json")
	}
	return nil
}

// transport are the parameters that are no part of a command: they differ between two sendings of the same one.
var transport = map[string]bool{
	"command": true, "response": true, "apikey": true, "signature": true, "signatureversion": true, "expires": true,
	"sessionkey": true, "customjobid": true,
}

// command is what is left for dispatch.
func (r *request) command(caller any) *dispatch.Command {
	c := &dispatch.Command{Name: r.get("command"), Params: map[string]string{}, Caller: caller}
	for name, value := range r.params {
		if !transport[strings.ToLower(name)] {
			c.Params[name] = value
		}
	}
	return c
}

func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
