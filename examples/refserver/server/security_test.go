package server

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
)

const password = "canary-password-of-admin"

// browser sends without a signature, with what a login gave.
type browser struct {
	*node
	cookies []*http.Cookie
	key     string
	header  http.Header
}

func (b *browser) post(p params) answer {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.URL()+"/client/api", strings.NewReader(form(p)))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for k, v := range b.header {
		req.Header[k] = v
	}
	for _, c := range b.cookies {
		req.AddCookie(c)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := parseAnswer(r, text)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range r.Cookies() {
		if c.MaxAge < 0 {
			b.cookies = nil
		} else {
			b.cookies = append(b.cookies, c)
		}
	}
	return a
}

func (b *browser) login(user, word string) answer {
	b.t.Helper()
	b.cookies = nil
	a := b.post(params{"command": "login", "username": user, "password": word, "domain": "/", "response": "json"})
	b.key = a.str("sessionkey")
	return a
}

// list is a call that the session permits, or not.
func (b *browser) list() answer {
	b.t.Helper()
	return b.post(params{"command": "listZones", "sessionkey": b.key})
}

func TestSessions(t *testing.T) {
	t.Parallel()
	now := &movable{Clock: clock.New()}
	cfg := parsed(t, "-session-login")
	cfg.Env.Clock = now
	n := startWith(t, cfg)
	t.Run("ref-13 no password is set", func(t *testing.T) {
		(&browser{node: n}).login("admin", "password").fails(t, 531, 4365)
		(&browser{node: start(t)}).login("admin", "password").fails(t, 531, 4365, "session login is disabled")
	})
	if err := n.cloud.SetPassword(t.Context(), "admin", password); err != nil {
		t.Fatal(err)
	}
	t.Run("ref-10 the answer", func(t *testing.T) {
		b := &browser{node: n}
		a := b.login("admin", password).ok(t)
		for k, want := range (params{"username": "admin", "account": "admin", "type": "1", "registered": "false", "is2faenabled": "false", "is2faverified": "true"}) {
			if a.str(k) != want {
				t.Errorf("%s is %v", k, a.body[k])
			}
		}
		if a.body["timeout"] != 1800.0 || len(a.str("sessionkey")) != 27 || a.str("userid") == "" {
			t.Errorf("%s", a.raw)
		}
		if len(b.cookies) != 2 || b.cookies[0].Name != "JSESSIONID" || b.cookies[0].Path != "/client" || !b.cookies[0].HttpOnly || b.cookies[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("%v", b.cookies)
		}
		n.do("GET", "/client/api?command=login&username=admin&password="+password, "").fails(t, 405, 9999)
	})
	t.Run("ref-09 cookie and sessionkey", func(t *testing.T) {
		b := &browser{node: n}
		b.login("admin", password).ok(t)
		b.list().ok(t)
		b.post(params{"command": "listZones"}).fails(t, 401, 0)
		b.list().fails(t, 401, 0) // it ended the session
		b.login("admin", password).ok(t)
		for range 2 {
			if a := b.post(params{"command": "logout"}).ok(t); a.str("description") != "success" || b.cookies != nil {
				t.Errorf("%s %v", a.raw, b.cookies)
			}
		}
		b.list().fails(t, 401, 0)
	})
	t.Run("ref-08 a signature decides alone", func(t *testing.T) {
		b := &browser{node: n}
		b.login("admin", password).ok(t)
		good := sign(params{"command": "listZones"}, "testsecret")
		b.post(good).ok(t)
		b.post(sign(params{"command": "listZones"}, "wrong")).fails(t, 401, 0)
		b.list().ok(t)
		stale := &browser{node: n, cookies: []*http.Cookie{{Name: "JSESSIONID", Value: "stale"}}}
		stale.post(good).ok(t)
		stale.post(params{"command": "listZones"}).fails(t, 401, 0)
	})
	t.Run("ref-11 idle and absolute", func(t *testing.T) {
		b := &browser{node: n}
		b.login("admin", password).ok(t)
		now.add(29 * time.Minute)
		b.list().ok(t)
		now.add(29 * time.Minute)
		b.list().ok(t)
		now.add(30*time.Minute + time.Second)
		b.list().fails(t, 401, 0)
		b.login("admin", password).ok(t)
		for range 24 {
			b.list().ok(t)
			now.add(29 * time.Minute)
		}
		b.list().ok(t)
		now.add(12*time.Hour - 24*29*time.Minute + time.Second)
		b.list().fails(t, 401, 0)
	})
	t.Run("ref-12 bad passwords", func(t *testing.T) {
		b := &browser{node: n}
		unknown := b.login("nobody", "x").fails2(t, 531, 4365)
		for range 5 {
			if got := b.login("admin", "wrong").fails2(t, 531, 4365); got != unknown {
				t.Errorf("told apart: %q, %q", got, unknown)
			}
		}
		if a := b.login("admin", password); a.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %s", a.raw)
		} else {
			a.fails(t, 429, 4545)
		}
		now.add(5 * time.Minute)
		b.login("admin", password).ok(t)
	})
}

// fails2 is fails and answers the text.
func (a answer) fails2(t testing.TB, status, cs int) string {
	t.Helper()
	a.fails(t, status, cs)
	return a.str("errortext")
}

func TestRate(t *testing.T) {
	t.Parallel()
	now := &movable{Clock: clock.New()}
	cfg := parsed(t, "-rate", "5", "-burst", "8")
	cfg.Env.Clock = now
	n := startWith(t, cfg)
	t.Run("ref-57 too many of a key", func(t *testing.T) {
		passed := 0
		var last answer
		for range 30 {
			if last = n.call("listZones", nil); last.status != 200 {
				break
			}
			passed++
		}
		if last.fails(t, 429, 4545); passed < 8 || passed > 20 || last.header.Get("Retry-After") != "1" {
			t.Errorf("%d passed; %v", passed, last.header)
		}
		now.add(2 * time.Second)
		n.call("listZones", nil).ok(t)
	})
	t.Run("ref-57 failed authentications of an address", func(t *testing.T) {
		b := &browser{node: n, header: http.Header{"X-Forwarded-For": {"203.0.113.9"}}}
		for range 10 {
			b.post(params{"command": "listZones"}).fails(t, 401, 0)
		}
		b.header.Set("X-Forwarded-For", "203.0.113.10") // believed of trusted proxies only
		b.post(params{"command": "listZones"}).fails(t, 429, 4545)
		proxied := start(t, "-rate", "5", "-trusted-proxy", "127.0.0.0/8")
		b = &browser{node: proxied, header: http.Header{"X-Forwarded-For": {"198.51.100.1, 203.0.113.9"}}}
		for range 10 {
			b.post(params{"command": "listZones"}).fails(t, 401, 0)
		}
		b.post(params{"command": "listZones"}).fails(t, 429, 4545)
		b.header.Set("X-Forwarded-For", "203.0.113.10")
		b.post(params{"command": "listZones"}).fails(t, 401, 0)
	})
}

// Nothing that is secret shows anywhere but where it belongs.
func TestSecrets(t *testing.T) {
	t.Parallel()
	var log lockedText
	cfg := parsed(t, "-session-login", "-dev-key", "testkey:canary-secret-of-key", "-data", t.TempDir(), "-db", "")
	cfg.Env.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var spans lockedText
	cfg.Env.Tracer = spanText{w: &spans}
	n := startWith(t, cfg)
	const userData = "Y2FuYXJ5LXVzZXJkYXRh"
	dev := cloud.Credentials{Key: "testkey", Secret: "canary-secret-of-key"}
	var answers strings.Builder
	call := func(command string, p params) answer {
		a := n.as(dev, command, p)
		answers.WriteString(a.raw)
		return a
	}
	if err := n.cloud.SetPassword(t.Context(), "admin", password); err != nil {
		t.Fatal(err)
	}
	b := &browser{node: n}
	b.login("admin", password).ok(t)
	b.list().ok(t)
	sessionKey, session := b.key, b.cookies[0].Value
	b.login("admin", password+"x").fails(t, 531, 4365)
	b.post(params{"command": "login", "username": "admin", "password": password + "\x01"}).fails(t, 431, 4350)
	job := call("deployVirtualMachine", params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "startvm": "false", "userdata": userData}).ok(t)
	vm := job.str("id")
	call("addHost", params{"url": "sim://x", "hypervisor": "KVM", "zoneid": zone1, "podid": "22222222-0000-4000-8000-000000000006", "username": "r", "password": password}).ok(t)
	for _, c := range []string{"listVirtualMachines", "listEvents", "listUsers", "listAccounts", "listHosts", "listApis", "listAsyncJobs"} {
		call(c, nil)
	}
	call("listAsyncJobs", params{"jobstatus": "1"})
	n.until(func() bool {
		return num(call("queryAsyncJobResult", params{"jobid": job.str("jobid")}).ok(t).body["jobstatus"]) != 0
	})
	call("updateVirtualMachine", params{"id": vm, "userdata": userData}).ok(t)
	if got := n.as(dev, "listVirtualMachines", params{"id": vm, "userdata": "true"}).list("virtualmachine"); len(got) != 1 || got[0]["userdata"] != userData {
		t.Errorf("its owner gets %v", got)
	}
	page := &browser{node: n}
	for _, path := range []string{"/v1/jobs/" + job.str("jobid"), "/v1/jobs/" + job.str("jobid") + "/journal", "/v1/jobs", "/v1/vms", "/v1/audit", "/v1/commands"} {
		_, text := page.get(path, "Authorization", "Bearer "+dev.Key+"."+dev.Secret)
		answers.WriteString(text)
	}
	n.stop()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
	n.done <- nil
	files, err := filepath.Glob(filepath.Join(cfg.Data, "drover.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var db bytes.Buffer
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		db.Write(text)
	}
	admin, err := os.ReadFile(filepath.Join(cfg.Data, "admin.env"))
	if err != nil {
		t.Fatal(err)
	}
	_, generated, _ := strings.Cut(strings.TrimSpace(string(admin)), "DROVER_API_SECRET=")
	if !strings.Contains(spans.String(), "deployVirtualMachine") {
		t.Errorf("no span tells of the deploy: %s", spans.String())
	}
	for name, canary := range (params{"password": password, "dev secret": dev.Secret, "secret": generated, "sessionkey": sessionKey, "session": session, "userdata": userData}) {
		for where, text := range (params{"log": log.String(), "database": db.String(), "answers": answers.String(), "spans": spans.String()}) {
			if strings.Contains(text, canary) {
				t.Errorf("ref-58: %s is in the %s", name, where)
			}
		}
	}
}

// get fetches a page with the cookies, as they come from the own site.
func (b *browser) get(path string, headers ...string) (*http.Response, string) {
	b.t.Helper()
	return b.send(http.MethodGet, path, "", headers...)
}

func (b *browser) send(method, path, body string, headers ...string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.URL()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	for _, c := range b.cookies {
		req.AddCookie(c)
	}
	r, err := http.DefaultTransport.RoundTrip(req) // redirects are answers here
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return r, string(text)
}
