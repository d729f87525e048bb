package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// signedIn is a browser with the cookie of /v1 and /console.
func signedIn(n *node, user, word string) (*browser, *http.Response) {
	b := &browser{node: n}
	r, _ := b.send(http.MethodPost, "/login", url.Values{"username": {user}, "password": {word}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	b.cookies = r.Cookies()
	return b, r
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	n := start(t, "-session-login", "-rate", "200", "-burst", "300")
	if err := n.cloud.SetPassword(t.Context(), "admin", password); err != nil {
		t.Fatal(err)
	}
	t.Run("ref-60 only whoever signed in", func(t *testing.T) {
		stranger := &browser{node: n}
		if r, _ := stranger.get("/console/", "Accept", "text/html"); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/login" {
			t.Errorf("console: %d %v", r.StatusCode, r.Header)
		}
		if r, text := stranger.get("/login"); r.StatusCode != http.StatusOK || !strings.Contains(text, `type="password"`) {
			t.Errorf("login: %d %s", r.StatusCode, text)
		}
		if r, _ := stranger.get("/v1/vms"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("/v1: %d", r.StatusCode)
		}
		if b, r := signedIn(n, "admin", "wrong"); r.StatusCode != http.StatusForbidden || len(b.cookies) != 0 {
			t.Errorf("wrong password: %d %v", r.StatusCode, b.cookies)
		}
		b, r := signedIn(n, "admin", password)
		if r.StatusCode != http.StatusSeeOther || len(b.cookies) != 1 || !b.cookies[0].HttpOnly || b.cookies[0].SameSite != http.SameSiteStrictMode {
			t.Fatalf("%d %v", r.StatusCode, b.cookies)
		}
		for _, path := range []string{"/console/", "/v1/vms", "/v1/jobs"} {
			if r, text := b.get(path, "Accept", "text/html"); r.StatusCode != http.StatusOK {
				t.Errorf("%s: %d %s", path, r.StatusCode, text)
			}
		}
	})
	t.Run("ref-60 no other site, no GET", func(t *testing.T) {
		b, _ := signedIn(n, "admin", password)
		post := func(path, site string) int {
			r, _ := b.send(http.MethodPost, path, "{}", "Content-Type", "application/json", "Sec-Fetch-Site", site)
			return r.StatusCode
		}
		for _, path := range []string{"/v1/commands/listZones", "/v1/jobs/" + nobody + "/cancel", "/console/api/v1/jobs/" + nobody + "/cancel", "/login"} {
			if got := post(path, "cross-site"); got != http.StatusForbidden {
				t.Errorf("%s from another site: %d", path, got)
			}
		}
		if got := post("/v1/commands/listZones", "same-origin"); got != http.StatusOK {
			t.Errorf("from the own site: %d", got)
		}
		if r, _ := b.send(http.MethodPost, "/v1/commands/listZones", "name=x", "Content-Type", "application/x-www-form-urlencoded"); r.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("a form: %d", r.StatusCode)
		}
		// a link to a command, in a browser that has all cookies there are
		c := &browser{node: n}
		c.login("admin", password).ok(t)
		c.cookies = append(c.cookies, b.cookies...)
		id, j := n.deploy("linked", nil)
		n.wait(j).succeeds(t)
		if r, text := c.get("/client/api?command=stopVirtualMachine&id=" + id); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("GET with cookies only: %d %s", r.StatusCode, text)
		}
		if r, _ := c.get("/v1/commands/stopVirtualMachine?id=" + id); r.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET of a verb: %d", r.StatusCode)
		}
		if n.state(id) != "Running" {
			t.Errorf("it is %s", n.state(id))
		}
	})
}

func TestNativeRate(t *testing.T) {
	t.Parallel()
	n := start(t, "-rate", "5", "-burst", "8")
	t.Run("ref-57 on /v1", func(t *testing.T) {
		for i := range 40 {
			r, p := n.v1("GET", "/v1/vms", "")
			if r.StatusCode == http.StatusOK {
				continue
			}
			wantProblem(t, r, p, http.StatusTooManyRequests, "rate")
			if i < 8 || r.Header.Get("Retry-After") != "1" {
				t.Errorf("after %d: %v", i, r.Header)
			}
			return
		}
		t.Error("40 at once passed")
	})
	t.Run("ref-57 failed authentications on both faces", func(t *testing.T) {
		for range 10 {
			if r, _ := n.v1("GET", "/v1/vms", "", "Authorization", "Bearer testkey.wrong"); r.StatusCode != http.StatusUnauthorized {
				t.Fatalf("%d", r.StatusCode)
			}
		}
		r, p := n.v1("GET", "/v1/vms", "", "Authorization", "Bearer testkey.wrong")
		wantProblem(t, r, p, http.StatusTooManyRequests, "rate")
		n.call("listZones", nil).fails(t, 429, 4545)
	})
}
