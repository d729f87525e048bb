package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	heartbeat    = 15 * time.Second
	reauth       = 60 * time.Second
	writeTimeout = 40 * time.Second
)

var topics = []string{"job", "queue", "member", "host", "periodic"}

// wanted is what a stream asks for.
type wanted struct {
	topics             []string
	job, key, kind     string
	account, principal string
}

func (w *wanted) match(f *frame) bool {
	if len(w.topics) > 0 && !slices.Contains(w.topics, f.topic) {
		return false
	}
	if f.topic != "job" {
		return w.account == "" || f.topic != "queue"
	}
	return (w.account == "" || w.account == f.who) && (w.job == "" || w.job == f.job.ID) && (w.key == "" || w.key == f.job.Key) &&
		(w.kind == "" || w.kind == f.job.Kind)
}

func wantedOf(r *http.Request) (wanted, error) {
	q := r.URL.Query()
	if err := only(r, []string{"topics", "job", "key", "kind", "after"}); err != nil {
		return wanted{}, err
	}
	p := who(r.Context())
	w := wanted{job: q.Get("job"), key: q.Get("key"), kind: q.Get("kind"), account: p.Account, principal: p.Name}
	if s := q.Get("topics"); s != "" {
		w.topics = strings.Split(s, ",")
	}
	for _, t := range w.topics {
		if !slices.Contains(topics, t) {
			return w, bad(fmt.Sprintf("topics: %q is none of %s", t, strings.Join(topics, ", ")))
		}
	}
	return w, nil
}

// stream is one open answer.
type stream struct {
	c     *Console
	w     http.ResponseWriter
	rc    *http.ResponseController
	lines bool // NDJSON, else server-sent events
	want  wanted
	next  int64
	last  time.Time // something was sent
}

// events serves the live stream.
func (c *Console) events(w http.ResponseWriter, r *http.Request) error {
	want, err := wantedOf(r)
	if err != nil {
		return err
	}
	if refused := c.hub.enter(want.principal); refused != nil {
		w.Header().Set("Retry-After", "5")
		return refused
	}
	defer c.hub.leave(want.principal)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := &stream{c: c, w: w, rc: http.NewResponseController(w), want: want, lines: strings.Contains(r.Header.Get("Accept"), "ndjson")}
	_ = s.rc.SetReadDeadline(time.Time{}) // the host's is for requests; not every writer can
	w.Header().Set("Content-Type", "text/event-stream")
	if s.lines {
		w.Header().Set("Content-Type", "application/x-ndjson")
	}
	w.Header().Set("X-Accel-Buffering", "no")
	after := r.Header.Get("Last-Event-ID")
	if a := r.URL.Query().Get("after"); a != "" {
		after = a
	}
	var held bool
	s.next, held = c.hub.resume(after)
	if !s.send("hello", "", fmt.Sprintf(`{"node":%q,"oldest":%q}`, c.env.Node, c.hub.oldest())) || !held && !s.lost("unknown id") {
		return nil
	}
	if want.job != "" && c.cfg.Jobs != nil {
		c.env.Go("console/watch/"+want.job, func() { c.watch(ctx, want.job) })
	}
	s.run(ctx, r)
	return nil
}

// watch notes the changes of one job as far as this node hears of them, whichever node runs it.
func (c *Console) watch(ctx context.Context, id string) {
	for j, err := range c.cfg.Jobs.Watch(ctx, id) {
		if err != nil || ctx.Err() != nil {
			return
		}
		c.hub.note(j.ID, j.Rev)
	}
}

// run sends until the reader leaves, is too slow or not allowed any more, or the hub closes.
func (s *stream) run(ctx context.Context, r *http.Request) {
	checked := s.c.env.Clock.Now()
	for {
		fs, more, lost, closed := s.c.hub.since(s.next)
		switch {
		case lost:
			s.lost("too slow")
			return
		case closed:
			s.send("bye", "", `{}`)
			return
		}
		for i := range fs {
			s.next = fs[i].seq + 1
			if s.want.match(&fs[i]) && !s.send(fs[i].topic, s.c.hub.id(fs[i].seq), string(fs[i].data)) {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-more:
		case <-s.c.env.Clock.After(heartbeat):
		}
		if ctx.Err() != nil {
			return
		}
		now := s.c.env.Clock.Now()
		if now.Sub(s.last) >= heartbeat && !s.send("bookmark", s.c.hub.id(s.next-1), `{}`) {
			return
		}
		if now.Sub(checked) >= reauth {
			if _, refused := s.c.authenticate(r); refused != nil {
				return
			}
			checked = now
		}
	}
}

// lost says that frames are missing.
func (s *stream) lost(why string) bool {
	s.c.meters.told("gone", why)
	return s.send("gone", "", fmt.Sprintf(`{"why":%q}`, why))
}

// send writes one frame; false: the reader is gone.
func (s *stream) send(topic, id, data string) bool {
	s.last = s.c.env.Clock.Now()
	if topic != "gone" {
		s.c.meters.told(topic, "")
	}
	_ = s.rc.SetWriteDeadline(s.last.Add(writeTimeout)) // not every writer can
	var err error
	switch {
	case s.lines:
		_, err = fmt.Fprintf(s.w, "{\"event\":%q,\"id\":%q,\"data\":%s}\n", topic, id, data)
	case id == "":
		_, err = fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", topic, data)
	default:
		_, err = fmt.Fprintf(s.w, "id: %s\nevent: %s\ndata: %s\n\n", id, topic, data)
	}
	return err == nil && s.rc.Flush() == nil
}
