package native

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"

	"github.com/drover-cloud/drover/dispatch"
)

// Limits of a page. A page may have fewer items than asked for: Next says whether there are more.
const (
	defaultLimit = 100
	maxLimit     = 1000
	pageLimit    = 500 // of list commands
)

// page is a list: its items and the cursor of the next page.
type page struct {
	Items any    `json:"items"`
	Total int    `json:"total"`
	Next  string `json:"next,omitempty"`
	Jobs  any    `json:"jobs,omitempty"`
}

// cursor reads limit and after; what else the query has is refused.
func cursor(q url.Values) (limit, page int, err error) {
	limit, page = defaultLimit, 1
	params, err := queryParams(q)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		n, bad := strconv.Atoi(params[name])
		switch {
		case name != "limit" && name != "after":
			return 0, 0, fault(name, dispatch.Unknown, "")
		case bad != nil || n < 1 || name == "limit" && n > maxLimit:
			return 0, 0, fault(name, dispatch.OutOfRange, params[name])
		case name == "limit":
			limit = min(n, pageLimit)
		default:
			page = n + 1
		}
	}
	return limit, page, nil
}

func fault(name, reason, value string) error {
	fe := &dispatch.FieldError{Field: name, Reason: reason, Value: value}
	return &dispatch.Error{Code: dispatch.Invalid, Text: fe.Error(), Fields: []*dispatch.FieldError{fe}}
}

// next links the following page.
func next(w http.ResponseWriter, r *http.Request, limit, at int) string {
	after := strconv.Itoa(at)
	w.Header().Set("Link", "<"+r.URL.Path+"?limit="+strconv.Itoa(limit)+"&after="+after+`>; rel="next"`)
	return after
}

// listing pages through the answer of a list command.
func (f *Face) listing(command string) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		limit, at, err := cursor(r.URL.Query())
		if err != nil {
			return err
		}
		out, err := f.list(r, command, map[string]string{"page": strconv.Itoa(at), "pagesize": strconv.Itoa(limit)})
		if err != nil {
			return err
		}
		if limit*at < out.Total {
			out.Next = next(w, r, limit, at)
		}
		writeJSON(w, http.StatusOK, out)
		return nil
	}
}

// one answers the object of that id.
func (f *Face) one(command string) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		out, err := f.list(r, command, map[string]string{"id": r.PathValue("id")})
		if err != nil {
			return err
		}
		items := reflect.ValueOf(out.Items)
		if items.Kind() != reflect.Slice || items.Len() == 0 {
			return dispatch.Errorf(dispatch.NotFound, "no %s", r.URL.Path)
		}
		writeJSON(w, http.StatusOK, items.Index(0).Interface())
		return nil
	}
}

// list dispatches a list command. Its answer is a dispatch.Page of whatever it lists.
func (f *Face) list(r *http.Request, command string, params map[string]string) (out page, err error) {
	answer, err := f.cfg.Registry.Dispatch(r.Context(), &dispatch.Command{Name: command, Params: params, Caller: CallerOf(r.Context())})
	if err != nil {
		return out, err
	}
	v := reflect.ValueOf(answer)
	out.Items, out.Total, out.Jobs = v.FieldByName("Items").Interface(), int(v.FieldByName("Total").Int()), v.FieldByName("Jobs").Interface()
	if v.FieldByName("Items").IsNil() {
		out.Items = []any{}
	}
	if v.FieldByName("Jobs").Len() == 0 {
		out.Jobs = nil
	}
	return out, nil
}

// catalogue lists the commands that the caller may use.
func (f *Face) catalogue(w http.ResponseWriter, r *http.Request) error {
	limit, at, err := cursor(r.URL.Query())
	if err != nil {
		return err
	}
	all := f.cfg.Registry.Catalog(r.Context(), CallerOf(r.Context()))
	from := min(limit*(at-1), len(all))
	to := min(from+limit, len(all))
	out := page{Items: all[from:to], Total: len(all)}
	if to < len(all) {
		out.Next = next(w, r, limit, at)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// openAPI merges the commands' document with that of the operations, and adds what this face lists by itself.
func (f *Face) openAPI(w http.ResponseWriter, _ *http.Request) error {
	mine, err := f.cfg.Registry.OpenAPI(dispatch.Info{Title: "drover reference server", Version: "1"})
	if err != nil {
		return err
	}
	theirs, err := f.cfg.Operations.OpenAPI()
	if err != nil {
		return err
	}
	var doc, ops map[string]any
	if err := json.Unmarshal(mine, &doc); err != nil {
		return dispatch.Errorf(dispatch.Internal, "native: openapi: %w", err)
	}
	if err := json.Unmarshal(theirs, &ops); err != nil {
		return dispatch.Errorf(dispatch.Internal, "native: openapi: %w", err)
	}
	paths, _ := doc["paths"].(map[string]any)
	for path, item := range ops["paths"].(map[string]any) {
		if paths[path] == nil {
			paths[path] = item
		}
	}
	for path, summary := range map[string]string{
		"/v1/commands": "the commands that the caller may use", "/v1/vms": "virtual machines", "/v1/vms/{id}": "a virtual machine",
		"/v1/audit": "what has happened", "/v1/openapi.json": "this document",
	} {
		paths[path] = map[string]any{"get": map[string]any{
			"summary": summary, "responses": map[string]any{"200": map[string]any{"description": "done"}},
		}}
	}
	paths["/v1/vms/{id}"].(map[string]any)["parameters"] = []any{
		map[string]any{"in": "path", "name": "id", "required": true, "schema": map[string]any{"type": "string", "format": "uuid"}},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return dispatch.Errorf(dispatch.Internal, "native: openapi: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b.Bytes()) // the client may be gone
	return nil
}
