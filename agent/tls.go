package agent

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

const (
	connectWithin = 5 * time.Second
	tlsWithin     = 5 * time.Second
	headersWithin = 30 * time.Second
	idleFor       = 90 * time.Second
)

// newTransport is what makes exchanges when the host brings nothing. Redirects are for clients to follow: it does not.
func newTransport(perHost int, conf *tls.Config, hostOf func(string) string) *http.Transport {
	conf = strict(conf)
	d := &net.Dialer{Timeout: connectWithin}
	t := &http.Transport{
		DialContext: d.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: tlsWithin, ResponseHeaderTimeout: headersWithin,
		IdleConnTimeout: idleFor, MaxIdleConnsPerHost: perHost, DisableCompression: true,
	}
	if hostOf != nil {
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialAs(ctx, d, conf, network, addr, hostOf("https://"+addr))
		}
	}
	return t
}

// strict is conf with TLS 1.2 at least.
func strict(conf *tls.Config) *tls.Config {
	if conf == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conf = conf.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	return conf
}

// dialAs connects to addr, whose certificate must be for host.
func dialAs(ctx context.Context, d *net.Dialer, conf *tls.Config, network, addr, host string) (net.Conn, error) {
	raw, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conf = conf.Clone()
	conf.ServerName = host
	c := tls.Client(raw, conf)
	ctx, cancel := context.WithTimeout(ctx, tlsWithin)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Addr: raw.RemoteAddr(), Err: err}
	}
	return c, nil
}

// TLSConfig is ServerConfig.TLS for the http.Server in front: at least TLS 1.2, and client certificates required where there
// are ClientCAs.
func (s *Server) TLSConfig() *tls.Config { return listening(s.cfg.TLS) }

// TLSConfig is Config.TLS for the http.Server in front of Handler, likewise.
func (c *Client) TLSConfig() *tls.Config { return listening(c.cfg.TLS) }

func listening(conf *tls.Config) *tls.Config {
	conf = strict(conf)
	if conf.ClientCAs != nil {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf
}

// proven reports whether r may be served: where client certificates are wanted, one that conf's ClientCAs signed was shown, even
// if the http.Server in front did not insist; where host is not "", it is for that name.
func proven(r *http.Request, conf *tls.Config, host string) bool {
	if conf == nil || conf.ClientCAs == nil {
		return true
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return false
	}
	return host == "" || r.TLS.PeerCertificates[0].VerifyHostname(host) == nil
}
