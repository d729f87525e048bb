package libvirt

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"strings"

	"github.com/drover-cloud/drover"
)

// ParseURI reads how libvirt's own clients name a daemon: qemu:///system, test:///default, qemu+unix:///session?socket=/run/x,
// qemu+tcp://host:16509/system. TCP has no encryption and no authentication: use it inside a tunnel. Other ways are Config.Dial's.
// A bad one is a *[drover.FieldError].
func ParseURI(uri string) (cfg Config, err error) {
	bad := func(reason string) (Config, error) { return Config{}, &drover.FieldError{Field: "URI", Reason: reason} }
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.Opaque != "" || u.Fragment != "" {
		return bad("must be like qemu:///system, without a user")
	}
	q := u.Query()
	cfg.Socket = q.Get("socket")
	if q.Del("socket"); len(q) > 0 {
		return bad("its query may have a socket, and nothing else")
	}
	kind, way, _ := strings.Cut(u.Scheme, "+")
	cfg.URI = kind + "://" + u.Path
	switch {
	case kind != "qemu" && kind != "test":
		return bad("names the driver " + kind + ": want qemu or test")
	case way == "tcp" && u.Hostname() != "" && cfg.Socket == "":
		at := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "16509"))
		cfg.Dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", at)
		}
	case way != "" && way != "unix" || u.Host != "":
		return bad("a daemon is reached by its socket, as qemu+unix:///system, or as qemu+tcp://HOST/system")
	}
	return cfg, cfg.check()
}
