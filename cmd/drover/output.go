package main

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// view is how one kind of object is shown.
type view[T any] struct {
	columns []column[T]
	id      func(T) string
	object  func(T) any // its JSON
}

type column[T any] struct {
	head  string
	cell  func(a *app, v T) string
	color func(text string) string // an SGR code, "" = none
	wide  bool                     // only with -o wide
	right bool                     // numbers
}

// list writes objects as -o asks; next is the cursor of what follows.
func list[T any](a *app, v view[T], items []T, next string) error {
	switch a.format {
	case "json":
		objects := make([]any, len(items))
		for i, it := range items {
			objects[i] = v.object(it)
		}
		return a.document(struct {
			Items []any  `json:"items"`
			Next  string `json:"next,omitempty"`
		}{objects, next})
	case "ndjson":
		for _, it := range items {
			if err := a.line(v.object(it)); err != nil {
				return err
			}
		}
		return nil
	case "id":
		var b strings.Builder
		for _, it := range items {
			b.WriteString(v.id(it) + "\n")
		}
		return a.print(b.String())
	}
	return v.table(a, items)
}

// show writes one object: as a list of one where detail is nil, else by detail.
func show[T any](a *app, v view[T], it T, detail func() string) error {
	switch {
	case a.format == "json":
		return a.document(v.object(it))
	case detail == nil || a.format == "ndjson" || a.format == "id":
		return list(a, v, []T{it}, "")
	}
	return a.print(detail())
}

// table writes rows in columns that do not wrap. Without rows the header goes to stderr.
func (v view[T]) table(a *app, items []T) error {
	cols := slices.DeleteFunc(slices.Clone(v.columns), func(c column[T]) bool { return c.wide && a.format != "wide" })
	rows := make([][]string, len(items)+1)
	width := make([]int, len(cols))
	for r := range rows {
		rows[r] = make([]string, len(cols))
		for i, c := range cols {
			if r == 0 {
				rows[r][i] = c.head
			} else {
				rows[r][i] = clean(c.cell(a, items[r-1]))
			}
			width[i] = max(width[i], utf8.RuneCountInString(rows[r][i]))
		}
	}
	var b strings.Builder
	for r, row := range rows {
		for i, text := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(text))
			if cols[i].right {
				b.WriteString(pad)
			}
			if r > 0 && cols[i].color != nil {
				b.WriteString(a.paint(cols[i].color(text), text))
			} else {
				b.WriteString(text)
			}
			if i < len(row)-1 {
				if !cols[i].right {
					b.WriteString(pad)
				}
				b.WriteString("  ")
			}
		}
		b.WriteByte('\n')
	}
	if len(items) == 0 {
		_, _ = io.WriteString(a.stderr, b.String())
		return nil
	}
	return a.print(b.String())
}

// paint colours text where colours are wanted.
func (a *app) paint(code, text string) string {
	if !a.color || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// print writes to stdout.
func (a *app) print(s string) error {
	_, err := io.WriteString(output{a}, s)
	return err
}

// output is stdout; its errors are told from those of the store.
type output struct{ a *app }

func (o output) Write(p []byte) (int, error) {
	n, err := o.a.stdout.Write(p)
	if err != nil {
		return n, outputError{&coded{badEnd, err}}
	}
	return n, nil
}

// document writes one JSON value, for people if they read it.
func (a *app) document(v any) error {
	indent := ""
	if a.outTTY {
		indent = "  "
	}
	return a.encode(v, indent)
}

func (a *app) line(v any) error { return a.encode(v, "") }

func (a *app) encode(v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return failure(badEnd, "%w", err)
	}
	return a.print(b.String())
}

// clean makes text of others one line that does nothing to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

const layout = "2006-01-02T15:04:05.000Z07:00"

// when shows an instant in a table: how long ago on a terminal, else RFC 3339.
func (a *app) when(t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case a.outTTY:
		return ago(a.now.Sub(t))
	}
	return a.instant(t)
}

// instant shows an instant in full.
func (a *app) instant(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if a.utc {
		return t.UTC().Format(layout)
	}
	return t.Local().Format(layout)
}

func ago(d time.Duration) string {
	if d < -time.Second {
		return "in " + short(-d)
	}
	return short(max(d, 0)) + " ago"
}

// short is a duration in its two largest units.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return d.Truncate(time.Second).String()
	case d < 24*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	days := d / (24 * time.Hour)
	rest := (d % (24 * time.Hour)).Truncate(time.Hour)
	return strings.TrimSuffix(itoa(int(days))+"d"+strings.TrimSuffix(rest.String(), "0m0s"), "0s")
}

// shortID is an id for a terminal, where it need not be whole.
func (a *app) shortID(id string) string {
	if a.outTTY {
		return tail8(id)
	}
	return id
}

func tail8(id string) string { return id[max(0, len(id)-8):] }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
