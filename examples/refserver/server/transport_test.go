package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate makes a pair of files for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "admin"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTransport(t *testing.T) {
	t.Parallel()
	t.Run("ref-59 TLS", func(t *testing.T) {
		cert, key := certificate(t)
		cfg := parsed(t, "-tls-cert", cert, "-tls-key", key, "-tls-client-ca", cert)
		s, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		ctx, stop := contextWithCancel(t)
		go func() { done <- s.Run(ctx) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		pool := x509.NewCertPool()
		text, err := os.ReadFile(cert)
		if err != nil || !pool.AppendCertsFromPEM(text) {
			t.Fatal(err)
		}
		get := func(most uint16) (*http.Response, error) {
			c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: most, MinVersion: tls.VersionTLS10}}}
			return c.Get(s.URL() + "/healthz")
		}
		r, err := get(0)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK || r.Header.Get("Strict-Transport-Security") == "" || r.Header.Get("Server") != "" {
			t.Errorf("%v", r)
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		for status, certs := range map[int][]tls.Certificate{http.StatusUnauthorized: nil, http.StatusOK: {pair}} {
			c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs, MinVersion: tls.VersionTLS12}}}
			r, err := c.Get(s.URL() + "/v1/vms")
			if err != nil {
				t.Fatal(err)
			}
			if _ = r.Body.Close(); r.StatusCode != status {
				t.Errorf("%d client certificates: %d, want %d", len(certs), r.StatusCode, status)
			}
		}
		if r, err := get(tls.VersionTLS11); err == nil {
			_ = r.Body.Close()
			t.Error("TLS 1.1 is accepted")
		}
	})
	t.Run("ref-59 a client that is slow", func(t *testing.T) {
		if testing.Short() {
			t.Skip("waits 5 s")
		}
		n := start(t)
		c, err := net.Dial("tcp", strings.TrimPrefix(n.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // it is closed at the other end
		began := time.Now()
		if _, err := fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(began.Add(30 * time.Second))
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("not cut: %v", err)
		}
		if took := time.Since(began); took < 4*time.Second || took > 20*time.Second {
			t.Errorf("cut after %v", took)
		}
	})
}
