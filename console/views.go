package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// views renders the pages.
type views struct {
	c      *Console
	assets *assets
	pages  map[string]*template.Template
}

// page is what every page has.
type page struct {
	Root, Assets   string // relative addresses
	Title, Heading string
	Nav            []navItem
	Links          []Link
	ReadOnly       bool
	Who            string
	Notice, Bad    string
	Now            time.Time
	Poll           int    // seconds between reads of what is shown
	Stream         string // query of the live stream
	Keys           []keyHelp
	Body           any
}

type navItem struct {
	Path, Text, Key string
	Here            bool
}

type keyHelp struct{ Keys, Does string }

var keyTable = []keyHelp{
	{"?", "this help"}, {"/", "filter"}, {"g o", "overview"}, {"g j", "jobs"}, {"g q", "queues"}, {"g m", "nodes"}, {"g h", "hosts"},
	{"g p", "periodic tasks"}, {"g b", "bus"}, {"g e", "events"},
	{"j k ↓ ↑", "next and previous row"}, {"Enter", "open the row"}, {"x", "select the row"}, {"*", "select the page"},
	{"c", "cancel"}, {"r", "retry"}, {"p", "pause or resume"}, {"Alt ↑ ↓ Home End", "move a waiting job"}, {"u", "undo"},
	{".", "pause live updates"}, {"t", "theme"}, {"Esc", "close, or back"},
}

func newViews(c *Console) (*views, error) {
	v := &views{c: c, pages: map[string]*template.Template{}}
	var err error
	if v.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	for _, name := range []string{"overview", "jobs", "job", "queues", "queue", "members", "periodic", "hosts", "bus", "events", "problem"} {
		t := template.New("layout.html").Funcs(v.funcs())
		if v.pages[name], err = t.ParseFS(templates, "templates/layout.html", "templates/parts.html", "templates/"+name+".html"); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// mount adds the pages of the faces there are.
func (v *views) mount(mux *http.ServeMux) {
	mux.Handle("GET /assets/{tag}/{file}", v.assets)
	mux.HandleFunc("GET /{$}", v.page(v.overview))
	if hasJobs(v.c) {
		mux.HandleFunc("GET /jobs", v.page(v.jobs))
		mux.HandleFunc("GET /jobs/{id}", v.page(v.job))
		mux.HandleFunc("GET /events", v.page(v.events))
	}
	if hasQueues(v.c) {
		mux.HandleFunc("GET /queues", v.page(v.queues))
		mux.HandleFunc("GET /queues/{kind}/{id}", v.page(v.queue))
	}
	if hasMembers(v.c) {
		mux.HandleFunc("GET /members", v.page(v.members))
	}
	if hasTasks(v.c) {
		mux.HandleFunc("GET /periodic", v.page(v.periodic))
	}
	if hasHosts(v.c) {
		mux.HandleFunc("GET /hosts", v.page(v.hosts))
	}
	if hasBus(v.c) {
		mux.HandleFunc("GET /bus", v.page(v.bus))
	}
	lost := v.page(func(r *http.Request, _ *page) (string, error) { return "", notFound(r.URL.Path) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			(&problem{Status: http.StatusMethodNotAllowed, Code: "wrong-method", Detail: "pages are only read"}).write(w)
			return
		}
		lost(w, r)
	})
}

// page serves what fill has filled in; it answers the template's name.
func (v *views) page(fill func(*http.Request, *page) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := v.base(r)
		status := http.StatusOK
		name, err := fill(r, p)
		if err != nil {
			pr := problemOf(err)
			if pr.Code == "internal" {
				v.c.env.Logger.ErrorContext(r.Context(), "console: page failed", "path", r.URL.Path, "err", err)
			}
			pr.Title = http.StatusText(pr.Status)
			name, status, p.Heading, p.Body = "problem", pr.Status, pr.Title, pr
		}
		var b bytes.Buffer
		if err := v.pages[name].Execute(&b, p); err != nil {
			v.c.env.Logger.ErrorContext(r.Context(), "console: page failed", "path", r.URL.Path, "err", err)
			(&problem{Status: http.StatusInternalServerError, Code: "internal"}).write(w)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(b.Bytes())
	}
}

var notices = map[string]string{
	"cancel": "Cancel requested.", "cancelled": "Cancelled.", "retry": "This is the new job.", "priority": "Priority changed.",
	"reschedule": "Rescheduled.", "hold": "Held.", "wake": "Woken.", "fence": "Fenced.", "limit": "Limit changed.", "clear": "The line is cleared.",
	"move": "Moved.", "pause": "Paused.", "resume": "Resumed.", "resize": "Resized.", "mark": "Marked.", "confirm-down": "Confirmed: it is down.", "forget": "Forgotten.", "drain": "It drains.", "undrain": "It takes work again.",
	"trigger": "It runs now.", "enable": "Enabled.", "disable": "Disabled.",
}

var complaints = map[string]string{
	"wrong-state": "Refused: it has changed meanwhile. This is how it is now.", "conflict": "Refused: it has changed meanwhile. This is how it is now.",
	"invalid": "Refused: what was entered is not valid.", "not-found": "It is not there any more.", "read-only": "This console only shows.",
	"forbidden": "You may not do that.", "unavailable": "It cannot be done now. Try again.",
}

func (v *views) base(r *http.Request) *page {
	c := v.c
	p := who(r.Context())
	b := &page{
		Root: root(r), Title: c.cfg.Title, Links: c.cfg.Links, ReadOnly: p.ReadOnly, Who: p.Name, Now: c.now(), Poll: 30, Keys: keyTable,
	}
	b.Assets = b.Root + "assets/" + v.assets.tag
	for _, n := range []struct {
		path, text, key string
		has             bool
	}{{"", "Overview", "o", true}, {"jobs", "Jobs", "j", hasJobs(c)}, {"queues", "Queues", "q", hasQueues(c)}, {"members", "Nodes", "m", hasMembers(c)}, {"hosts", "Hosts", "h", hasHosts(c)},
		{"periodic", "Periodic", "p", hasTasks(c)}, {"bus", "Bus", "b", hasBus(c)}, {"events", "Events", "e", hasJobs(c)}} {
		if n.has {
			here := strings.TrimPrefix(r.URL.Path, "/")
			b.Nav = append(b.Nav, navItem{n.path, n.text, n.key, here == n.path || n.path != "" && strings.HasPrefix(here, n.path+"/")})
		}
	}
	q := r.URL.Query()
	b.Notice = notices[q.Get("notice")]
	if code := q.Get("problem"); code != "" {
		if b.Bad = complaints[code]; b.Bad == "" {
			b.Bad = "It did not work. The log tells more."
		}
	}
	if c.cfg.Nodes == nil && c.up(r.Context()) > 1 {
		b.Poll = 3 // other nodes' changes are not pushed here
	}
	return b
}

// up is how many nodes are not known to be gone.
func (c *Console) up(ctx context.Context) (n int) {
	ms, err := c.members(ctx)
	if err != nil {
		return 0
	}
	for _, m := range ms.Items {
		if m.State != "down" && m.State != "left" {
			n++
		}
	}
	return n
}

func (v *views) funcs() template.FuncMap {
	return template.FuncMap{
		"short": short, "seg": url.PathEscape, "first": firstLine, "span": spanText,
		"when": func(t any) template.HTML { return v.when(t, "") },
		"ago":  func(t any) template.HTML { return v.when(t, " ago") },
		"beat": func(ms int64) string {
			if ms < 1000 {
				return "now"
			}
			return spanText(time.Duration(ms)*time.Millisecond) + " ago"
		},
		"sched":   schedule,
		"took":    func(from, to any) string { return took(asTime(from), asTime(to), v.c.now()) },
		"final":   func(s job.State) bool { return s.Final() },
		"dict":    dict,
		"iso":     func(t any) string { return stamp(asTime(t)).String() },
		"ms":      func(t any) int64 { return asTime(t).UnixMilli() },
		"n":       number,
		"wait":    func(ms int64) string { return spanText(time.Duration(ms) * time.Millisecond) },
		"skipped": func(t badTask) int64 { return t.Missed + t.Overruns + t.Gated + t.Taken },
		"dots":    func(n int) []struct{} { return make([]struct{}, min(n, 12)) },
	}
}

// dict gives several values to a template.
func dict(kv ...any) (map[string]any, error) {
	m := map[string]any{}
	for i := 0; i+1 < len(kv); i += 2 {
		k, is := kv[i].(string)
		if !is {
			return nil, errors.New("dict: a name is no string")
		}
		m[k] = kv[i+1]
	}
	return m, nil
}

func asTime(t any) time.Time {
	switch t := t.(type) {
	case stamp:
		return time.Time(t)
	case time.Time:
		return t
	}
	return time.Time{}
}

// when is an instant as a time element: how long ago, for the page's script to keep true.
func (v *views) when(x any, ago string) template.HTML {
	t := asTime(x)
	if t.IsZero() {
		return "–"
	}
	iso, keep := stamp(t).String(), ""
	if ago != "" {
		keep = " data-ago"
	}
	d := v.c.now().Sub(t)
	text := spanText(d.Abs())
	switch {
	case d > -1500*time.Millisecond && d < time.Second:
		text = "now"
	case d < 0:
		text = "in " + text
	default:
		text += ago
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s"%s>%s</time>`, iso, iso, keep, template.HTMLEscapeString(text))) // #nosec G203 -- digits and units
}

var goDuration = regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?(ms|s)\b`)

// schedule words a timetable: its durations as everywhere else on the page.
func schedule(s string) string {
	return goDuration.ReplaceAllStringFunc(s, func(text string) string {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return text
		case d >= time.Hour && d%time.Hour == 0:
			return fmt.Sprintf("%d h", d/time.Hour)
		case d >= time.Minute && d < time.Hour && d%time.Minute == 0:
			return fmt.Sprintf("%d m", d/time.Minute)
		case d >= time.Second && d < time.Minute && d%time.Second == 0:
			return fmt.Sprintf("%d s", d/time.Second)
		}
		return spanText(d)
	})
}

// took is how long from…to lasted, up to now if it still does.
func took(from, to, now time.Time) string {
	if from.IsZero() {
		return "–"
	}
	if to.IsZero() {
		to = now
	}
	return spanText(max(0, to.Sub(from)))
}

// spanText is a duration in at most two units.
func spanText(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d m %02d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %02d m", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// number groups thousands by thin spaces.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// keyText is kind/id for people.
func keyText(k *keyObject) string {
	if k == nil {
		return ""
	}
	return syncqueue.Key{Kind: k.Kind, ID: k.ID}.String()
}
