package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

// Config of a [Console]. Every field is optional: a face that is nil hides its section, and its routes answer 404.
type Config struct {
	Env   drover.Env
	Title string // in the page's head; default "drover"

	Jobs   Jobs   // *job.Manager
	Queues Queues // *syncqueue.Queue
	Leases Leases // *lease.Session

	Members  Members  // membership, as the host has it
	Periodic Periodic // *periodic.Set
	Hosts    Hosts    // the hosts that machines run on
	Bus      Bus      // *bus.Bus
	// Nodes reaches the other nodes' consoles, for what only a process knows. Nil: only this node's is shown, and the page says so.
	Nodes Nodes
	// Drain has this node take nothing new and come to rest. Nil: it cannot be asked for here.
	Drain func(ctx context.Context) error
	// Resume ends that. Nil: it cannot be asked for here.
	Resume func(ctx context.Context) error

	// Auth says who asks, for the page, the API and, every 60 s again, open streams. Its error is [ErrUnauthenticated] (401),
	// [ErrForbidden] (403) or any other (500); one that is an http.Handler answers itself, such as by a redirect. Nil answers only requests from loopback that also name a loopback host;
	// [Open] answers everybody.
	Auth func(*http.Request) (Principal, error)
	// Allow is asked for every verb; an error refuses it (403). Nil allows all verbs to everybody who may read.
	Allow func(Principal, Verb, Target) error
	// ReadOnly refuses all verbs and leaves them off the page.
	ReadOnly bool
	// Mask changes what is shown of a job's arguments, result and journal data, before anything leaves. Nil shows all.
	Mask func(kind string, json []byte) []byte
	// Tell is what a principal with an Account is told of an error: of a job or, without a code, of one of its runs and steps. Nil tells all.
	Tell func(job.Error) job.Error
	// TraceURL is where a trace is shown, with {trace} in it for the trace's id. http and https only.
	TraceURL string
	// Links are menu entries of the host; http, https and relative addresses only.
	Links []Link
}

// Link is a menu entry.
type Link struct{ Text, URL string }

// Principal is who asks.
type Principal struct {
	Name     string // for the log and journals
	ReadOnly bool
	Account  string // not "": sees and steers only jobs with this Identity["account"]
}

// Verb names what is done, as in the routes: cancel, retry, pause …
type Verb string

// Target names what it is done to.
type Target struct {
	Type string // job, queue, kind, pool, member, task or operation
	ID   string // of a queue kind/id
}

// Open is an Auth that answers everybody: the wish to have no access control here.
func Open(*http.Request) (Principal, error) { return Principal{Name: "anyone"}, nil }

func configError(field, format string, args ...any) error {
	return fmt.Errorf("console: %s: %s: %w", field, fmt.Sprintf(format, args...), drover.ErrConfig)
}

func (c *Config) check() error {
	for _, f := range []struct {
		name string
		face any
	}{{"Jobs", c.Jobs}, {"Queues", c.Queues}, {"Leases", c.Leases}, {"Members", c.Members}, {"Periodic", c.Periodic}, {"Hosts", c.Hosts}, {"Bus", c.Bus}, {"Nodes", c.Nodes}} {
		if v := reflect.ValueOf(f.face); f.face != nil && v.Kind() == reflect.Pointer && v.IsNil() {
			return configError(f.name, "is a nil %T: leave the field nil to hide the section", f.face)
		}
	}
	if c.Title == "" {
		c.Title = "drover"
	}
	if len(c.Title) > 64 {
		return configError("Title", "has %d bytes, most are 64", len(c.Title))
	}
	if u, err := url.Parse(c.TraceURL); c.TraceURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || !strings.Contains(c.TraceURL, "{trace}")) {
		return configError("TraceURL", "%q: must be an http or https address with {trace} in it", c.TraceURL)
	}
	for _, l := range c.Links {
		u, err := url.Parse(l.URL)
		if l.Text == "" || err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
			return configError("Links", "%q to %q: needs a text, and an http, https or relative address", l.Text, l.URL)
		}
	}
	c.Env = c.Env.Defaults()
	c.Title = strings.TrimSpace(c.Title)
	return nil
}
