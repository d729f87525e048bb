package dispatch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// zoo has a parameter of every type and tag.
type zoo struct {
	Name   string            `param:"name,required,min=1,max=63,pattern=[a-z]+" doc:"the name"`
	Mode   string            `param:"mode,oneof=soft|hard,default=soft,since=1.2,alias=how"`
	On     bool              `param:"on,default=true"`
	Small  int16             `param:"small"`
	Size   int               `param:"size,min=1,max=9,default=3"`
	Long   int64             `param:"long"`
	Ratio  float32           `param:"ratio"`
	Share  float64           `param:"share"`
	At     time.Time         `param:"at"`
	Day    time.Time         `param:"day,layout=date"`
	For    time.Duration     `param:"for"`
	ID     dispatch.UUID     `param:"id,entity=vm"`
	Host   dispatch.Host     `param:"host"`
	Pass   dispatch.Secret   `param:"pass"`
	IDs    []dispatch.UUID   `param:"ids,max=10"`
	Tags   map[string]string `param:"tags"`
	Data   []byte            `param:"data,max=32768"`
	Level  level             `param:"level"`
	Admin  string            `param:"admin,roles=admin,required"`
	Routes []struct {
		Net string `param:"net,required" doc:"in CIDR form"`
		Via string `param:"via"`
	} `param:"routes"`
	Meta struct {
		Note string `param:"note"`
	} `param:"meta"`
	paging
}

type zooResult struct {
	ID   string    `json:"id" doc:"the id"`
	At   time.Time `json:"at"`
	Nics []struct {
		IP string `json:"ip"`
	} `json:"nics"`
	Map map[string]string `json:"map"`
	Up  *bool             `json:"up,omitempty"`
}

func menagerie(t *testing.T) *dispatch.Registry {
	t.Helper()
	db := &memory.Store{}
	m, err := job.New(job.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	r := &dispatch.Registry{Tx: db, Cipher: newCipher(t), Permit: func(_ context.Context, caller any, info dispatch.CommandInfo) error {
		if info.Name == "secretive" && caller == nil {
			return dispatch.Errorf(dispatch.Forbidden, "no")
		}
		return nil
	}}
	run := func(context.Context, zoo) (zooResult, error) { return zooResult{}, nil }
	dispatch.Sync(r, "inspect", run, dispatch.Doc("Looks at it"), dispatch.Since("1.0"))
	dispatch.List(r, "listAll", func(context.Context, zoo) (dispatch.Page[zooResult], error) { return dispatch.Page[zooResult]{}, nil })
	dispatch.Async(r, m, "deploy", func(context.Context, store.Tx, *zoo) (string, error) { return "", nil }, run, dispatch.Errors(dispatch.NoCapacity, dispatch.Allocation))
	dispatch.Async(r, m, "stop", nil, func(context.Context, verb) (int, error) { return 0, nil }, dispatch.Deprecated("version 2"))
	dispatch.Async(r, m, "stop", nil, func(context.Context, verb) (int, error) { return 0, nil }, dispatch.Version("2"), dispatch.Roles("operator"))
	dispatch.Sync(r, "secretive", func(context.Context, empty) (int, error) { return 0, nil }, dispatch.Hidden())
	dispatch.Sync(r, "every", func(context.Context, empty) (int, error) { return 0, nil }, dispatch.Errors(allCodes()...))
	return r
}

func allCodes() (all []dispatch.Code) {
	for _, i := range dispatch.Codes() {
		if !strings.HasPrefix(string(i.Code), "test-") {
			all = append(all, i.Code)
		}
	}
	return all
}

func TestCatalogue(t *testing.T) {
	r := menagerie(t)
	t.Run("dispatch-41 everything a client reads", func(t *testing.T) {
		all := r.Catalog(t.Context(), user("root", "admin", "operator"))
		var names []string
		words := map[string]bool{}
		for _, c := range all {
			names = append(names, c.Name+" "+c.Version)
			noNil(t, c.Name, reflect.ValueOf(c))
			for _, p := range c.Params {
				words[p.Type] = true
				if p.Name == "pass" && (p.Default != "" || !p.Secret) {
					t.Errorf("%+v", p)
				}
			}
		}
		if want := []string{"deploy 1", "every 1", "inspect 1", "listAll 1", "secretive 1", "stop 1", "stop 2"}; !slices.Equal(names, want) {
			t.Errorf("got %v", names)
		}
		for _, w := range []string{"uuid", "string", "boolean", "integer", "long", "short", "float", "double", "date", "list", "map"} {
			if !words[w] {
				t.Errorf("no parameter of type %s", w)
			}
		}
		if !all[0].Async || all[0].Mode != "async-create" || all[2].Async || all[2].Response[0].Doc != "the id" || len(all[2].Response) != 5 {
			t.Errorf("got %+v", all[2])
		}
	})
	t.Run("dispatch-41 only what is permitted", func(t *testing.T) {
		for _, c := range r.Catalog(t.Context(), nil) {
			if c.Name == "secretive" || c.Name == "stop" && c.Version == "2" {
				t.Errorf("%s is listed", c.Name)
			}
			for _, p := range c.Params {
				if p.Name == "admin" {
					t.Errorf("parameter %s of %s is listed", p.Name, c.Name)
				}
			}
		}
	})
	t.Run("dispatch-41 two calls", func(t *testing.T) {
		a, _ := json.Marshal(r.Catalog(t.Context(), nil))
		b, _ := json.Marshal(r.Catalog(t.Context(), nil))
		if !bytes.Equal(a, b) || len(a) < 1000 {
			t.Error("they differ")
		}
	})
}

// noNil refuses nil slices anywhere in a description.
func noNil(t *testing.T, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		if v.IsNil() {
			t.Errorf("%s is nil", path)
		}
		for i := range v.Len() {
			noNil(t, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			noNil(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
}

func TestOpenAPI(t *testing.T) {
	doc, err := menagerie(t).OpenAPI(dispatch.Info{Title: "zoo", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("dispatch-42 golden", func(t *testing.T) {
		const file = "testdata/openapi.json"
		if *update {
			if err := os.WriteFile(file, doc, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(doc, want) {
			t.Error("differs from testdata/openapi.json; go test -update rewrites it")
		}
		if again, err := menagerie(t).OpenAPI(dispatch.Info{Title: "zoo", Version: "1"}); err != nil || !bytes.Equal(doc, again) {
			t.Errorf("two runs differ, %v", err)
		}
	})
	t.Run("dispatch-42 valid 3.1", func(t *testing.T) {
		var d map[string]any
		if err := json.Unmarshal(doc, &d); err != nil {
			t.Fatal(err)
		}
		checkOpenAPI(t, d)
		paths := d["paths"].(map[string]any)
		for _, c := range []string{"inspect", "listAll", "deploy", "stop", "stop@1", "every"} {
			if paths["/v1/commands/"+c] == nil {
				t.Errorf("no path for %s", c)
			}
		}
		if len(paths) != 6 {
			t.Errorf("%d paths", len(paths))
		}
		for _, c := range allCodes() {
			if !strings.Contains(string(doc), `"`+string(c)+`"`) {
				t.Errorf("code %s is not in it", c)
			}
		}
	})
}

// checkOpenAPI checks the rules of OpenAPI 3.1 that a generator can break.
func checkOpenAPI(t *testing.T, d map[string]any) {
	t.Helper()
	if !regexp.MustCompile(`^3\.1\.\d+$`).MatchString(d["openapi"].(string)) {
		t.Errorf("openapi %v", d["openapi"])
	}
	if info := d["info"].(map[string]any); info["title"] == "" || info["version"] == "" {
		t.Errorf("info %v", info)
	}
	ids := map[string]bool{}
	for path, item := range d["paths"].(map[string]any) {
		if !strings.HasPrefix(path, "/") {
			t.Errorf("path %s", path)
		}
		for method, o := range item.(map[string]any) {
			op := o.(map[string]any)
			if !slices.Contains([]string{"get", "post"}, method) {
				t.Errorf("%s: method %s", path, method)
			}
			if id := op["operationId"].(string); ids[id] {
				t.Errorf("operationId %s twice", id)
			} else {
				ids[id] = true
			}
			for status := range op["responses"].(map[string]any) {
				if n := 0; len(status) != 3 || func() bool { _, err := fmt.Sscan(status, &n); return err != nil || http.StatusText(n) == "" }() {
					t.Errorf("%s: response %s", path, status)
				}
			}
			if op["responses"].(map[string]any)["500"] == nil {
				t.Errorf("%s: no 500", path)
			}
		}
	}
	checkRefs(t, d, "#", d)
}

var schemaTypes = []string{"object", "array", "string", "number", "integer", "boolean", "null"}

// checkRefs finds every reference, and checks types and patterns of schemas.
func checkRefs(t *testing.T, root map[string]any, at string, v any) {
	t.Helper()
	switch x := v.(type) {
	case map[string]any:
		if ref, is := x["$ref"].(string); is {
			var target any = root
			for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
				m, _ := target.(map[string]any)
				target = m[part]
			}
			if target == nil {
				t.Errorf("%s: %s leads nowhere", at, ref)
			}
		}
		if typ, is := x["type"].(string); is && !slices.Contains(schemaTypes, typ) {
			t.Errorf("%s: type %s", at, typ)
		}
		if p, is := x["pattern"].(string); is {
			if _, err := regexp.Compile(p); err != nil {
				t.Errorf("%s: %v", at, err)
			}
		}
		for k, inner := range x {
			checkRefs(t, root, at+"/"+k, inner)
		}
	case []any:
		for i, inner := range x {
			checkRefs(t, root, fmt.Sprint(at, "/", i), inner)
		}
	}
}
