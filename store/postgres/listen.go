package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 5 * time.Second
	idleCheck      = 10 * time.Second // a silent connection is asked whether it lives
)

var errNoListen = errors.New("the driver is not pgx")

// listen hears notifications until ctx ends, on a connection of its own beside the pool.
func (n *notifier) listen(ctx context.Context) {
	for delay := reconnectFirst; ctx.Err() == nil; delay = min(2*delay, reconnectMost) {
		connected, err := n.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		n.warn(ctx, err)
		if errors.Is(err, errNoListen) {
			return
		}
		if connected {
			delay = reconnectFirst
		}
		if n.s.env.Sleep(ctx, delay/2+time.Duration(n.s.env.Rand.Uint64()%uint64(delay/2))) != nil {
			return
		}
	}
}

// warn once per outage.
func (n *notifier) warn(ctx context.Context, err error) {
	n.mu.Lock()
	first := !n.warned
	n.warned = true
	n.mu.Unlock()
	if first {
		n.s.env.Logger.WarnContext(ctx, "postgres: no notifications, polling", "err", err)
	}
}

func (n *notifier) hear(ctx context.Context) (connected bool, err error) {
	cfg, err := n.config(ctx)
	if err != nil {
		return false, err
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.Close(bye)
	}()
	if _, err := c.Exec(ctx, `LISTEN "`+n.channel+`"`); err != nil {
		return false, err
	}
	n.mu.Lock()
	outage := n.warned
	n.warned = false
	n.mu.Unlock()
	if outage {
		n.hub.send("*") // whatever was missed meanwhile
	}
	for {
		wait, cancel := context.WithTimeout(ctx, idleCheck)
		note, err := c.WaitForNotification(wait)
		timedOut := wait.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return true, ctx.Err()
		case err == nil && note == nil:
		case err == nil:
			n.heard(note.Payload)
		case timedOut && !c.IsClosed():
			if err := n.ask(ctx, c); err != nil {
				return true, err
			}
		default:
			return true, err
		}
	}
}

func (n *notifier) ask(ctx context.Context, c *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return c.Ping(ctx)
}

// config is that of a pooled connection, for one beside the pool.
func (n *notifier) config(ctx context.Context) (cfg *pgx.ConnConfig, err error) {
	c, err := n.s.db.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	err = c.Raw(func(driver any) error {
		pc, ok := driver.(*stdlib.Conn)
		if !ok {
			return errNoListen
		}
		cfg = pc.Conn().Config()
		cfg.OnNotification = nil // of the pooled connection: it would take them
		return nil
	})
	return cfg, err
}
