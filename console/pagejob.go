package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

// bar is a span as it is drawn: x and width in percent.
type bar struct {
	span
	X, W string
	Dur  string
	Open bool
}

type tick struct{ X, Text string }

type jobPage struct {
	jobObject
	Why      string // the state in words
	Live     bool
	Bars     []bar
	Ticks    []tick
	T0, T1   int64 // ms
	Open     bool  // T1 is now
	Journal  []entryObject
	Cut      bool // the journal has more
	Children []jobObject
	ArgsTree *node
	ResTree  *node
	ErrTree  *node
	Raw      string
	IDKeys   []chip
	Steps    bool // some are done
	Sealed   bool // the arguments
	Due      string
	Trace    string // address
}

const shownEntries = 200

func (v *views) job(r *http.Request, p *page) (string, error) {
	c := v.c
	j, err := c.get(r.Context(), r.PathValue("id"))
	if err != nil {
		return "", err
	}
	past, err := c.pastOf(r.Context(), j)
	if err != nil {
		return "", err
	}
	b := jobPage{jobObject: c.wholeOf(j), Live: !j.State.Final()}
	p.Heading, p.Stream = j.Kind+" "+short(j.ID), "topics=job,queue&job="+j.ID
	if b.Key != nil && j.State == job.Waiting && c.cfg.Queues != nil {
		if l, err := c.line(r.Context(), j.Sync); err == nil {
			b.Why = placeIn(l, j, past.now)
		}
	}
	b.Why = cmpOr(b.Why, whyOf(j))
	b.draw(timeline(past), j, past.now)
	b.Steps, b.Sealed, b.Due = len(past.steps) > 0, sealed(j.Args), stamp(j.RunAt).String()
	if j.Trace != "" && c.cfg.TraceURL != "" {
		b.Trace = strings.ReplaceAll(c.cfg.TraceURL, "{trace}", j.Trace)
	}
	from := max(0, len(past.entries)-shownEntries)
	b.Cut = from > 0
	for _, e := range past.entries[from:] {
		b.Journal = append(b.Journal, c.entryOf(j.Kind, e))
	}
	for _, k := range past.children {
		b.Children = append(b.Children, jobjson.Of(k))
	}
	b.ArgsTree, b.ResTree = treeOf(b.Args), treeOf(b.Result)
	if j.Error != nil {
		if e, err := json.Marshal(j.Error); err == nil {
			b.ErrTree = treeOf(e)
		}
	}
	for _, k := range sortedKeys(j.Identity) {
		b.IDKeys = append(b.IDKeys, chip{Name: k, Value: j.Identity[k]})
	}
	p.Body = b
	return "job", nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// placeIn is a waiter's place in words.
func placeIn(l *keyLine, j *job.Job, now time.Time) string {
	for _, w := range l.Waiters {
		if w.Seq != j.Seq {
			continue
		}
		s := fmt.Sprintf("%s of %d in the line of %s", ordinal(w.Place), len(l.Waiters), keyText(&l.Key))
		if len(l.Holders) > 0 {
			s += ", behind " + short(l.Holders[0].Content)
			if since := time.Time(l.Holders[0].Since); !since.IsZero() {
				s += ", who has had the turn for " + spanText(max(0, now.Sub(since)))
			}
		}
		if l.Paused {
			s += "; the line is paused"
		}
		return s
	}
	return ""
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

func whyOf(j *job.Job) string {
	switch j.State {
	case job.Scheduled:
		if j.Attempt > 0 {
			return "will be tried again"
		}
		return "not due yet"
	case job.Ready:
		return "waits for a free worker of " + j.Queue
	case job.Running:
		if !j.CancelAt.IsZero() {
			return "cancel requested; its handler is winding up"
		}
		return "on " + j.Session
	case job.Parked:
		return "waits to be woken"
	case job.Cancelled:
		return j.CancelReason
	}
	return ""
}

// draw lays the spans out.
func (b *jobPage) draw(spans []span, j *job.Job, now time.Time) {
	t0, t1 := j.Created, cmpTime(j.Ended, now)
	for i := range spans {
		if e := spans[i].Until(t1); e.After(t1) {
			t1 = e
		}
	}
	if t1.Sub(t0) < time.Millisecond {
		t1 = t0.Add(time.Millisecond)
	}
	b.T0, b.T1, b.Open = t0.UnixMilli(), t1.UnixMilli(), !j.State.Final()
	total := t1.Sub(t0).Seconds()
	at := func(t time.Time) float64 { return min(100, max(0, 100*t.Sub(t0).Seconds()/total)) }
	for _, s := range spans {
		open := s.To.IsZero() && b.Open
		from, to := at(time.Time(s.From)), at(s.Until(t1))
		b.Bars = append(b.Bars, bar{s, percent(from), percent(max(0.3, to-from)), took(time.Time(s.From), s.Until(t1), now), open})
	}
	for i := range 5 {
		d := t1.Sub(t0) * time.Duration(i) / 4
		b.Ticks = append(b.Ticks, tick{percent(float64(i) * 25), "+" + spanText(d)})
	}
	b.Ticks[0].Text = "0"
}

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) + "%" }

func cmpTime(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// node of a JSON tree.
type node struct {
	Key, Kind, Text string
	Children        []node
	More            int // children left out
}

const (
	maxNodes  = 2000
	maxNodeIn = 200
)

// treeOf is JSON as a tree, at most maxNodes of it. Order of members is that of the text.
func treeOf(b json.RawMessage) *node {
	if len(b) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	left := maxNodes
	n, err := readNode(d, &left, 0)
	if err != nil {
		return &node{Kind: "string", Text: string(b)}
	}
	return &n
}

func readNode(d *json.Decoder, left *int, depth int) (n node, err error) {
	t, err := d.Token()
	if err != nil {
		return n, err
	}
	*left--
	switch t := t.(type) {
	case json.Delim:
		n.Kind = map[json.Delim]string{'{': "object", '[': "array"}[t]
		for i := 0; d.More(); i++ {
			key := strconv.Itoa(i)
			if t == '{' {
				k, err := d.Token()
				if err != nil {
					return n, err
				}
				key = fmt.Sprint(k)
			}
			child, err := readNode(d, left, depth+1)
			if err != nil {
				return n, err
			}
			if child.Key = key; *left > 0 && i < maxNodeIn && depth < 32 {
				n.Children = append(n.Children, child)
			} else {
				n.More++
			}
		}
		_, err = d.Token()
	case string:
		n.Kind, n.Text = "string", t
	case nil:
		n.Kind, n.Text = "null", "null"
	default:
		n.Kind, n.Text = "number", fmt.Sprint(t)
	}
	return n, err
}

func sparkOf(ms []minuteObject) (s spark) {
	const w, h = 240.0, 48.0
	for _, m := range ms {
		s.Max, s.Sum, s.Fails = max(s.Max, m.Finished), s.Sum+m.Finished, s.Fails+m.Failed
	}
	line := func(of func(minuteObject) int) string {
		var pts []string
		for i, m := range ms {
			x, y := w*float64(i)/float64(max(1, len(ms)-1)), h-2-(h-6)*float64(of(m))/float64(max(1, s.Max))
			pts = append(pts, fmt.Sprintf("%.1f,%.1f", x, y))
		}
		return strings.Join(slices.Clip(pts), " ")
	}
	s.Finished = line(func(m minuteObject) int { return m.Finished })
	s.Area = "0,48 " + s.Finished + " 240,48"
	s.Failed = line(func(m minuteObject) int { return m.Failed })
	return s
}
