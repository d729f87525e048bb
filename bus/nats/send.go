package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/internal/broker"
)

// Send publishes m, and returns when the server has it. Calls and what goes back to callers it trusts to a connection on which the
// server was heard a moment ago: a caller learns from the reply, or from the server, what became of its call.
func (t *Transport) Send(ctx context.Context, m *bus.Message) error {
	nc, err := t.line.Wait(ctx, t.env.Clock, true, "server")
	if err != nil {
		return err
	}
	a := m.Address()
	told, answer := false, ""
	switch {
	case a.Events, a.Fanout, a.Inbox:
	case m.Wire.Kind == bus.KindCall:
		answer = t.calls + broker.Escape(m.ID)
	default: // the server tells there that nobody receives it
		told, answer = true, t.names+t.number()
	}
	n, err := t.publish(nc, t.subject(a), answer, m)
	switch {
	case errors.Is(err, client.ErrMaxPayload):
		return fmt.Errorf("%w: more than the server takes", bus.ErrInvalid)
	case err != nil:
		return fmt.Errorf("%w: %w", bus.ErrNotSent, err)
	}
	if (a.Inbox || m.Wire.Kind == bus.KindCall) && t.unheard.add(n, t.env.Clock.Now()) {
		return nil
	}
	fctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	err = nc.FlushWithContext(fctx)
	if told && t.nobody(answer) {
		return fmt.Errorf("%w: %s", bus.ErrNoRoute, a)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", bus.ErrNodeLost, err)
	}
	t.unheard.heard()
	return nil
}

// publish hands m to the client, which copies it.
func (t *Transport) publish(nc *client.Conn, subject, answer string, m *bus.Message) (n int, err error) {
	buf, _ := t.bufs.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	*buf = broker.Append((*buf)[:0], m)
	if n = len(*buf); answer == "" {
		err = nc.Publish(subject, *buf)
	} else {
		err = nc.PublishRequest(subject, answer, *buf)
	}
	if n <= keptBuffer {
		t.bufs.Put(buf)
	}
	return n, err
}

// unheard is what was published since the server was last heard.
type unheard struct {
	mu    sync.Mutex
	bytes int
	since time.Time
}

// add counts n bytes more; true: it is neither too much nor too old yet to be sure that the connection lives.
func (u *unheard) add(n int, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bytes == 0 {
		u.since = now
	}
	u.bytes += n
	return u.bytes <= trustBytes && now.Sub(u.since) < trustFor
}

func (u *unheard) heard() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes = 0
}

func (t *Transport) number() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	return strconv.FormatUint(t.next, 36)
}

// nobody looks whether the server has said that nobody receives what was to be told at reply. What it says comes before the
// answer of a flush.
func (t *Transport) nobody(reply string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		select {
		case m := <-t.none:
			if m != nil && isNone(m) {
				t.gone[m.Subject] = true
			}
			continue
		default:
		}
		break
	}
	if t.gone[reply] {
		delete(t.gone, reply)
		return true
	}
	if len(t.gone) > pendingMsgs { // of senders that were cut off
		clear(t.gone)
	}
	return false
}
