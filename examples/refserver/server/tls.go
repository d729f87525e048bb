package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/examples/refserver/limits"
)

// maxConnections is how many clients may be connected at once.
const maxConnections = 10_000

// TLS of the listener: files in PEM.
type TLS struct {
	Cert, Key string
	ClientCA  string // of client certificates, which are asked for then
	Insecure  bool   // other addresses than loopback without TLS
}

// listen opens the listener. It is bounded, and speaks TLS 1.2 or later if there is a certificate.
func (c *Config) listen(ctx context.Context) (net.Listener, error) {
	tlsConfig, err := c.TLS.config()
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, &FlagError{"listen", err}
	}
	l = &bounded{l, make(chan struct{}, maxConnections)}
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	return l, nil
}

func (t TLS) config() (*tls.Config, error) {
	if t.Cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, &FlagError{"tls-cert", err}
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if t.ClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, &FlagError{"tls-client-ca", err}
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, &FlagError{"tls-client-ca", errors.New("no certificate in it")}
	}
	return cfg, nil
}

// bounded accepts no more connections than there is room for.
type bounded struct {
	net.Listener
	room chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	b.room <- struct{}{}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { <-b.room })}, nil
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// secure adds the headers that every answer has.
func (c *Config) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// address is the client's: of the connection, or behind a trusted proxy the last one that is not a trusted proxy's.
func (c Config) address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for len(forwarded) > 0 && c.trusted(host) {
		last := strings.TrimSpace(forwarded[len(forwarded)-1])
		if _, err := netip.ParseAddr(last); err != nil {
			break
		}
		host, forwarded = last, forwarded[:len(forwarded)-1]
	}
	return host
}

func (c Config) trusted(host string) bool {
	a, err := netip.ParseAddr(host)
	for _, p := range c.Proxies {
		if err == nil && p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// refused counts failed authentications by address, unless there are no limits.
func (c Config) refused(clock limits.Clock) *limits.Failures {
	if c.Rate == 0 {
		return nil
	}
	return limits.NewFailures(clock, 10, time.Minute)
}

func (c Config) sessions(s csapi.Sessions) csapi.Sessions {
	if !c.Login {
		return nil
	}
	return s
}
