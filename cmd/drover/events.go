package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover/internal/jobjson"
)

// event is a frame of the live stream.
type event struct {
	Event string          `json:"event"`
	ID    string          `json:"id,omitempty"`
	Data  json.RawMessage `json:"data"`
}

// change is what a frame says of a job, or of anything else.
type change struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`
	State    string        `json:"state"`
	Rev      int64         `json:"rev"`
	Percent  int           `json:"percent"`
	Step     string        `json:"step"`
	Key      string        `json:"key"`
	Resource string        `json:"resource"`
	Node     string        `json:"node"`
	At       jobjson.Stamp `json:"at"`
}

// errAgain has the stream opened anew.
var errAgain = errors.New("again")

// stopped is an error of who is handed the frames.
type stopped struct{ error }

func (s stopped) Unwrap() error { return s.error }

const (
	firstPause = 250 * time.Millisecond
	lastPause  = 4 * time.Second
	maxFrame   = 1 << 20
)

// stream hands on the frames of the live stream, from the one behind the last one seen when it has to be opened again; what is lost
// then is told on stderr. It ends with the error of each, or with ctx.
func (r *remote) stream(ctx context.Context, query string, each func(event) error) error {
	q, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	for opened, pause := false, firstPause; ; {
		err := r.once(ctx, q, func(e event) error {
			if opened, pause = true, firstPause; e.ID != "" {
				q.Set("after", e.ID)
			}
			if e.Event == "gone" {
				r.a.comment("gone: some events are missing from here")
			}
			return each(e)
		})
		var told stopped
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &told) && !errors.Is(told.error, errAgain):
			return told.error
		case errors.Is(err, errAgain):
		case !opened || err != nil && codeOf(err) != unreachable:
			return err
		}
		if pause == firstPause {
			r.a.note("the connection to %s is lost; trying again", r.base.Host)
		}
		if r.a.env.Sleep(ctx, pause) != nil {
			return context.Cause(ctx)
		}
		pause = min(2*pause, lastPause)
	}
}

// once reads one connection to its end.
func (r *remote) once(ctx context.Context, q url.Values, each func(event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := r.request(ctx, http.MethodGet, "/events", q, nil, "Accept", "application/x-ndjson")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	in.Buffer(nil, maxFrame)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			return failure(unreachable, "%s: not a stream of events: %w", r.base.Host, err)
		}
		if e.Event == "bye" {
			return errAgain
		}
		if err := each(e); err != nil {
			return stopped{err}
		}
	}
	return errAgain
}

// comment is a line for whoever reads along.
func (a *app) comment(text string) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, "# %s\n", text)
	}
}

func (a *app) events() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "follow what happens, until it is interrupted", Description: example("drover events -topic job,member"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "topic", Usage: "`TOPICS`: job, queue, member, host, periodic; all without it"}},
		Action: func(ctx context.Context, c *cli.Command) error {
			if _, err := want(c, 0, 0); err != nil {
				return err
			}
			r, err := a.serverOnly("events")
			if err != nil {
				return err
			}
			return a.tailEvents(ctx, r, url.Values{"topics": {c.String("topic")}})
		},
	}
}

func (a *app) tailAll(ctx context.Context, r *remote) error {
	return a.tailEvents(ctx, r, url.Values{"topics": {"job"}})
}

// maxSeen bounds what is remembered of jobs, so that no event is told twice.
const maxSeen = 10_000

func (a *app) tailEvents(ctx context.Context, r *remote, q url.Values) error {
	seen, all := map[string]int64{}, []event{}
	err := r.stream(ctx, q.Encode(), func(e event) error {
		var ch change
		switch e.Event {
		case "hello", "bookmark", "gone":
			return nil
		}
		if err := json.Unmarshal(e.Data, &ch); err != nil {
			return nil //nolint:nilerr // of a newer server
		}
		if e.Event == "job" {
			if seen[ch.ID] >= ch.Rev {
				return nil
			}
			if len(seen) >= maxSeen {
				clear(seen)
			}
			seen[ch.ID] = ch.Rev
		}
		return a.happened(e, ch, &all)
	})
	if a.format == "json" && ctx.Err() != nil {
		if err := a.document(listOf[event]{Items: all}); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return err
}

// happened writes one event, at once; -o json is one document at the end.
func (a *app) happened(e event, ch change, all *[]event) error {
	switch a.format {
	case "json":
		*all = append(*all, e)
		return nil
	case "ndjson":
		return a.line(e)
	case "id":
		return a.print(ch.ID + "\n")
	}
	at := timeOf(ch.At)
	if at.IsZero() {
		at = a.env.Clock.Now()
	}
	if e.Event != "job" {
		return a.print(strings.TrimSpace(fmt.Sprintf("%s  %s  %s  %s", a.instant(at), e.Event, clean(ch.ID), clean(ch.State))) + "\n")
	}
	text := fmt.Sprintf("%s  %s  %s  %s  %s", a.instant(at), a.shortID(ch.ID), a.paint(stateColor(ch.State), ch.State), clean(ch.Kind), clean(dash(ch.Key+verb(ch.Key == "", ch.Resource, ""))))
	if ch.Percent > 0 || ch.Step != "" {
		text += fmt.Sprintf("  %d%% %s", ch.Percent, clean(ch.Step))
	}
	if ch.Node != "" {
		text += "  on " + clean(ch.Node)
	}
	return a.print(strings.TrimSpace(text) + "\n")
}
