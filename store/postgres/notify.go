package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover/store"
)

// hint is a topic to wake; of a queue, per priority, also the earliest of what became claimable, so that claims need not look
// for it.
type hint struct {
	topic    string
	pos      bool
	priority int
	runAt    time.Time
}

func (h *hint) merge(o hint) {
	if o.runAt.Before(h.runAt) {
		h.runAt = o.runAt
	}
}

// key names what is merged.
type hintKey struct {
	topic    string
	pos      bool
	priority int
}

func (h hint) key() hintKey { return hintKey{h.topic, h.pos, h.priority} }

const (
	spacing    = 5 * time.Millisecond // between two NOTIFY of one process; the last of a burst is always followed by one
	maxPayload = 7900
	maxTopics  = 100 // of single jobs per flush; more are sent as "job/*"
)

// notifier sends hints after commits: to sleepers of this process at once, to others by NOTIFY on a pooled connection, at
// once and then at most once per spacing. It takes the commit lock of NOTIFY once per flush, not per job.
type notifier struct {
	s       *Store
	hub     hub
	channel string
	origin  string // of this process's own notifications, which it need not hear

	mu      sync.Mutex
	pending []hint
	at      map[hintKey]int // its index in pending
	jobs    int             // topics of single jobs in pending
	sending bool
	stop    context.CancelFunc // of the listener
	warned  bool
}

var _ store.Notifier = (*notifier)(nil)

func newNotifier(s *Store) *notifier {
	channel := "drover"
	if s.schema != "" {
		channel += "_" + s.schema
	}
	return &notifier{s: s, channel: channel[:min(len(channel), 63)], origin: fmt.Sprintf("%016x", s.env.Rand.Uint64()), at: map[hintKey]int{}}
}

// Wake gives a channel that gets a value soon after each hint on topic. While anybody sleeps here the store listens on a
// connection of its own; when that breaks, or the driver is not pgx, sleepers poll.
func (n *notifier) Wake(topic string) (<-chan struct{}, func()) {
	c := n.hub.add(topic)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stop == nil && n.s.bad == nil {
		ctx, cancel := context.WithCancel(context.Background())
		n.stop = cancel
		n.s.env.Go("postgres/listen", func() { n.listen(ctx) })
	}
	return *c, func() {
		left := n.hub.remove(topic, c)
		n.mu.Lock()
		defer n.mu.Unlock()
		if left == 0 && n.stop != nil && n.hub.count() == 0 {
			n.stop()
			n.stop = nil
		}
	}
}

// committed delivers hints of a transaction that has committed.
func (n *notifier) committed(hints []hint) {
	if len(hints) == 0 {
		return
	}
	for _, h := range hints {
		n.s.lowerCursors(h)
	}
	n.hub.sendAll(hints)
	n.mu.Lock()
	for _, h := range hints {
		if n.jobs > maxTopics && strings.HasPrefix(h.topic, "job/") { // sent as "job/*"
			continue
		}
		if i, ok := n.at[h.key()]; ok {
			n.pending[i].merge(h)
			continue
		}
		n.at[h.key()] = len(n.pending)
		if strings.HasPrefix(h.topic, "job/") {
			n.jobs++
		}
		n.pending = append(n.pending, h)
	}
	start := !n.sending
	n.sending = true
	n.mu.Unlock()
	if start {
		n.s.env.Go("postgres/notify", n.send)
	}
}

// sqlNotify rather loses a hint in a crash of the server than waits for its disk, and for commits that wait for it too.
const sqlNotify = `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`

// send flushes until nothing is pending.
func (n *notifier) send() {
	for {
		n.mu.Lock()
		hints := n.pending
		n.pending, n.at, n.jobs = nil, map[hintKey]int{}, 0
		n.sending = len(hints) > 0
		n.mu.Unlock()
		if len(hints) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		for _, p := range payloads(n.origin, hints) {
			if _, err := n.s.db.DB.ExecContext(ctx, sqlNotify, n.channel, p); err != nil {
				break // a hint; everything polls
			}
		}
		err := n.s.env.Sleep(ctx, spacing)
		cancel()
		_ = err
	}
}

// inside sends the hints of a joined transaction within it; this process hears them like any other.
func (n *notifier) inside(t *tx) {
	ps := payloads("", t.hints)
	t.hints, t.hinted = t.hints[:0], nil
	for _, p := range ps {
		if _, err := t.q.ExecContext(t.ctx, `SELECT pg_notify($1, $2)`, n.channel, p); err != nil && t.err == nil {
			t.err = fmt.Errorf("postgres: notify: %w", err)
		}
	}
}

// payloads are hints as texts that fit a notification: the origin, then a topic per line.
func payloads(origin string, hints []hint) (ps []string) {
	jobs := 0
	for _, h := range hints {
		if strings.HasPrefix(h.topic, "job/") {
			jobs++
		}
	}
	b := origin
	add := func(line string) {
		if len(b)+1+len(line) > maxPayload {
			ps = append(ps, b)
			b = origin
		}
		b += "\n" + line
	}
	if jobs > maxTopics {
		add("job/*")
	}
	for _, h := range hints {
		switch {
		case jobs > maxTopics && strings.HasPrefix(h.topic, "job/"):
		case h.pos:
			add(h.topic + "\x1f" + strconv.Itoa(h.priority) + "\x1f" + strconv.FormatInt(h.runAt.UnixMicro(), 10))
		default:
			add(h.topic)
		}
	}
	return append(ps, b)
}

// heard delivers a notification. Text that is not ours wakes whom it names, which harms nobody.
func (n *notifier) heard(payload string) {
	lines := strings.Split(payload, "\n")
	if lines[0] == n.origin {
		return
	}
	for _, l := range lines[1:] {
		parts := strings.Split(l, "\x1f")
		h := hint{topic: parts[0]}
		if len(parts) == 3 {
			p, err1 := strconv.Atoi(parts[1])
			us, err2 := strconv.ParseInt(parts[2], 10, 64)
			if err1 == nil && err2 == nil {
				h.pos, h.priority, h.runAt = true, p, time.UnixMicro(us).UTC()
				n.s.lowerCursors(h)
			}
		}
		n.hub.send(h.topic)
	}
}
