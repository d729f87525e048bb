package native

import (
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

// maxAhead is how far in the future a signature may expire.
const maxAhead = 24 * time.Hour

// errUnauthenticated is the one answer to all that can be wrong with credentials.
var errUnauthenticated = &dispatch.Error{Code: dispatch.Unauthenticated, Text: "credentials are missing or wrong"}

// authenticate says who asks, and refuses those who come too often. A bearer token decides if there is one, then a signature, then
// what the host knows.
func (f *Face) authenticate(r *http.Request) (caller any, err error) {
	from := f.address(r)
	if wait := f.cfg.Refused.Blocked(from); wait > 0 {
		return nil, csapi.Busy(wait)
	}
	key := ""
	if token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is {
		key, caller, err = f.bearer(r, token)
	} else if q := r.URL.Query(); signed(q) {
		key, caller, err = f.signature(r, q)
	} else if f.cfg.Authenticate != nil {
		key, caller, err = f.cfg.Authenticate(r)
	}
	switch {
	case err == nil && caller == nil:
		err = errUnauthenticated
		fallthrough
	case err != nil:
		if dispatch.CodeOf(err) == dispatch.Unauthenticated {
			f.cfg.Refused.Failed(from)
		}
		return nil, err
	}
	if wait := f.cfg.Rate.Take(key); wait > 0 {
		return nil, csapi.Busy(wait)
	}
	return caller, nil
}

func (f *Face) address(r *http.Request) string {
	if f.cfg.Address != nil {
		return f.cfg.Address(r)
	}
	return r.RemoteAddr
}

// bearer knows key.secret, which may travel in the clear only within this machine.
func (f *Face) bearer(r *http.Request, token string) (key string, caller any, err error) {
	if r.TLS == nil && !loopback(r.RemoteAddr) {
		return "", nil, &dispatch.Error{Code: dispatch.Unauthenticated, Text: "bearer tokens need TLS"}
	}
	key, given, _ := strings.Cut(token, ".")
	secret, caller, err := f.key(r, key)
	if err != nil || subtle.ConstantTimeCompare([]byte(given), secret) != 1 || caller == nil {
		return "", nil, orUnauthenticated(err)
	}
	return key, caller, nil
}

// key finds a secret; of an unknown key it is the decoy, and the caller nil, so that both take the same time.
func (f *Face) key(r *http.Request, key string) (secret []byte, caller any, err error) {
	secret, caller, err = f.cfg.Keys.Key(r.Context(), key)
	if err != nil {
		return nil, nil, dispatch.Errorf(dispatch.Internal, "native: keys: %w", err)
	}
	if secret == nil {
		return f.decoy, nil, nil
	}
	return secret, caller, nil
}

func orUnauthenticated(err error) error {
	if err != nil {
		return err
	}
	return errUnauthenticated
}

func signed(q url.Values) bool {
	for name := range q {
		if strings.EqualFold(name, "signature") {
			return true
		}
	}
	return false
}

// signature knows a signed query.
func (f *Face) signature(r *http.Request, q url.Values) (key string, caller any, err error) {
	params, lower := map[string]string{}, map[string]string{}
	for name, values := range q {
		params[name], lower[strings.ToLower(name)] = values[0], values[0]
	}
	secret, caller, err := f.key(r, lower["apikey"])
	if err != nil {
		return "", nil, err
	}
	ok := csapi.Verify(params, lower["signature"], secret)
	at, read := csapi.ParseExpires(lower["expires"])
	now := f.env.Clock.Now()
	if !ok || caller == nil || r.Method != http.MethodGet || lower["signatureversion"] != "3" || !read || at.Before(now) || at.After(now.Add(maxAhead)) {
		return "", nil, errUnauthenticated
	}
	return lower["apikey"], caller, nil
}

func loopback(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
