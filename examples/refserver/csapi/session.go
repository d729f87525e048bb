package csapi

import (
	"context"
	"net/http"
	"time"

	"github.com/drover-cloud/drover/dispatch"
)

// Sessions are what login opens.
type Sessions interface {
	// Login opens a session; one without Caller means that it is refused, whyever.
	Login(ctx context.Context, user, password, domain string) (Session, error)
	// Resume gives the caller of a live session, nil if there is none. A wrong key ends the session.
	Resume(ctx context.Context, id, key string) (caller any, err error)
	// Logout ends a session, if there is one.
	Logout(ctx context.Context, id string) error
}

// Session is a new session: ID is for the cookie, Key for the parameter sessionkey.
type Session struct {
	ID, Key string
	Caller  interface{ Identity() map[string]string }
}

const (
	sessionCookie = "JSESSIONID"
	keyCookie     = "sessionkey"
	idle          = 30 * time.Minute
)

type login struct {
	Username string          `param:"username,required"`
	Password dispatch.Secret `param:"password,required,secret"`
	Domain   string          `param:"domain"`
}

// loginAnswer has strings where CloudStack has them.
type loginAnswer struct {
	Username   string `json:"username"`
	UserID     string `json:"userid"`
	DomainID   string `json:"domainid"`
	Timeout    int    `json:"timeout"`
	Account    string `json:"account"`
	FirstName  string `json:"firstname"`
	LastName   string `json:"lastname"`
	Type       string `json:"type"`
	Registered string `json:"registered"`
	SessionKey string `json:"sessionkey"`
	TwoFactor  string `json:"is2faenabled"`
	Verified   string `json:"is2faverified"`

	id string // for the cookie
}

var errLogin = &dispatch.Error{Code: dispatch.Forbidden, Text: "Failed to authenticate user: check username, password and domain"}

// SignIn opens a session for a user at an address, or refuses it; after five failures for five minutes.
func (f *Face) SignIn(ctx context.Context, address, user, password, domain string) (s Session, err error) {
	if f.cfg.Sessions == nil {
		return s, dispatch.Errorf(dispatch.Forbidden, "session login is disabled")
	}
	who := user + " at " + address
	if wait := f.logins.Blocked(who); wait > 0 {
		return s, Busy(wait)
	}
	s, err = f.cfg.Sessions.Login(ctx, user, password, domain)
	if err == nil && s.Caller == nil {
		f.logins.Failed(who)
		err = errLogin
	}
	return s, err
}

func (f *Face) login(ctx context.Context, c login) (a loginAnswer, err error) {
	s, err := f.SignIn(ctx, addressOf(ctx), c.Username, c.Password.Reveal(), c.Domain)
	if err != nil {
		return a, err
	}
	id := s.Caller.Identity()
	a = loginAnswer{
		Username: id["user"], UserID: id["userid"], DomainID: id["domainid"], Timeout: int(idle.Seconds()), Account: id["account"],
		FirstName: id["user"], LastName: id["user"], Type: "0", Registered: "false", SessionKey: s.Key, TwoFactor: "false", Verified: "true", id: s.ID,
	}
	if IsAdmin(s.Caller) {
		a.Type = "1"
	}
	return a, nil
}

type logout struct{}

type logoutAnswer struct {
	Description string `json:"description"`
}

func (f *Face) logout(ctx context.Context, _ logout) (logoutAnswer, error) {
	if id := cookieOf(ctx); id != "" && f.cfg.Sessions != nil {
		if err := f.cfg.Sessions.Logout(ctx, id); err != nil {
			return logoutAnswer{}, err
		}
	}
	return logoutAnswer{"success"}, nil
}

// cookies sets or expires what browsers and clients keep of a session.
func cookies(w http.ResponseWriter, r *http.Request, answer any) {
	set := func(name, value, path string, age int) {
		http.SetCookie(w, &http.Cookie{ // #nosec G124 -- Secure under TLS; without it there is loopback only
			Name: name, Value: value, Path: path, MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
		})
	}
	switch a := answer.(type) {
	case loginAnswer:
		set(sessionCookie, a.id, "/client", 0)
		set(keyCookie, a.SessionKey, "/client/api", 0)
	case logoutAnswer:
		set(sessionCookie, "", "/client", -1)
		set(keyCookie, "", "/client/api", -1)
	}
}

// sender is what commands of this face may know of the request.
type sender struct{ address, session string }

type senderKey struct{}

func addressOf(ctx context.Context) string {
	s, _ := ctx.Value(senderKey{}).(sender)
	return s.address
}

func cookieOf(ctx context.Context) string {
	s, _ := ctx.Value(senderKey{}).(sender)
	return s.session
}

// Busy is a refusal for now.
func Busy(wait time.Duration) error {
	return &dispatch.Error{Code: dispatch.RateLimited, Text: "too many requests", Retryable: true, RetryAfter: wait}
}
