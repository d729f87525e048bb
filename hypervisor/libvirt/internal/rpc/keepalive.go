package rpc

import (
	"context"
	"fmt"
	"time"
)

// keepalive asks a quiet daemon whether it is there, answers when it asks, calls it silent, and in the end gives it up.
func (c *Conn) keepalive() {
	defer c.ended.Done()
	var alarm <-chan time.Time
	w := watch{Keepalive: c.cfg.Keepalive}
	for {
		if w.Every > 0 {
			alarm = c.cfg.Env.Clock.After(w.next(c.Heard()))
		}
		select {
		case <-c.done:
			return
		case <-c.pongs:
			c.beat(pong)
		case <-alarm:
		}
		if c.Err() != nil {
			return
		}
		if w.Every > 0 {
			c.judge(&w)
		}
	}
}

// watch is what the keepalive has done about the present silence.
type watch struct {
	Keepalive
	asked  time.Duration // how long it had lasted at the last ping
	silent bool
}

// next is how long to wait until there is something to do.
func (w *watch) next(idle time.Duration) time.Duration {
	if idle < w.asked { // something came since
		w.asked = 0
	}
	at := w.asked + w.Every
	if !w.silent && w.Silent > 0 {
		at = min(at, w.Silent)
	}
	if w.Lost > 0 {
		at = min(at, w.Lost)
	}
	return max(at-idle, time.Millisecond)
}

func (c *Conn) judge(w *watch) {
	idle := c.Heard()
	if w.Lost > 0 && idle >= w.Lost {
		_ = c.lose(fmt.Errorf("nothing received for %v", idle.Round(time.Millisecond)))
		return
	}
	if idle-w.asked >= w.Every {
		w.asked = idle
		c.beat(ping)
	}
	if silent := w.Silent > 0 && idle >= w.Silent; silent != w.silent {
		if w.silent = silent; c.cfg.Silent != nil {
			c.cfg.Silent(silent)
		}
	}
}

// beat sends a keepalive packet, or leaves it out if the socket does not take it soon: that says as much as a missing answer.
func (c *Conn) beat(procedure uint32) {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	_, _ = c.write(ctx, packet(nil, header{program: programKeepalive, procedure: procedure, kind: typeEvent}, nil)) // a loss is noticed by the loop
}

func (c *Conn) patience() time.Duration {
	if every := c.cfg.Keepalive.Every; every > 0 {
		return every
	}
	return time.Second
}
