// Package amqp carries messages between nodes over RabbitMQ.
//
//	t, err := amqp.New(amqp.Config{URL: "amqp://user:password@127.0.0.1:5672/"})
//	b := bus.New(t, bus.Config{Env: env}) // b.Run connects, and stays connected
//
// Topics are queues <prefix>.q.<topic> (and <topic>@<node>) behind the direct exchange <prefix>.rpc; fanout goes through
// <prefix>.all, events through the topic exchange <prefix>.events, replies to the inbox <prefix>.r.<node>.<incarnation>. Names
// are escaped (=XX outside of [A-Za-z0-9_-]) and hashed where they would be too long.
//
// # Guarantees
//
//   - Send returns when the broker has confirmed; a message without a queue is bus.ErrNoRoute, one for a full queue bus.ErrBusy.
//   - Without a connection, Send waits for one for at most a second, then it is bus.ErrNotSent; nothing is kept and sent later.
//   - A receiver acknowledges when the bus has queued the message. What the broker delivers a second time is marked
//     (Wire.Again), and the bus does not run it: the first receiver may have.
//   - A dead or silent broker is noticed within 30 s; reconnecting goes on while Run does, and receivers stand again.
//
// # Not guaranteed
//
//   - That what the broker confirmed arrives: messages are not persistent and expire with their deadline.
//   - Who sent a message, without Config.Proof.
package amqp

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	client "github.com/rabbitmq/amqp091-go"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/internal/broker"
	"github.com/drover-cloud/drover/internal/chance"
)

const (
	dialTimeout = 2 * time.Second
	heartbeat   = 10 * time.Second
	firstDelay  = 100 * time.Millisecond
	mostDelay   = 10 * time.Second
	longest     = 180 // of a part of a name
)

// Config of a Transport.
type Config struct {
	Env drover.Env
	// URL of the broker, with user, password and virtual host. It is never logged.
	URL string
	// Prefix of all names, "drover": [A-Za-z0-9_-]+.
	Prefix string
	// TLS nil means what the URL says.
	TLS *tls.Config
	// Proof says that each node connects as a user of its own name: the broker then vouches for who sends, and messages in the name
	// of another are refused. All nodes must have it.
	Proof bool
}

// Transport is a bus.Transport. The bus runs it.
type Transport struct {
	cfg  Config
	env  drover.Env
	log  *slog.Logger
	once sync.Once

	line broker.Line[*session]
}

// New checks cfg. Nothing is connected before Run.
func New(cfg Config) (*Transport, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = "drover"
	}
	bad := ""
	switch uri, err := client.ParseURI(cfg.URL); {
	case cfg.URL == "":
		bad = "URL: is empty"
	case err != nil:
		bad = "URL: cannot be read" // the reason may hold the password
	case name(cfg.Prefix) != cfg.Prefix:
		bad = "Prefix: want [A-Za-z0-9_-]+"
	case cfg.Proof && uri.Username != cfg.Env.Node:
		bad = "Proof: the user of URL is not Env.Node"
	}
	if bad != "" {
		return nil, fmt.Errorf("amqp: %w: %s", drover.ErrConfig, bad)
	}
	cfg.Env = cfg.Env.Defaults()
	return &Transport{cfg: cfg, env: cfg.Env, log: cfg.Env.Logger.With("component", "bus/amqp", "node", cfg.Env.Node)}, nil
}

// name is s as part of a queue's name or routing key.
func name(s string) string {
	e := broker.Escape(s)
	if len(e) > longest {
		sum := sha256.Sum256([]byte(s))
		e = e[:longest-40] + "==" + hex.EncodeToString(sum[:16])
	}
	return e
}

// Run connects and stays connected until ctx ends.
func (t *Transport) Run(ctx context.Context) error {
	used := true
	t.once.Do(func() { used = false })
	if used {
		return drover.ErrUsed
	}
	delay, down := firstDelay, false
	for ctx.Err() == nil {
		s, err := t.dial(ctx)
		if err != nil {
			if !down {
				t.log.Warn("no connection", "error", err)
			}
			down = true
			_ = t.env.Sleep(ctx, chance.Around(t.env.Rand, delay, 0.5))
			delay = min(delay*2, mostDelay)
			continue
		}
		t.log.Info("connected")
		delay, down = firstDelay, false
		t.line.Up(s)
		select {
		case err := <-s.lost:
			t.log.Warn("connection lost", "error", err)
		case <-ctx.Done():
		}
		t.line.Down()
		s.close()
	}
	return nil
}

// route is the exchange and the routing key of a.
func (t *Transport) route(a bus.Address) (exchange, key string) {
	p := t.cfg.Prefix
	switch {
	case a.Events:
		return p + ".events", a.Subject
	case a.Inbox:
		return "", t.queue(a)
	case a.Fanout:
		return p + ".all", name(a.Topic)
	case a.Node != "":
		return p + ".rpc", name(a.Topic) + "@" + name(a.Node)
	}
	return p + ".rpc", name(a.Topic)
}

// queue is the name of a's queue; "": one that the broker names.
func (t *Transport) queue(a bus.Address) string {
	p := t.cfg.Prefix
	switch {
	case a.Events, a.Fanout:
		return ""
	case a.Inbox:
		return fmt.Sprintf("%s.r.%s.%d", p, name(a.Node), a.Incarnation)
	case a.Node != "":
		return p + ".q." + name(a.Topic) + "@" + name(a.Node)
	}
	return p + ".q." + name(a.Topic)
}

// Peer is the sender; with Config.Proof others than the true one were refused before.
func (t *Transport) Peer(m *bus.Message) (string, bool) { return m.Wire.From, t.cfg.Proof }

// Width is how many messages to one destination may be on their way at once.
func (t *Transport) Width() int { return 16 }
