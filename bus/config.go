package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Config of a [Bus]. Zero fields are the defaults.
type Config struct {
	// Env names the node: 1 to 255 bytes of UTF-8 without control characters.
	Env drover.Env
	// Incarnation tells this life of the node from earlier ones; it is that of Members' Peer where membership gives one.
	// 0: the clock's nanoseconds at New.
	Incarnation int64
	// Timeout of calls and casts without one of their own, 60 s.
	Timeout time.Duration
	// Members tells who is in the cluster. Nil: the loss of a node is not noticed, and messages with a Key are refused.
	Members Members
	// Caps are versions by topic above which this node does not send: "1.4" while nodes of 1.4 are still around.
	Caps map[string]string
	// Handover is how long messages for keys gained from a member that is still up are held after a change of view; 0: not.
	Handover time.Duration
	// Workers run handlers, 64 at once. A handler that waits for a call of its own counts for none.
	Workers int
	// Queue and QueueBytes bound what waits for a worker, 1024 messages and 64 MiB.
	Queue, QueueBytes int
	// MaxBody bounds bodies and replies, 512 KiB, or what the transport takes if that is less.
	MaxBody int
	// Codec of bodies of the typed face, JSON.
	Codec Codec
	// Serve is around every handler, Send around every call and cast; the first listed is outermost.
	Serve []func(Handler) Handler
	Send  []func(Sender) Sender
	// Identity carries who asks. Nil: nobody is told.
	Identity Identity
	// DrainTimeout bounds the draining that the end of Run's ctx begins, 10 s.
	DrainTimeout time.Duration
	// Outbox keeps events and casts of transactions, which the relay opens on Tx; Notify tells it of new ones (nil: it looks
	// every second). NoRelay leaves the sending to other nodes.
	Outbox  Outbox
	Tx      store.Runner
	Notify  store.Notifier
	NoRelay bool
}

// Codec writes and reads bodies. A message names the codec it was written with.
type Codec interface {
	Name() string
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// Identity carries who asks across the bus; at most 8 KiB.
type Identity struct {
	Inject  func(ctx context.Context) string
	Extract func(ctx context.Context, identity string) context.Context
}

// Handler takes messages: a transport's receiver, where nil acknowledges, and what Config.Serve wraps, where the answer is set by
// SetReply.
type Handler interface {
	Handle(ctx context.Context, m *Message) error
}

// Sender sends calls and casts, which answer nil.
type Sender interface {
	Send(ctx context.Context, m *Message) ([]byte, error)
}

// HandlerOf is a function as a Handler, SenderOf one as a Sender.
type (
	HandlerOf func(ctx context.Context, m *Message) error
	SenderOf  func(ctx context.Context, m *Message) ([]byte, error)
)

// Handle calls f.
func (f HandlerOf) Handle(ctx context.Context, m *Message) error { return f(ctx, m) }

// Send calls f.
func (f SenderOf) Send(ctx context.Context, m *Message) ([]byte, error) { return f(ctx, m) }

const (
	defaultTimeout = 60 * time.Second
	maxBody        = 512 << 10
	maxIdentity    = 8 << 10
)

func (c Config) fill() Config {
	c.Env = c.Env.Defaults()
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{{&c.Timeout, defaultTimeout}, {&c.DrainTimeout, 10 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	for _, d := range []struct {
		at  *int
		def int
	}{{&c.Workers, 64}, {&c.Queue, 1024}, {&c.QueueBytes, 64 << 20}, {&c.MaxBody, maxBody}} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	if c.Codec == nil {
		c.Codec = JSON{}
	}
	if c.Incarnation == 0 {
		c.Incarnation = c.Env.Clock.Now().UnixNano()
	}
	return c
}

func (c Config) check() error {
	bad := func(field, reason string, args ...any) error {
		return because(ErrInvalid, fmt.Errorf("bus: %w", &drover.FieldError{Field: field, Reason: fmt.Sprintf(reason, args...)}))
	}
	switch {
	case !isID(c.Env.Node):
		return bad("Config.Env.Node", "%q: want 1 to 255 bytes of UTF-8 without control characters", c.Env.Node)
	case c.Timeout < 0:
		return bad("Config.Timeout", "negative")
	case c.DrainTimeout < 0:
		return bad("Config.DrainTimeout", "negative")
	case c.Handover < 0:
		return bad("Config.Handover", "negative")
	case c.Handover > 0 && c.Members == nil:
		return bad("Config.Handover", "needs Members")
	case c.Workers < 0 || c.Queue < 0 || c.QueueBytes < 0 || c.MaxBody < 0:
		return bad("Config.Workers, Queue, QueueBytes, MaxBody", "negative")
	case c.Outbox != nil && c.Tx == nil:
		return bad("Config.Outbox", "needs Tx, on which the relay opens its transactions")
	case (c.Identity.Inject == nil) != (c.Identity.Extract == nil):
		return bad("Config.Identity", "has one of Inject and Extract")
	}
	for _, topic := range sortedKeys(c.Caps) {
		if _, err := parseVersion(c.Caps[topic]); err != nil || !isName(topic) {
			return bad("Config.Caps", "%q: %q: want a topic and a version", topic, c.Caps[topic])
		}
	}
	return nil
}
