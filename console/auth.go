package console

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
)

// Errors of an Auth.
var (
	ErrUnauthenticated = errors.New("console: not authenticated")
	ErrForbidden       = errors.New("console: forbidden")
)

type principalKey struct{}

// who is the principal of a request that has passed authenticate.
func who(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// authenticate says who asks, or the problem to answer.
func (c *Console) authenticate(r *http.Request) (Principal, *problem) {
	if c.cfg.Auth == nil {
		if !local(r) {
			return Principal{}, &problem{Status: http.StatusForbidden, Code: "forbidden",
				Detail: "only requests from this machine to a loopback host are answered: set console.Config.Auth to serve others"}
		}
		return Principal{Name: "local", ReadOnly: c.cfg.ReadOnly}, nil
	}
	p, err := c.cfg.Auth(r)
	var own http.Handler
	switch {
	case errors.As(err, &own):
		return p, &problem{Status: http.StatusUnauthorized, Code: "unauthenticated", answer: own}
	case errors.Is(err, ErrUnauthenticated):
		return p, &problem{Status: http.StatusUnauthorized, Code: "unauthenticated"}
	case errors.Is(err, ErrForbidden):
		return p, &problem{Status: http.StatusForbidden, Code: "forbidden"}
	case err != nil:
		c.env.Logger.ErrorContext(r.Context(), "console: authentication", "err", err)
		return p, &problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "authentication failed for an inner reason"}
	}
	p.ReadOnly = p.ReadOnly || c.cfg.ReadOnly
	return p, nil
}

// Local is the Auth of a Config without one: it knows requests from this machine to a loopback host, and refuses all others.
func Local(r *http.Request) (Principal, error) {
	if !local(r) {
		return Principal{}, ErrForbidden
	}
	return Principal{Name: "local"}, nil
}

// local: from loopback, and for a name that only loopback has, so that no foreign page reaches us by a name it controls.
func local(r *http.Request) bool {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(peer); err != nil || ip == nil || !ip.IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// allowed asks whether the principal may do it.
func (c *Console) allowed(p Principal, v Verb, t Target) *problem {
	if p.ReadOnly {
		return &problem{Status: http.StatusForbidden, Code: "read-only", Detail: "this console only shows"}
	}
	if c.cfg.Allow != nil {
		if err := c.cfg.Allow(p, v, t); err != nil {
			return &problem{Status: http.StatusForbidden, Code: "forbidden", Detail: err.Error()}
		}
	}
	return nil
}

const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets the headers that every answer has.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}
