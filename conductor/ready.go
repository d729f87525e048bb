package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/internal/chance"
)

const (
	pingTime  = 10 * time.Second
	firstPing = time.Second // after ErrNoRoute
	mostPing  = 10 * time.Second
)

// Ready waits until a server of a compatible version answers, without any limit but ctx: each ping takes 10 s at most, and
// where nobody serves the topic the next comes after 1 s, doubled up to 10 s. It says so once every 30 s. The error is ctx's,
// or [bus.ErrUnsupported] of a server of another major version.
func (c *Client) Ready(ctx context.Context) error {
	body, err := json.Marshal(request{})
	if err != nil {
		return err
	}
	wait := firstPing
	for {
		now := c.env.Clock.Now()
		m := &bus.Message{Topic: c.cfg.Topic, Namespace: spaceTx, Method: callNow, Version: version, Body: body}
		_, err := c.bus.Call(ctx, m, bus.Timeout(pingTime))
		switch {
		case err == nil:
			c.link.up(now)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, bus.ErrUnsupported):
			return fmt.Errorf("conductor: %w", err)
		}
		c.link.down(err)
		pause := chance.Around(c.env.Rand, wait, 0.2)
		if errors.Is(err, bus.ErrNoRoute) {
			wait = min(2*wait, mostPing)
		} else if pause = pingTime - c.env.Clock.Now().Sub(now); bus.Unknown(err) {
			pause, wait = 0, firstPing
		}
		if err := c.env.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// Status is what a client knows of its servers.
type Status struct {
	Seen   time.Time // last answer, by the local clock; zero: none yet
	Lost   time.Time // since when nobody answers; zero: somebody does
	Copies int       // rows kept for the next save
	Doubts int       // commits whose outcome is not known yet
}

// Status of the client.
func (c *Client) Status() Status {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return Status{Seen: c.link.seen, Lost: c.link.lost, Copies: c.copies.len(), Doubts: c.link.doubts}
}
