package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/propagation"

	"github.com/drover-cloud/drover/internal/chance"
)

// question is a request, and when to ask it again.
type question struct {
	method string
	url    *url.URL
	host   string
	header http.Header
	body   []byte
	// deadline of all tries; timed: the header that tells what is left of it.
	deadline time.Time
	timed    bool
	// again reports whether another try makes sense after an answer, or none: nil.
	again func(a *answer) bool
	// entry is told of what may have reached the agent.
	entry *entry
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	large  bool // longer than MaxBody
}

func (a *answer) envelope() (e envelope, ok bool) { return e, json.Unmarshal(a.body, &e) == nil }

// httpError is a's, with stale tokens told apart.
func (a *answer) httpError() error {
	if a.status == http.StatusConflict {
		if e, ok := a.envelope(); ok && e.Error != nil && e.Error.Code == codeStale {
			return ErrStale
		}
	}
	return &HTTPError{Status: a.status, Body: a.body[:min(len(a.body), maxText)]}
}

const tries = 5

// envelopeRoom is what an envelope adds to a result.
const envelopeRoom = 1 << 10

// ask makes up to five exchanges until an answer counts. Its error says what is known: ErrNotSent if the question reached
// nobody, ErrTaskLost if it may have; of an ended ctx likewise.
func (c *Client) ask(ctx context.Context, q *question) (*answer, error) {
	policy := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, Multiplier: 2, MaxInterval: 5 * time.Second, Clock: c.env.Clock, Stop: backoff.Stop}
	policy.Reset()
	reached := false
	for try := 1; ; try++ {
		if left := q.deadline.Sub(c.env.Clock.Now()); left <= noTime {
			return nil, ended(context.DeadlineExceeded, reached)
		}
		a, err := c.exchange(ctx, q)
		sent := err == nil || mayHaveArrived(err)
		if ctx.Err() != nil {
			return nil, ended(context.Cause(ctx), reached || sent)
		}
		refused := err == nil && NotRun(&HTTPError{Status: a.status})
		final := try == tries || !q.again(a)
		switch {
		case err == nil && final && reached && refused:
			return a, because(ErrTaskLost, a.httpError()) // an earlier try may have run
		case err == nil && final:
			return a, nil
		case err != nil && final && (reached || sent):
			return nil, because(ErrTaskLost, plain(err))
		case err != nil && final:
			return nil, because(ErrNotSent, plain(err))
		}
		reached = reached || sent && !refused
		wait := chance.Around(c.env.Rand, policy.NextBackOff(), 0.5)
		if a != nil {
			wait = max(wait, retryAfter(a))
		}
		if c.env.Clock.Now().Add(wait).After(q.deadline) {
			wait = max(q.deadline.Sub(c.env.Clock.Now()), 0)
		}
		if err := c.env.Sleep(ctx, wait); err != nil {
			return nil, ended(err, reached)
		}
	}
}

// retryAfter is the header in seconds, at most a minute.
func retryAfter(a *answer) time.Duration {
	s, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, time.Minute)
}

// exchange is one request and its answer, in a slot of the host.
func (c *Client) exchange(ctx context.Context, q *question) (*answer, error) {
	if err := c.slots.take(ctx, q.host); err != nil {
		return nil, &unsent{err}
	}
	defer c.slots.free(q.host)
	var left time.Duration
	if q.timed {
		if left = q.deadline.Sub(c.env.Clock.Now()); left <= noTime {
			return nil, &unsent{context.DeadlineExceeded}
		}
	}
	connected := c.cfg.HTTP != nil // only our own transport is known to tell
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	r, err := http.NewRequestWithContext(ctx, q.method, q.url.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, &unsent{invalid("request cannot be made")}
	}
	if q.header != nil {
		r.Header = q.header.Clone()
	}
	if q.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.timed {
		r.Header.Set(headerTimeout, strconv.FormatInt(left.Milliseconds(), 10))
	}
	traceContext.Inject(ctx, propagation.HeaderCarrier(r.Header))
	q.entry.flies()
	resp, err := c.http.RoundTrip(r)
	if err != nil && !connected {
		err = &unsent{err}
	}
	q.entry.landed(err == nil || mayHaveArrived(err))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	most := c.cfg.MaxBody + envelopeRoom
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(most)+1))
	if err != nil {
		return nil, err
	}
	c.heard(q.host, agentOf(resp.Header))
	return &answer{status: resp.StatusCode, header: resp.Header, body: body[:min(len(body), most)], large: len(body) > most}, nil
}

// heard keeps which agent lives at a host.
func (c *Client) heard(host, agent string) {
	if agent == "" {
		return
	}
	c.tab.Lock()
	defer c.tab.Unlock()
	c.agents[host] = agent
}

// agentOf is the boot id in h, if it is one.
func agentOf(h http.Header) string {
	if a := h.Get(headerAgent); isText(a, maxName) {
		return a
	}
	return ""
}

// unsent is an error of an exchange that reached nobody.
type unsent struct{ error }

func (e *unsent) Unwrap() error { return e.error }

// mayHaveArrived reports that err may have come after the request: connections that were refused, names that do not resolve and
// failures of TLS come before.
func mayHaveArrived(err error) bool {
	var (
		u    *unsent
		op   *net.OpError
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		rec  tls.RecordHeaderError
		auth x509.UnknownAuthorityError
		host x509.HostnameError
	)
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "remote error" || op.Op == "local error") { // the latter are TLS alerts
		return false
	}
	before := errors.As(err, &u) || errors.As(err, &dns) || errors.As(err, &cert) || errors.As(err, &rec) || errors.As(err, &auth) || errors.As(err, &host)
	return !before
}

// plain is err without the URL, which may hold what is nobody's business.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
