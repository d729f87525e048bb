package agent_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	c := a.sign("ca", time.Now().Add(time.Hour))
	a.key = c.PrivateKey.(*ecdsa.PrivateKey)
	a.cert = c.Leaf
	a.pool.AddCert(c.Leaf)
	return a
}

// sign makes a certificate for a name; the first one is the authority's own.
func (a *authority) sign(name string, until time.Time) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: a.cert == nil,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// mutual is a configuration for both ends.
func (a *authority) mutual(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: certs, RootCAs: a.pool, ClientCAs: a.pool, MinVersion: tls.VersionTLS12}
}

// behindTLS serves with a configuration.
func behindTLS(t testing.TB, h http.Handler, conf *tls.Config) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.TLS = conf
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestTLS(t *testing.T) {
	t.Run("agent-25 sec-48 mutual TLS", func(t *testing.T) {
		t.Parallel()
		ca, other := newAuthority(t), newAuthority(t)
		l := &lab{TB: t}
		node := http.NotFoundHandler()
		var nodeTLS *tls.Config
		front := behindTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { node.ServeHTTP(w, r) }), &tls.Config{
			MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nodeTLS, nil },
			Certificates: []tls.Certificate{ca.sign("n1", time.Now().Add(time.Hour))},
		})
		hostOf := func(string) string { return "host-1" }
		// The agent's own connections check the node's name as it is in the URL: an address here.
		agentTLS := ca.mutual(ca.sign("host-1", time.Now().Add(time.Hour)))
		agentTLS.ServerName = "n1"
		s, err := agent.NewServer(agent.ServerConfig{Env: drover.Env{Logger: quiet}, Nodes: []string{front.URL}, TLS: agentTLS})
		l.ok(err)
		echo(s)
		l.run(s)
		h := behindTLS(t, s, s.TLSConfig())
		client := func(conf *tls.Config, hostOf func(string) string) *agent.Client {
			c, err := agent.New(agent.Config{Env: drover.Env{Logger: quiet}, Callback: front.URL, TLS: conf, HostOf: hostOf})
			l.ok(err)
			l.run(c)
			return c
		}
		good := client(ca.mutual(ca.sign("n1", time.Now().Add(time.Hour))), hostOf)
		node, nodeTLS = good.Handler(), good.TLSConfig()
		l.ok(good.Ready(bg, h.URL))
		got, err := agent.Call[string](bg, good, h.URL+"/echo", "x")
		if got != "x" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		expired := ca.sign("n1", time.Now().Add(-time.Hour))
		var wg sync.WaitGroup
		for what, c := range map[string]*agent.Client{
			"no certificate":             client(ca.mutual(), hostOf),
			"certificate of others":      client(&tls.Config{RootCAs: ca.pool, MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{other.sign("n1", time.Now().Add(time.Hour))}}, hostOf),
			"expired certificate":        client(ca.mutual(expired), hostOf),
			"agent of others":            client(other.mutual(ca.sign("n1", time.Now().Add(time.Hour))), hostOf),
			"agent under another name":   client(ca.mutual(ca.sign("n1", time.Now().Add(time.Hour))), func(string) string { return "host-2" }),
			"agent's name as in the URL": client(ca.mutual(ca.sign("n1", time.Now().Add(time.Hour))), nil),
		} {
			wg.Go(func() {
				_, err := agent.Call[string](bg, c, h.URL+"/echo", "x")
				if !errors.Is(err, agent.ErrNotSent) || !agent.NotRun(err) {
					t.Errorf("%s: %v, want ErrNotSent", what, err)
				}
			})
		}
		wg.Wait()
		// Callbacks and commands want a certificate as well: a callback that of the host which the task was sent to.
		post := func(conf *tls.Config, path string, header ...string) (int, error) {
			r, err := http.NewRequestWithContext(bg, http.MethodPost, front.URL+path, http.NoBody)
			l.ok(err)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			conf.ServerName = "n1"
			tr := &http.Transport{TLSClientConfig: conf}
			defer tr.CloseIdleConnections()
			resp, err := tr.RoundTrip(r)
			if err != nil {
				return 0, err
			}
			defer resp.Body.Close()
			return resp.StatusCode, nil
		}
		if status, err := post(&tls.Config{RootCAs: ca.pool, MinVersion: tls.VersionTLS12}, "/drover/agent/callback", "Drover-Task", "x"); err == nil {
			t.Errorf("a callback without certificate: %d", status)
		}
		task, key := agent.Task("mine"), make(chan string, 1)
		mute := behindTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				key <- r.Header.Get("Drover-Key")
			}
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte("{}"))
		}), s.TLSConfig())
		_, err = good.Start(bg, mute.URL+"/x", 1, task)
		l.ok(err)
		k := <-key
		status, err := post(ca.mutual(ca.sign("host-2", time.Now().Add(time.Hour))), "/drover/agent/callback", "Drover-Task", "mine", "Drover-Key", k)
		if status != 403 || err != nil {
			t.Errorf("a callback of another host: %d, %v", status, err)
		}
		// An http.Server that does not insist changes nothing.
		lax := httptest.NewServer(s)
		defer lax.Close()
		if resp := l.send2(lax.URL + "/drover/echo"); resp != 403 {
			t.Errorf("without TLS: %d", resp)
		}
		if c := s.TLSConfig(); c.MinVersion < tls.VersionTLS12 || c.ClientAuth != tls.RequireAndVerifyClientCert {
			t.Errorf("TLSConfig %+v", c)
		}
	})
	t.Run("agent-25 redirects", func(t *testing.T) {
		t.Parallel()
		l := &lab{TB: t}
		followed := false
		target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
		defer target.Close()
		from := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
		defer from.Close()
		c, err := agent.New(agent.Config{Env: drover.Env{Logger: quiet}, Callback: "http://127.0.0.1:1"})
		l.ok(err)
		l.run(c)
		_, err1 := agent.Call[string](bg, c, from.URL+"/x", 1)
		_, err2 := agent.Get[string](bg, c, from.URL+"/x")
		for _, err := range []error{err1, err2} {
			var h *agent.HTTPError
			if !errors.As(err, &h) || h.Status != 302 {
				t.Errorf("%v, want 302", err)
			}
		}
		ctx, cancel := context.WithTimeout(bg, 100*time.Millisecond)
		defer cancel()
		if err := c.Ready(ctx, from.URL); err == nil {
			t.Error("ready by a redirect")
		}
		if followed {
			t.Error("a redirect was followed")
		}
	})
}

func (l *lab) send2(url string) int {
	r, err := http.NewRequestWithContext(bg, http.MethodGet, url, http.NoBody)
	l.ok(err)
	resp, err := http.DefaultTransport.RoundTrip(r)
	l.ok(err)
	defer resp.Body.Close()
	return resp.StatusCode
}
