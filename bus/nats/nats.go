// Package nats carries messages between nodes over NATS (core, no JetStream).
//
//	t, err := nats.New(nats.Config{URL: "nats://127.0.0.1:4222"})
//	b := bus.New(t, bus.Config{Env: env}) // b.Run connects, and stays connected
//
// # Guarantees
//
//   - Send returns when the server has taken the message; with nobody there it is bus.ErrNoRoute, at once. A call may return before:
//     the bus hears of a missing receiver all the same.
//   - While there is no connection, Send waits for one for at most a second, then it is bus.ErrNotSent; nothing is kept and
//     sent later.
//   - A dead or silent server is noticed within 30 s; reconnecting goes on while Run does, and receivers stand again.
//
// # Not guaranteed
//
//   - That what the server took arrives: it is lost with the server, and by a receiver that is 65 536 messages or 64 MiB behind.
//   - Who sent a message, unless accounts and permissions of the server say so (subjects <prefix>.n.<node>.> and
//     <prefix>.r.<node>.> for subscribing).
package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/internal/broker"
	"github.com/drover-cloud/drover/internal/chance"
)

const (
	dialTimeout  = 2 * time.Second
	pingEvery    = 10 * time.Second
	firstDelay   = 100 * time.Millisecond
	mostDelay    = 10 * time.Second
	flushTimeout = 10 * time.Second
	pendingMsgs  = 65_536
	pendingBytes = 64 << 20
	headerRoom   = 32 << 10
	trustBytes   = 256 << 10
	trustFor     = 250 * time.Millisecond
	keptBuffer   = 64 << 10
)

// Config of a Transport.
type Config struct {
	Env drover.Env
	// URL of the server, or several joined by commas, with user and password if needed. It is never logged.
	URL string
	// Prefix of all subjects, "drover": [A-Za-z0-9_-]+.
	Prefix string
	// TLS nil means what the URL says.
	TLS *tls.Config
	// Options are further ones of the client, for credentials.
	Options []client.Option
}

// Transport is a bus.Transport. The bus runs it.
type Transport struct {
	cfg  Config
	env  drover.Env
	log  *slog.Logger
	once sync.Once

	line broker.Line[*client.Conn]

	mu   sync.Mutex
	nc   *client.Conn // while Run does
	gaps map[*client.Subscription]func()

	none  chan *client.Msg // what the server says of messages that nobody receives
	next  uint64
	names string // subject of those, to which a number is added
	gone  map[string]bool

	calls   string      // subject of what it says of calls, to which the call's ID is added
	inbox   bus.Handler // is told so; nil: there is none
	unheard unheard
	bufs    sync.Pool // of *[]byte
}

// New checks cfg. Nothing is connected before Run.
func New(cfg Config) (*Transport, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = "drover"
	}
	bad := ""
	switch {
	case cfg.URL == "":
		bad = "URL: is empty"
	case broker.Escape(cfg.Prefix) != cfg.Prefix:
		bad = "Prefix: want [A-Za-z0-9_-]+"
	}
	if bad != "" {
		return nil, fmt.Errorf("nats: %w: %s", drover.ErrConfig, bad)
	}
	cfg.Env = cfg.Env.Defaults()
	t := &Transport{cfg: cfg, env: cfg.Env, log: cfg.Env.Logger.With("component", "bus/nats", "node", cfg.Env.Node),
		none: make(chan *client.Msg, pendingMsgs), gone: map[string]bool{}, gaps: map[*client.Subscription]func(){}}
	id := broker.Escape(cfg.Env.NewID())
	t.names, t.calls = cfg.Prefix+".s."+id+".", cfg.Prefix+".c."+id+"."
	return t, nil
}

// Run connects and stays connected until ctx ends.
func (t *Transport) Run(ctx context.Context) error {
	used := true
	t.once.Do(func() { used = false })
	if used {
		return drover.ErrUsed
	}
	opts := append([]client.Option{
		client.Name("drover " + t.env.Node), client.Timeout(dialTimeout), client.PingInterval(pingEvery), client.MaxPingsOutstanding(2),
		client.RetryOnFailedConnect(true), client.MaxReconnects(-1), client.ReconnectBufSize(-1), client.CustomReconnectDelay(t.delay),
		client.ConnectHandler(t.connected), client.ReconnectHandler(t.connected), client.DisconnectErrHandler(t.disconnected),
		client.ErrorHandler(t.failed),
	}, t.cfg.Options...)
	if t.cfg.TLS != nil {
		opts = append(opts, client.Secure(t.cfg.TLS))
	}
	nc, err := client.Connect(t.cfg.URL, opts...)
	if err != nil {
		return fmt.Errorf("nats: %w", hidden(err))
	}
	defer nc.Close()
	if !nc.IsConnected() {
		t.log.Warn("no connection", "error", client.ErrNoServers) // it goes on trying
	}
	sub, err := nc.ChanSubscribe(t.names+"*", t.none)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	calls, err := nc.Subscribe(t.calls+"*", t.unrouted)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	t.runs(nc)
	<-ctx.Done()
	t.runs(nil)
	t.line.Down()
	_ = sub.Unsubscribe()
	_ = calls.Unsubscribe()
	return nil
}

// unrouted is the server's word that nobody receives a call.
func (t *Transport) unrouted(in *client.Msg) {
	t.mu.Lock()
	inbox := t.inbox
	t.mu.Unlock()
	id, ours := strings.CutPrefix(in.Subject, t.calls)
	if inbox != nil && ours && isNone(in) {
		_ = inbox.Handle(context.Background(), &bus.Message{ID: broker.Unescape(id), Wire: bus.Wire{Kind: bus.KindUnrouted}})
	}
}

func isNone(m *client.Msg) bool { return len(m.Data) == 0 && m.Header.Get("Status") == "503" }

// hidden is err without the URL, which may hold a password.
func hidden(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (t *Transport) runs(nc *client.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nc = nc
}

// delay before the n-th try to reconnect.
func (t *Transport) delay(n int) time.Duration {
	d := mostDelay
	if n < 7 {
		d = firstDelay << max(n-1, 0)
	}
	return chance.Around(t.env.Rand, d, 0.5)
}

func (t *Transport) connected(nc *client.Conn) {
	t.log.Info("connected", "server", nc.ConnectedServerName())
	t.runs(nc)
	t.line.Up(nc)
}

func (t *Transport) disconnected(_ *client.Conn, err error) {
	if err != nil {
		t.log.Warn("connection lost", "error", hidden(err))
	}
	t.line.Down()
}

func (t *Transport) failed(_ *client.Conn, sub *client.Subscription, err error) {
	t.log.Warn("the client says", "error", hidden(err))
	t.mu.Lock()
	gap := t.gaps[sub]
	t.mu.Unlock()
	if gap != nil && errors.Is(err, client.ErrSlowConsumer) {
		gap()
	}
}

// subject is where a message to a goes, or what a receiver at a subscribes to first.
func (t *Transport) subject(a bus.Address) string {
	p := t.cfg.Prefix
	switch {
	case a.Events:
		return p + ".e." + a.Subject
	case a.Inbox:
		return p + ".r." + broker.Escape(a.Node) + "." + strconv.FormatInt(a.Incarnation, 10)
	case a.Fanout:
		return p + ".a." + broker.Escape(a.Topic)
	case a.Node != "":
		return p + ".n." + broker.Escape(a.Node) + "." + broker.Escape(a.Topic)
	}
	return p + ".t." + broker.Escape(a.Topic)
}

// MaxBytes is what the server takes, less the headers; 0 while it is not known.
func (t *Transport) MaxBytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nc == nil || t.nc.MaxPayload() == 0 {
		return 0
	}
	return int(t.nc.MaxPayload()) - headerRoom
}

// Receive subscribes to a until ctx ends.
func (t *Transport) Receive(ctx context.Context, a bus.Address, h bus.Handler) error {
	nc, err := t.line.Wait(ctx, t.env.Clock, false, "server")
	if err != nil {
		return err
	}
	if a.Inbox {
		t.mu.Lock()
		t.inbox = h
		t.mu.Unlock()
	}
	take := func(in *client.Msg) {
		t.unheard.heard()
		m, err := broker.Decode(in.Data)
		if err != nil {
			t.log.Warn("a message that cannot be read", "at", a.String(), "error", err)
			return
		}
		if err := h.Handle(ctx, m); err != nil {
			t.log.Debug("a message was refused", "at", a.String(), "error", err)
		}
	}
	subjects := []string{t.subject(a)}
	if above, all := strings.CutSuffix(subjects[0], ".>"); a.Events && all && a.Subject != ">" {
		subjects = append(subjects, above)
	}
	for _, s := range subjects {
		group := ""
		if !a.Events && !a.Fanout && !a.Inbox && a.Node == "" {
			group = t.cfg.Prefix
		}
		sub, err := nc.QueueSubscribe(s, group, take)
		if err != nil {
			return fmt.Errorf("nats: %w", err)
		}
		_ = sub.SetPendingLimits(pendingMsgs, pendingBytes)
		t.mu.Lock()
		t.gaps[sub] = func() { bus.Standing(h) }
		t.mu.Unlock()
		defer func() {
			t.mu.Lock()
			delete(t.gaps, sub)
			t.mu.Unlock()
			t.drain(sub)
		}()
	}
	return t.stand(ctx, nc, h)
}

// drain ends a subscription when what the server has sent to it was handled.
func (t *Transport) drain(sub *client.Subscription) {
	closed := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(closed) })
	if sub.Drain() != nil { // no connection: nothing comes any more
		_ = sub.Unsubscribe()
		return
	}
	select {
	case <-closed:
	case <-t.env.Clock.After(flushTimeout):
	}
}

// stand tells h that it stands, now and after each reconnect, until ctx ends.
func (t *Transport) stand(ctx context.Context, nc *client.Conn, h bus.Handler) error {
	for told := 0; ; {
		line, change := t.line.Look()
		if line.Up && told != line.Times {
			fctx, cancel := context.WithTimeout(ctx, flushTimeout)
			err := nc.FlushWithContext(fctx)
			cancel()
			if err == nil {
				told = line.Times
				bus.Standing(h)
			}
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Width is how many messages to one destination may be on their way at once.
func (t *Transport) Width() int { return 16 }
