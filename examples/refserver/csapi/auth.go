package csapi

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"time"

	"github.com/drover-cloud/drover/dispatch"
)

// Keys finds who an API key belongs to.
type Keys interface {
	// Key gives the key's secret and its owner as the caller of commands. An unknown key is no error: its secret is nil.
	Key(ctx context.Context, key string) (secret []byte, caller any, err error)
}

const maxAhead = 24 * time.Hour

var errUnauthenticated = &dispatch.Error{
	Code: dispatch.Unauthenticated, Text: "unable to verify user credentials and/or request signature",
}

// admit gives the caller, nil for login and logout without credentials, or refuses those who come too often.
func (f *Face) admit(ctx context.Context, r *http.Request, q *request, who sender) (any, error) {
	if wait := f.cfg.Refused.Blocked(who.address); wait > 0 {
		return nil, Busy(wait)
	}
	name := q.get("command")
	if name == "login" && r.Method != http.MethodPost {
		return nil, &dispatch.Error{Code: errMethod.Code, Text: "login needs POST"}
	}
	if name == "login" || name == "logout" {
		return nil, f.limit(who.address)
	}
	caller, key, err := f.authenticate(ctx, q, who)
	if err != nil {
		if dispatch.CodeOf(err) == dispatch.Unauthenticated {
			f.cfg.Refused.Failed(who.address)
		}
		return nil, err
	}
	return caller, f.limit(key)
}

func (f *Face) limit(key string) error {
	if wait := f.cfg.Rate.Take(key); wait > 0 {
		return Busy(wait)
	}
	return nil
}

func (f *Face) address(r *http.Request) string {
	if f.cfg.Address != nil {
		return f.cfg.Address(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// authenticate gives the caller, and what its requests are counted by: a signature that is there decides alone, else the session.
// All that can be wrong with a request's credentials has one answer.
func (f *Face) authenticate(ctx context.Context, r *request, who sender) (caller any, key string, err error) {
	if f.cfg.Sessions != nil && who.session != "" && !r.has("signature") {
		caller, err = f.cfg.Sessions.Resume(ctx, who.session, r.get("sessionkey"))
		if err == nil && caller == nil {
			err = errUnauthenticated
		}
		return caller, "session " + who.session, err
	}
	secret, caller, err := f.cfg.Keys.Key(ctx, r.get("apikey"))
	if err != nil {
		return nil, "", dispatch.Errorf(dispatch.Internal, "csapi: keys: %w", err)
	}
	known := secret != nil
	if !known {
		secret = f.decoy
	}
	signature := r.get("signature")
	if signature == "" {
		signature = "AAAAAAAAAAAAAAAAAAAAAAAAAAA=" // the same work
	}
	signed := Verify(r.params, signature, secret)
	if !known || !signed || !f.inTime(r) {
		return nil, "", errUnauthenticated
	}
	return caller, r.get("apikey"), nil
}

// inTime checks expires of signature version 3, and with enforced timestamps that it is there.
func (f *Face) inTime(r *request) bool {
	if r.get("signatureversion") != "3" {
		return !f.cfg.EnforceTimestamps
	}
	at, ok := ParseExpires(r.get("expires"))
	if !ok {
		return false
	}
	now := f.env.Clock.Now()
	ahead := maxAhead
	if f.cfg.EnforceTimestamps {
		ahead = 15 * time.Minute
	}
	return !at.Before(now) && !at.After(now.Add(ahead))
}

// ParseExpires reads the parameter expires.
func ParseExpires(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05-0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// newDecoy is what an unknown key verifies against.
func newDecoy() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return b
}
