package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

// details is one job for people: a line per field that has something to say.
func (a *app) details(j *job.Job, place string) string {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" && value != "-" {
			fmt.Fprintf(&b, "%-10s %s\n", name, value)
		}
	}
	at := func(name string, t time.Time) {
		s := a.instant(t)
		if a.outTTY && !t.IsZero() {
			s += " (" + ago(a.now.Sub(t)) + ")"
		}
		row(name, s)
	}
	row("id", j.ID)
	row("kind", clean(j.Kind))
	row("state", a.paint(stateColor(string(j.State)), string(j.State)))
	row("turn", clean(place))
	if j.Progress != (job.Progress{}) {
		row("progress", strings.TrimSpace(fmt.Sprintf("%s %d %%  %s  %s", bar(j.Progress.Percent), j.Progress.Percent, clean(j.Progress.Step), clean(j.Progress.Note))))
	}
	row("name", clean(j.Name))
	row("resource", clean(j.Resource))
	if j.Sync.Kind != "" {
		row("key", clean(j.Sync.String()))
	}
	row("pool", clean(j.Queue))
	row("node", clean(j.Session))
	row("attempts", fmt.Sprintf("%s failed, %d runs, %d lost", attempt(j), j.Runs, j.Lost))
	row("priority", itoa(j.Priority))
	for _, k := range slices.Sorted(maps.Keys(j.Identity)) {
		row("identity", clean(k+"="+j.Identity[k]))
	}
	row("parent", j.Parent)
	if j.Root != j.ID {
		row("root", j.Root)
	}
	row("retry of", j.RetryOf)
	at("created", j.Created)
	if j.State == job.Scheduled {
		at("due", j.RunAt)
	}
	at("started", j.Started)
	at("ended", j.Ended)
	at("deadline", j.Deadline)
	if !j.CancelAt.IsZero() {
		at("cancel", j.CancelAt)
		row("", clean(strings.TrimSpace("by "+j.CancelBy+" "+j.CancelReason)))
	}
	if j.Error != nil {
		row("error", strings.TrimSpace(clean(j.Error.Code)+"  "+clean(j.Error.Error())))
	}
	row("args", plain(j.Args))
	row("result", plain(j.Result))
	return b.String()
}

func plain(b json.RawMessage) string {
	if string(b) == "null" {
		return ""
	}
	return clean(string(b))
}

// timeline draws the spans of a job over its life, as bars.
func (a *app) timeline(spans []jobjson.Span) string {
	if len(spans) == 0 {
		return ""
	}
	const width = 40
	from, to := timeOf(spans[0].From), timeOf(spans[0].From)
	for i := range spans {
		if end := spans[i].Until(a.now); end.After(to) {
			to = end
		}
	}
	all := max(to.Sub(from), time.Millisecond)
	var b strings.Builder
	b.WriteByte('\n')
	for i := range spans {
		s := &spans[i]
		x := min(width-1, int(width*timeOf(s.From).Sub(from)/all))
		n := max(1, min(width-x, int((width*s.Until(a.now).Sub(timeOf(s.From))+all/2)/all)))
		line := strings.Repeat(" ", x) + strings.Repeat("#", n)
		text := strings.Repeat("  ", s.Depth) + clean(s.Text)
		if r := []rune(text); len(r) > 30 {
			text = string(r[:29]) + "…"
		}
		d := s.Until(a.now).Sub(timeOf(s.From))
		fmt.Fprintf(&b, "%s%s  %-*s  %9s", text, strings.Repeat(" ", 30-utf8.RuneCountInString(text)), width, line, d.Round(time.Millisecond))
		if more := strings.TrimSpace(s.Outcome + "  " + clean(s.Detail)); more != "" {
			b.WriteString("  " + more)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// journal is a job's journal for people.
func (a *app) journal(es []job.Entry) string {
	var b strings.Builder
	for _, e := range es {
		b.WriteString(a.entry(e) + "\n")
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
}

func (a *app) entry(e job.Entry) string {
	s := clean(e.Text)
	if len(e.Data) > 0 {
		s += "  " + clean(string(e.Data))
	}
	if e.Failure {
		s = a.paint("31", s)
	}
	return fmt.Sprintf("%s  %s  %s", a.instant(e.At), clean(e.Node), s)
}
