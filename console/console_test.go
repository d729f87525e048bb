package console_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestNew(t *testing.T) {
	t.Run("console-01 faces", func(t *testing.T) {
		db := &memory.Store{}
		jobs, err := job.New(job.Config{DB: db, Queues: map[string]int{}})
		if err != nil {
			t.Fatal(err)
		}
		queue, _ := syncqueue.New(syncqueue.Config{Tx: db, Store: db.Queues()})
		session, _ := lease.New(lease.Config{Tx: db, Store: db.Leases()})
		for _, c := range []struct {
			name  string
			cfg   console.Config
			has   []string
			hasnt []string
		}{
			{"none", console.Config{}, []string{"/", "/v1/meta", "/v1/openapi.json"}, []string{"/jobs", "/queues", "/members", "/v1/jobs", "/v1/queues", "/v1/members", "/v1/leases", "/v1/overview"}},
			{"jobs", console.Config{Jobs: jobs}, []string{"/", "/jobs", "/v1/jobs", "/v1/overview"}, []string{"/queues", "/members", "/v1/queues", "/v1/members"}},
			{"queues", console.Config{Queues: queue}, []string{"/", "/queues", "/v1/queues", "/queues/vm/1"}, []string{"/jobs", "/members", "/v1/jobs"}},
			{"leases", console.Config{Leases: session}, []string{"/", "/members", "/v1/members", "/v1/leases"}, []string{"/jobs", "/queues", "/v1/jobs", "/v1/queues"}},
		} {
			h, err := console.New(c.cfg)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			for _, path := range c.has {
				if w := do(h, request("GET", path, "")); w.Code != 200 {
					t.Errorf("%s: %s: %d %.200s", c.name, path, w.Code, w.Body)
				}
			}
			for _, path := range c.hasnt {
				if w := do(h, request("GET", path, "")); w.Code != 404 {
					t.Errorf("%s: %s: %d, want 404", c.name, path, w.Code)
				}
			}
		}
	})
	t.Run("console-01 bad configuration", func(t *testing.T) {
		for field, cfg := range map[string]console.Config{
			"Jobs": {Jobs: (*job.Manager)(nil)}, "Queues": {Queues: (*syncqueue.Queue)(nil)}, "Leases": {Leases: (*lease.Session)(nil)},
			"Title": {Title: strings.Repeat("x", 65)}, "Links": {Links: []console.Link{{Text: "x", URL: "javascript:alert(1)"}}},
		} {
			if _, err := console.New(cfg); !errors.Is(err, drover.ErrConfig) || !strings.Contains(err.Error(), field) {
				t.Errorf("%s: %v", field, err)
			}
		}
	})
}

var reference = regexp.MustCompile(`(?:href|src|action|data-act|data-copy)="([^"]*)"`)

func TestPages(t *testing.T) {
	t.Run("console-02 prefixes", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"}, on("1"))
			r.submit("work", args{Name: "b"}, on("1"))
			pages := []string{"/", "/jobs", "/jobs/" + j.ID, "/queues", "/queues/vm/1", "/members", "/events"}
			for _, prefix := range []string{"", "/ops", "/a/b"} {
				mux := http.NewServeMux()
				mux.Handle(prefix+"/", http.StripPrefix(prefix, r.c))
				for _, page := range pages {
					w := do(mux, request("GET", prefix+page, ""))
					if w.Code != 200 {
						t.Fatalf("%s%s: %d", prefix, page, w.Code)
					}
					for _, m := range reference.FindAllStringSubmatch(w.Body.String(), -1) {
						link := strings.ReplaceAll(m[1], "&amp;", "&")
						if strings.HasPrefix(link, "#") || link == "" {
							continue
						}
						u, err := request("GET", prefix+page, "").URL.Parse(link)
						if err != nil || strings.HasPrefix(link, "/") || !strings.HasPrefix(u.Path, prefix+"/") {
							t.Errorf("%s%s: link %q leaves the console: %v", prefix, page, link, err)
							continue
						}
						method, want := "GET", 200
						if strings.Contains(m[0], "action=") && strings.Contains(u.Path, "/v1/") || strings.HasPrefix(m[0], "data-act") || strings.HasSuffix(u.Path, "/events") && strings.Contains(u.Path, "/v1/") {
							continue
						}
						if w := do(mux, request(method, u.RequestURI(), "")); w.Code != want && !strings.Contains(u.Path, "/result") { // a part may be missing
							t.Errorf("%s%s: link %q: %d", prefix, page, link, w.Code)
						}
					}
				}
			}
		})
	})
	t.Run("console-25 without script", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"}, on("1"))
			r.submit("work", args{Name: "b"}, on("1"))
			body := r.do("GET", "/jobs", "").Body.String()
			for _, want := range []string{`<form class="filter"`, `name="q"`, `href="./jobs/` + j.ID, ">running<", ">waiting<"} {
				if !strings.Contains(body, want) {
					t.Errorf("/jobs has no %s", want)
				}
			}
			if body := r.do("GET", "/jobs/"+j.ID, "").Body.String(); !strings.Contains(body, `action="../v1/jobs/`+j.ID+`/cancel"`) {
				t.Error("no form that cancels")
			}
			w := r.do("POST", "/v1/jobs/"+j.ID+"/cancel", "reason=&back=jobs/"+j.ID, "Content-Type", "application/x-www-form-urlencoded")
			if w.Code != 303 || w.Header().Get("Location") != "../../../jobs/"+j.ID+"?notice=cancel" {
				t.Fatalf("%d %q", w.Code, w.Header().Get("Location"))
			}
			if body := r.do("GET", "/jobs/"+j.ID+"?notice=cancel", "").Body.String(); !strings.Contains(body, "Cancel requested.") {
				t.Error("no notice")
			}
			w = r.do("POST", "/v1/jobs/"+j.ID+"/cancel", "back=//evil.example", "Content-Type", "application/x-www-form-urlencoded")
			if l := w.Header().Get("Location"); w.Code != 303 || strings.Contains(l, "evil") {
				t.Errorf("%d %q", w.Code, l)
			}
		})
	})
}

// routesOf lists the API as its own document does.
func routesOf(t *testing.T, c *console.Console) (out []string) {
	t.Helper()
	b, err := c.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(b, &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%v %q", err, doc.OpenAPI)
	}
	ids := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			out = append(out, strings.ToUpper(method)+" "+path)
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s %s: operationId %q is missing or taken", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
	slices.Sort(out)
	return out
}

// fill makes a path of a pattern.
func fill(pattern, id string) string {
	return strings.NewReplacer("{id}", id, "{kind}", "vm", "{pool}", "default").Replace(pattern)
}

func TestRoutes(t *testing.T) {
	t.Run("console-27 OpenAPI lists the routes", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"}, on("1"))
			all := routesOf(t, r.c)
			if len(all) < 30 {
				t.Errorf("%d routes", len(all))
			}
			for _, route := range all {
				method, path, _ := strings.Cut(route, " ")
				if strings.HasSuffix(path, "/events") {
					continue
				}
				w := r.do(method, fill(path, j.ID), `{"nonsense":1}`)
				if w.Code == 405 || strings.Contains(w.Body.String(), "/v1"+path+" is not there") {
					t.Errorf("%s is listed and not served: %d", route, w.Code)
				}
			}
		})
	})
	t.Run("console-19 problems", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"}, on("1"))
			for _, route := range routesOf(t, r.c) {
				method, path, _ := strings.Cut(route, " ")
				path = fill(path, j.ID)
				other := map[string]string{"GET": "DELETE", "POST": "PUT"}[method]
				bad := []*http.Request{request(other, path, "{}")}
				if method == "POST" {
					bad = append(bad, request(method, path, `{`), request(method, path, `{"nonsense":1}`), request(method, path, `{}{}`), request(method, path, `[]`),
						request(method, path, `{}`, "Content-Type", "text/plain"), request(method, path, `{"reason":"`+strings.Repeat("x", 1<<20)+`"}`))
				}
				if strings.Contains(route, "{id}") && !strings.Contains(route, "{kind}") {
					bad = append(bad, request(method, fill(strings.TrimPrefix(route, method+" "), "no-such-id"), "{}"))
				}
				for _, q := range bad {
					problem(t, do(r.c, q), route)
				}
			}
			problem(t, r.do("GET", "/v1/nowhere", ""), "nowhere")
			problem(t, r.do("GET", "/v1/jobs?nonsense=1", ""), "a filter there is not")
			problem(t, r.do("GET", "/v1/jobs?state=nonsense", ""), "a state there is not")
		})
	})
	t.Run("console-19 panic", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"}, on("1"))
			c, err := console.New(console.Config{Env: r.env, Jobs: panicking{r.jobs}})
			if err != nil {
				t.Fatal(err)
			}
			problem(t, do(c, request("GET", "/v1/jobs/"+j.ID, "")), "panic")
		})
	})
}

// problem wants an answer by RFC 9457 and nothing else.
func problem(t *testing.T, w interface {
	Result() *http.Response
}, what string) {
	t.Helper()
	res := w.Result()
	var p struct {
		Type, Title, Code string
		Status            int
	}
	err := json.NewDecoder(res.Body).Decode(&p)
	if err != nil || res.StatusCode < 400 || p.Status != res.StatusCode || p.Code == "" || p.Type != "urn:drover:problem:"+p.Code || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: %d %+v %q %v", what, res.StatusCode, p, res.Header.Get("Content-Type"), err)
	}
}

func TestAssets(t *testing.T) {
	t.Run("console-24 weight and references", func(t *testing.T) {
		raw, packed, js := 0, 0, 0
		for _, dir := range []string{"static", "templates"} {
			err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(dir + "/" + name)
				if err != nil {
					return err
				}
				for _, line := range strings.Split(string(b), "\n") {
					rest := strings.ReplaceAll(line, "http://www.w3.org/2000/svg", "")
					if strings.Contains(rest, "http://") || strings.Contains(rest, "https://") || strings.Contains(rest, "innerHTML") || strings.Contains(rest, "style=\"") || regexp.MustCompile(`\son[a-z]+="`).MatchString(rest) {
						t.Errorf("%s: %.200s", name, line)
					}
				}
				if dir == "templates" {
					return nil
				}
				var z bytes.Buffer
				w := gzip.NewWriter(&z)
				_, _ = w.Write(b)
				_ = w.Close()
				raw, packed = raw+len(b), packed+z.Len()
				if strings.HasSuffix(name, ".js") {
					js += len(b)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("raw %d, gzip %d, JavaScript %d", raw, packed, js)
		if raw > 160<<10 || packed > 48<<10 || js > 64<<10 {
			t.Errorf("raw %d, gzip %d, JavaScript %d", raw, packed, js)
		}
		h, err := console.New(console.Config{Env: quiet})
		if err != nil {
			t.Fatal(err)
		}
		page := do(h, request("GET", "/", "")).Body.String()
		for _, m := range reference.FindAllStringSubmatch(page, -1) {
			if !strings.Contains(m[1], "/assets/") {
				continue
			}
			w := do(h, request("GET", strings.TrimPrefix(m[1], "."), "", "Accept-Encoding", "gzip"))
			if w.Code != 200 || w.Header().Get("Content-Encoding") != "gzip" || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
				t.Errorf("%s: %d %v", m[1], w.Code, w.Header())
			}
		}
	})
}

func TestAccess(t *testing.T) {
	t.Run("console-20 loopback only without Auth", func(t *testing.T) {
		h, err := console.New(console.Config{Env: quiet})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			peer, host string
			want       int
		}{
			{"127.0.0.1:1", "127.0.0.1:8080", 200}, {"[::1]:1", "[::1]:8080", 200}, {"127.0.0.1:1", "localhost", 200}, {"127.0.0.1:1", "[::1]", 200},
			{"127.0.0.1:1", "evil.example", 403}, {"127.0.0.1:1", "localhost.evil.example:80", 403}, {"192.0.2.7:1", "localhost", 403}, {"192.0.2.7:1", "127.0.0.1", 403}, {"", "localhost", 403},
		} {
			q := request("GET", "/v1/meta", "")
			q.RemoteAddr, q.Host = c.peer, c.host
			w := do(h, q)
			if w.Code != c.want {
				t.Errorf("peer %q host %q: %d, want %d", c.peer, c.host, w.Code, c.want)
			}
			if w.Code == 403 && !strings.Contains(w.Body.String(), "Config.Auth") {
				t.Errorf("the text does not name Config.Auth: %s", w.Body)
			}
		}
	})
	t.Run("console-23 cross-site and headers", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"})
			for _, h := range [][]string{
				{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "same-site"},
				{"Sec-Fetch-Site", "cross-site", "Content-Type", "application/x-www-form-urlencoded"},
			} {
				if w := r.do("POST", "/v1/jobs/"+j.ID+"/cancel", `{}`, h...); w.Code != 403 {
					r.t.Errorf("%v: %d", h, w.Code)
				}
			}
			if s := r.get(j.ID); !s.CancelAt.IsZero() {
				r.t.Error("it was cancelled all the same")
			}
			for _, path := range []string{"/", "/jobs", "/jobs/" + j.ID, "/nowhere", "/v1/jobs", "/v1/nowhere", "/v1/meta", "/assets/x/y"} {
				h := r.do("GET", path, "").Header()
				csp := h.Get("Content-Security-Policy")
				if !strings.Contains(csp, "default-src 'none'; script-src 'self'; style-src 'self'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
					h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" {
					r.t.Errorf("%s: %v", path, h)
				}
			}
			if w := r.do("POST", "/v1/jobs/"+j.ID+"/cancel", `{}`, "Sec-Fetch-Site", "same-origin"); w.Code != 200 {
				r.t.Errorf("same origin: %d %s", w.Code, w.Body)
			}
		})
	})
	t.Run("console-21 read-only", func(t *testing.T) {
		readers := map[string]func(*console.Config){
			"config": func(c *console.Config) { c.ReadOnly = true },
			"principal": func(c *console.Config) {
				c.Auth = func(*http.Request) (console.Principal, error) {
					return console.Principal{Name: "r", ReadOnly: true}, nil
				}
			},
		}
		for name, change := range readers {
			inRig(t, change, func(r *rig) {
				j := r.submit("work", args{Name: "a"}, on("1"))
				r.submit("work", args{Name: "b"}, on("1"))
				n := 0
				for _, route := range routesOf(t, r.c) {
					method, path, _ := strings.Cut(route, " ")
					if method == "GET" {
						continue
					}
					n++
					w := r.do(method, fill(path, j.ID), `{"reason":"x"}`)
					if w.Code != 403 || !strings.Contains(w.Body.String(), `"read-only"`) {
						t.Errorf("%s: %s: %d %s", name, route, w.Code, w.Body)
					}
				}
				if n < 12 {
					t.Errorf("only %d verbs tried", n)
				}
				if s := r.get(j.ID); s.State != job.Running || !s.CancelAt.IsZero() {
					t.Errorf("%s: something was done: %+v", name, s)
				}
				for _, page := range []string{"/", "/jobs", "/jobs/" + j.ID, "/queues", "/queues/vm/1", "/members"} {
					body := r.do("GET", page, "").Body.String()
					if strings.Contains(body, `method="post"`) || strings.Contains(body, "data-verb") || strings.Contains(body, "data-bulk") || strings.Contains(body, "draggable") || !strings.Contains(body, "Read-only") {
						t.Errorf("%s: %s has a verb, or no banner", name, page)
					}
				}
			})
		}
	})
	t.Run("console-22 who may", func(t *testing.T) {
		answer := fmt.Errorf("%w: expired", console.ErrUnauthenticated)
		p := console.Principal{Name: "anna"}
		inRig(t, func(c *console.Config) { c.Auth = func(*http.Request) (console.Principal, error) { return p, answer } }, func(r *rig) {
			for err, want := range map[error]int{answer: 401, console.ErrForbidden: 403, errors.New("database: password is hunter2"): 500, nil: 200} {
				answer = err
				for _, path := range []string{"/", "/jobs", "/v1/meta", "/v1/jobs"} {
					w := r.do("GET", path, "")
					if w.Code != want || strings.Contains(w.Body.String(), "hunter2") {
						t.Errorf("%v: %s: %d %s", err, path, w.Code, w.Body)
					}
				}
			}
		})
	})
}

// panicking is a face with a defect.
type panicking struct{ console.Jobs }

func (panicking) Get(context.Context, string) (*job.Job, error) { panic("a defect") }

var quiet = drover.Env{Logger: slog.New(slog.DiscardHandler)}
