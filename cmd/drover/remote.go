package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

const (
	askTime  = 30 * time.Second
	waitTime = 50 * time.Second // of a request that waits for a change; 60 s is the most
	patience = 30 * time.Second // for a server that was there and does not answer now
)

// remote is the source of a server's API.
type remote struct {
	a     *app
	base  *url.URL // with a slash at its end
	token string
	http  *http.Client
}

// newRemote is the API at or below the address: the console, or what it is part of.
func newRemote(a *app, address, token string) (*remote, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usage("-server must be an address like https://host:8080 or https://host/console/")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usage("-server has more than host and path: a token is given by -token-file or DROVER_TOKEN")
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1") + "/"
	if host := net.ParseIP(u.Hostname()); token != "" && u.Scheme == "http" && u.Hostname() != "localhost" && !host.IsLoopback() {
		return nil, usage("-server %s: a token is not sent in the clear: use https", u.Host)
	}
	t := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout, MaxConnsPerHost: 64, Proxy: http.ProxyFromEnvironment}
	return &remote{a: a, base: u, token: token, http: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// problem is what the API says when it does not do it.
type problem struct {
	Status       int
	Code, Detail string
}

func (p *problem) err() error {
	code := unreachable
	switch {
	case p.Status == http.StatusNotFound:
		code = notFound
	case p.Status == http.StatusUnauthorized, p.Status == http.StatusForbidden, p.Status == http.StatusConflict:
		code = refused
	case p.Status < http.StatusInternalServerError:
		code = badUsage
	}
	text := p.Detail
	if text == "" {
		text = strings.ToLower(http.StatusText(p.Status))
	}
	if p.Status == http.StatusUnauthorized {
		text += ": give a token by -token-file or DROVER_TOKEN"
	}
	return failure(code, "%s", text)
}

// request sends one; the answer's body is to be closed.
func (r *remote) request(ctx context.Context, method, path string, q url.Values, body any, head ...string) (*http.Response, error) {
	u := *r.base
	u.Path, u.RawPath = u.Path+"v1"+path, ""
	if raw := r.base.Path + "v1" + path; strings.Contains(path, "%") {
		u.RawPath = raw
		if p, err := url.PathUnescape(raw); err == nil {
			u.Path = p
		}
	}
	u.RawQuery = q.Encode()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	res, err := r.http.Do(req)
	if err != nil {
		if r.a.ctx.Err() != nil {
			return nil, context.Cause(r.a.ctx)
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address's path and query
		}
		return nil, failure(unreachable, "%s: %w", r.base.Host, err)
	}
	if res.StatusCode < 300 || res.StatusCode == http.StatusNotModified {
		return res, nil
	}
	return nil, r.refusal(res)
}

// refusal is what an answer that is none says, and closes it.
func (r *remote) refusal(res *http.Response) error {
	defer res.Body.Close()
	p := problem{Status: res.StatusCode}
	if b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20)); err == nil && strings.Contains(res.Header.Get("Content-Type"), "json") {
		_ = json.Unmarshal(b, &p) // without a text the status says enough
		p.Status = res.StatusCode
	} else {
		p.Detail = fmt.Sprintf("%s answers %s to %s: is it the address of a console?", r.base.Host, res.Status, res.Request.URL.Path)
	}
	return p.err()
}

// ask sends a request and decodes what comes back.
func (r *remote) ask(ctx context.Context, method, path string, q url.Values, body, to any) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	res, err := r.request(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if to == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(to); err != nil {
		return failure(unreachable, "%s: not an answer of drover's API: %w", r.base.Host, err)
	}
	return nil
}

func (r *remote) get(ctx context.Context, path string, q url.Values, to any) error {
	return r.ask(ctx, http.MethodGet, path, q, nil, to)
}

func (r *remote) post(ctx context.Context, path string, body, to any) error {
	if body == nil {
		body = struct{}{}
	}
	return r.ask(ctx, http.MethodPost, path, nil, body, to)
}

type listOf[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

func jobPath(id string) string { return "/jobs/" + url.PathEscape(id) }

func (r *remote) Get(ctx context.Context, id string) (*job.Job, error) {
	var o jobjson.Job
	if err := r.get(ctx, jobPath(id), nil, &o); err != nil {
		return nil, err
	}
	return o.Job(), nil
}

func (r *remote) Page(ctx context.Context, q job.Query) ([]*job.Job, string, error) {
	var l listOf[jobjson.Job]
	if err := r.get(ctx, "/jobs", valuesOf(q), &l); err != nil {
		return nil, "", err
	}
	js := make([]*job.Job, len(l.Items))
	for i := range l.Items {
		js[i] = l.Items[i].Job()
	}
	return js, l.Next, nil
}

// valuesOf is a query as the API's filters.
func valuesOf(q job.Query) url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			v.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	for _, s := range q.States {
		v.Add("state", string(s))
	}
	v["kind"], v["pool"] = q.Kinds, q.Queues
	if q.Key != (syncqueue.Key{}) {
		v.Set("key", q.Key.String())
	}
	set("resource", q.Resource)
	set("parent", q.Parent)
	set("root", q.Root)
	set("node", q.Session)
	set("account", q.Account)
	set("text", q.Text)
	set("id", q.Suffix)
	set("after", q.After)
	at("created_after", q.Created.From)
	at("created_before", q.Created.To)
	at("finished_after", q.Ended.From)
	at("finished_before", q.Ended.To)
	if q.Older > 0 {
		v.Set("longer", q.Older.String())
	}
	if q.Newest {
		v.Set("sort", "-created")
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

func (r *remote) Journal(ctx context.Context, id string) iter.Seq2[job.Entry, error] {
	return r.journalAfter(ctx, id, 0)
}

// journalAfter is the journal from the row behind n.
func (r *remote) journalAfter(ctx context.Context, id string, n int64) iter.Seq2[job.Entry, error] {
	return func(yield func(job.Entry, error) bool) {
		for after := strconv.FormatInt(n, 10); ; {
			var l listOf[jobjson.Entry]
			if err := r.get(ctx, jobPath(id)+"/journal", url.Values{"after": {after}, "limit": {"1000"}}, &l); err != nil {
				yield(job.Entry{}, err)
				return
			}
			for i := range l.Items {
				if !yield(l.Items[i].Entry(), nil) {
					return
				}
			}
			if after = l.Next; after == "" {
				return
			}
		}
	}
}

func (r *remote) Timeline(ctx context.Context, id string) ([]jobjson.Span, error) {
	var l listOf[jobjson.Span]
	err := r.get(ctx, jobPath(id)+"/timeline", nil, &l)
	return l.Items, err
}

func (r *remote) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Watch asks again and again for the next revision. A server that goes away is waited for.
func (r *remote) Watch(ctx context.Context, id string) iter.Seq2[*job.Job, error] {
	return func(yield func(*job.Job, error) bool) {
		tag, lost := "", time.Time{}
		for ctx.Err() == nil {
			j, now, err := r.next(ctx, id, tag)
			switch {
			case err != nil && codeOf(err) == unreachable && tag != "" && (lost.IsZero() || r.a.env.Clock.Now().Sub(lost) < patience):
				if lost.IsZero() {
					lost = r.a.env.Clock.Now()
				}
				_ = r.a.env.Sleep(ctx, poll)
				continue
			case err != nil:
				yield(nil, err)
				return
			}
			lost = time.Time{}
			if j == nil {
				continue
			}
			if tag = now; !yield(j, nil) || j.State.Final() {
				return
			}
		}
	}
}

// next is the job when its revision is not tag; nil if it was all the time.
func (r *remote) next(ctx context.Context, id, tag string) (*job.Job, string, error) {
	ctx, cancel := context.WithTimeout(ctx, waitTime+askTime)
	defer cancel()
	var q url.Values
	var head []string
	if tag != "" {
		q, head = url.Values{"wait": {waitTime.String()}}, []string{"If-None-Match", tag}
	}
	res, err := r.request(ctx, http.MethodGet, jobPath(id), q, nil, head...)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotModified {
		return nil, tag, nil
	}
	var o jobjson.Job
	if err := json.NewDecoder(res.Body).Decode(&o); err != nil {
		return nil, "", failure(unreachable, "%s: %w", r.base.Host, err)
	}
	return o.Job(), res.Header.Get("ETag"), nil
}
