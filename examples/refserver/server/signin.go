package server

import (
	"html/template"
	"net/http"
	"strings"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/examples/refserver/native"
)

// signInCookie is what a browser has of a session: <id>.<key>. It is for /v1 and /console; /client has cookies of its own.
const signInCookie = "drover-session"

var signInPage = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>refserver: sign in</title>
<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark}body{font:1rem system-ui;max-width:20rem;margin:4rem auto;padding:0 1rem}
label,input,button{display:block;width:100%;box-sizing:border-box;margin:.3rem 0;font:inherit}</style><main><h1>Sign in</h1>
<form method="post"><label for="u">User</label><input id="u" name="username" autocomplete="username" required autofocus>
<label for="p">Password</label><input id="p" name="password" type="password" autocomplete="current-password" required>
<button>Sign in</button></form><p role="alert">{{.}}</p></main></html>`))

// signIn is the page where a browser gets its cookie, if sessions are allowed.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		_ = signInPage.Execute(w, "") // the client may be gone
		return
	case r.Method != http.MethodPost:
		h.Set("Allow", "GET, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<14)
	made, err := s.face.SignIn(r.Context(), s.cfg.address(r), r.PostFormValue("username"), r.PostFormValue("password"), "")
	if err != nil {
		e := dispatch.Public(err, false)
		w.WriteHeader(e.Info().Status)
		_ = signInPage.Execute(w, e.Text) // the client may be gone
		return
	}
	http.SetCookie(w, &http.Cookie{ // #nosec G124 -- Secure under TLS; without it there is loopback only
		Name: signInCookie, Value: made.ID + "." + made.Key, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, "/console/", http.StatusSeeOther)
}

// known is who has a client certificate, whose common name is a user's, or the cookie of a session.
func (s *Server) known(r *http.Request) (key string, caller any, err error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		name := r.TLS.VerifiedChains[0][0].Subject.CommonName
		caller, err = s.cloud.User(r.Context(), name)
		return "certificate " + name, caller, err
	}
	c, err := r.Cookie(signInCookie)
	if err != nil || !s.cfg.Login {
		return "", nil, nil
	}
	id, token, _ := strings.Cut(c.Value, ".")
	caller, err = s.cloud.Resume(r.Context(), id, token)
	return "session " + id, caller, err
}

// principal is who asks the console: a caller of /v1, whoever is known, or where nobody can sign in whoever sits at this machine. A
// user sees what is his account's; an administrator may change things too.
func (s *Server) principal(r *http.Request) (console.Principal, error) {
	caller := native.CallerOf(r.Context())
	if caller == nil {
		var err error
		if _, caller, err = s.known(r); err != nil {
			return console.Principal{}, err
		}
	}
	who, ok := caller.(interface{ Identity() map[string]string })
	switch {
	case !ok && s.cfg.Login:
		return console.Principal{}, console.ErrUnauthenticated
	case !ok:
		return console.Local(r)
	}
	id := who.Identity()
	p := console.Principal{Name: id["username"]}
	if !csapi.IsAdmin(caller) {
		p.Account, p.ReadOnly = id["account"], true
	}
	return p, nil
}

// guarded sends a browser that nobody knows to the page where it can sign in.
func (s *Server) guarded(next http.Handler) http.Handler {
	if !s.cfg.Login {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.principal(r); err != nil && r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r)
	})
}
