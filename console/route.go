package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/drover-cloud/drover/job"
)

// route of the API. The table of them is what is served, what OpenAPI lists and what the tests walk.
type route struct {
	method, path string
	section      func(*Console) bool
	verb         Verb // of a POST
	doc          string
	query        []string // names of parameters
	body         any      // a value of the body's type
	do           func(c *Console, r *http.Request) (*answer, error)
	stream       func(c *Console, w http.ResponseWriter, r *http.Request) error // instead of do
}

// answer is what a route says.
type answer struct {
	status   int // 0 = 200
	body     any
	location string // relative to the root of the console
	etag     string
	back     string // where a form leads, relative to the root of the console
	notice   string // what the page then says
}

func ok(v any) (*answer, error) { return &answer{body: v}, nil }

func hasJobs(c *Console) bool   { return c.cfg.Jobs != nil }
func hasQueues(c *Console) bool { return c.cfg.Queues != nil }
func hasLeases(c *Console) bool { return c.cfg.Leases != nil }
func hasGroup(c *Console) bool  { return c.cfg.Members != nil }
func hasHosts(c *Console) bool  { return c.cfg.Hosts != nil }
func hasBus(c *Console) bool    { return c.cfg.Bus != nil }
func always(*Console) bool      { return true }

func hasMembers(c *Console) bool { return hasGroup(c) || hasLeases(c) }

// hasTasks: this node has some, or may hear of those of others.
func hasTasks(c *Console) bool { return c.cfg.Periodic != nil }

// canDrain: this node can, or may tell another one.
func canDrain(c *Console) bool { return hasMembers(c) && (c.cfg.Drain != nil || c.cfg.Nodes != nil) }

func canResume(c *Console) bool { return hasMembers(c) && (c.cfg.Resume != nil || c.cfg.Nodes != nil) }

// root leads from a request's path to the root of the console.
func root(r *http.Request) string {
	depth := strings.Count(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if depth == 0 {
		return "./"
	}
	return strings.Repeat("../", depth)
}

// serve is the handler of a route.
func (c *Console) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch {
		case rt.stream != nil:
			err = rt.stream(c, w, r)
		default:
			var a *answer
			if rt.verb != "" {
				r = r.WithContext(job.By(r.Context(), who(r.Context()).Name+" in the console", ""))
				a, err = c.steer(rt, r)
			} else {
				a, err = rt.do(c, r)
			}
			if isForm(r) {
				formAnswer(w, r, a, err)
				return
			}
			if err == nil {
				a.write(w, r)
			}
		}
		if err != nil {
			p := problemOf(err)
			if p.Code == "internal" {
				c.env.Logger.ErrorContext(r.Context(), "console: request failed", "path", r.URL.Path, "err", err)
			}
			p.write(w)
		}
	}
}

// steer does what a POST asks, if that is allowed, and logs it.
func (c *Console) steer(rt route, r *http.Request) (a *answer, err error) {
	p, t := who(r.Context()), targetOf(r)
	outcome := "refused"
	if refused := c.allowed(p, rt.verb, t); refused != nil {
		err = refused
	} else if a, err = rt.do(c, r); err == nil {
		outcome = "done"
		c.forget()
	}
	c.meters.verb(rt.verb, outcome)
	c.env.Logger.InfoContext(r.Context(), "console: "+string(rt.verb), "principal", p.Name, "type", t.Type, "target", t.ID, "outcome", outcome, "err", err)
	return a, err
}

func targetOf(r *http.Request) Target {
	switch id, kind := r.PathValue("id"), r.PathValue("kind"); {
	case kind != "" && id != "":
		return Target{"queue", kind + "/" + id}
	case kind != "":
		return Target{"kind", kind}
	case r.PathValue("pool") != "":
		return Target{"pool", r.PathValue("pool")}
	case r.PathValue("task") != "":
		return Target{"task", r.PathValue("task")}
	case strings.HasPrefix(r.URL.Path, "/v1/members/"):
		return Target{"member", id}
	case strings.HasPrefix(r.URL.Path, "/v1/operations/"):
		return Target{"operation", id}
	default:
		return Target{"job", id}
	}
}

func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	if a.etag != "" {
		w.Header().Set("ETag", a.etag)
	}
	if a.location != "" {
		w.Header().Set("Location", root(r)+a.location)
	}
	if a.status == http.StatusNotModified {
		w.WriteHeader(a.status)
		return
	}
	b, err := json.Marshal(a.body)
	if err != nil {
		(&problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "the answer cannot be written as JSON"}).write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(max(a.status, http.StatusOK))
	_, _ = w.Write(append(b, '\n'))
}

func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

func isForm(r *http.Request) bool {
	return r.Method == http.MethodPost && mediaType(r) == "application/x-www-form-urlencoded"
}

// formAnswer leads back to a page, which says how it went.
func formAnswer(w http.ResponseWriter, r *http.Request, a *answer, err error) {
	back := r.PostForm.Get("back")
	if a != nil && a.back != "" {
		back = a.back
	}
	if !safeBack(back) {
		back = ""
	}
	note := "problem="
	if err != nil {
		note += problemOf(err).Code
	} else {
		note = "notice=" + a.notice
	}
	sep := "?"
	if strings.Contains(back, "?") {
		sep = "&"
	}
	w.Header().Set("Location", root(r)+back+sep+note)
	w.WriteHeader(http.StatusSeeOther)
}

// safeBack: a page of the console, relative to its root.
func safeBack(s string) bool {
	return !strings.HasPrefix(s, "/") && !strings.Contains(s, ":") && !strings.Contains(s, "..") && !strings.Contains(s, "\\") && !strings.ContainsAny(s, "\r\n")
}

const maxBody = 1 << 20

// body reads what a POST brings into in, a pointer to a struct: JSON, or the page's own form. Members that in has not are
// refused, as is anything behind it.
func body(r *http.Request, in any) error {
	r.Body = http.MaxBytesReader(nil, r.Body, maxBody)
	switch t := mediaType(r); {
	case t == "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return bad("the form cannot be read")
		}
		return formBody(r, in)
	case t != "application/json":
		return &problem{Status: http.StatusUnsupportedMediaType, Code: "wrong-type", Detail: "Content-Type must be application/json"}
	}
	b, err := io.ReadAll(r.Body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return &problem{Status: http.StatusRequestEntityTooLarge, Code: "too-large", Detail: "a body has at most 1 MiB"}
	}
	if err != nil {
		return bad("the body cannot be read")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return bad("body: " + strings.TrimPrefix(err.Error(), "json: "))
	}
	if d.More() {
		return bad("body: more than one value")
	}
	return nil
}

// formBody fills strings, numbers and booleans by the names they have in JSON.
func formBody(r *http.Request, in any) error {
	v := reflect.ValueOf(in).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if !r.PostForm.Has(name) {
			continue
		}
		text := r.PostForm.Get(name)
		var err error
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString(text)
		case int:
			n, e := strconv.Atoi(text)
			f.SetInt(int64(n))
			err = e
		case bool:
			f.SetBool(text == "on" || text == "true")
		case *int:
			n, e := strconv.Atoi(text)
			f.Set(reflect.ValueOf(&n))
			err = e
		case json.RawMessage:
			b, e := json.Marshal(text)
			f.SetBytes(b)
			err = e
		default:
			err = errors.New("cannot stand in a form")
		}
		if err != nil {
			return bad(fmt.Sprintf("%s: %q is no number", name, text))
		}
	}
	return nil
}

// only refuses query parameters that a route does not have.
func only(r *http.Request, names []string) error {
	for _, name := range sortedKeys(r.URL.Query()) {
		if !slices.Contains(names, name) {
			return bad(fmt.Sprintf("%s: no such parameter; there are: %s", name, strings.Join(names, ", ")))
		}
	}
	return nil
}
