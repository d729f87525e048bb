package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/internal/chance"
)

const (
	firstRetry  = 200 * time.Millisecond
	mostRetry   = 5 * time.Second
	spread      = 2 * time.Second // of first calls after an outage
	routesLost  = 3               // ErrNoRoutes …
	routesSpan  = 3 * time.Second // … within this: there is no server
	leastTry    = 200 * time.Millisecond
	shareOfTry  = 4 // the first try may take a fourth of the time that is left, the next half of it, then all
	warnSpacing = 30 * time.Second
)

// read asks any server; it may be asked again at will.
func (c *Client) read(ctx context.Context, space, method string, req request) (reply, error) {
	return c.call(ctx, c.cfg.Topic, space, method, req)
}

// send is a commit call: the same id until somebody answers. An id that was refused as old, since this host has slept, has
// surely not happened: another one is made.
func (c *Client) send(ctx context.Context, live bool, req request) (rep reply, err error) {
	topic := c.cfg.Topic
	if live {
		topic = c.live
	}
	for range 2 {
		req.ID, req.At = c.env.NewID(), c.link.storeMilli()
		if rep, err = c.call(ctx, topic, spaceTx, callCommit, req); err != nil || !rep.Stale {
			break
		}
	}
	return rep, err
}

// call repeats req until it is answered or its time is over.
func (c *Client) call(ctx context.Context, topic, space, method string, req request) (rep reply, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return rep, fmt.Errorf("%w: %w", errInvalid, err)
	}
	if len(body) > maxCommit {
		return rep, fmt.Errorf("%w: a call of %d bytes, at most %d", errInvalid, len(body), maxCommit)
	}
	began := c.env.Clock.Now()
	limit := began.Add(c.cfg.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(limit) {
		limit = d
	}
	writes := req.ID != ""
	if err := c.link.rejoin(ctx, topic == c.live, limit.Sub(began)); err != nil {
		return rep, err
	}
	done := c.meters.call(ctx, space, method)
	rep, err = c.tries(ctx, &bus.Message{Topic: topic, Namespace: space, Method: method, Version: version, Body: body}, limit, writes)
	done(err)
	return rep, err
}

// tries is the loop of call.
func (c *Client) tries(ctx context.Context, m *bus.Message, limit time.Time, writes bool) (rep reply, err error) {
	maybe := false // some try may have run
	var doubt func()
	defer func() {
		if doubt != nil {
			doubt()
		}
	}()
	share := time.Duration(shareOfTry)
	for wait := firstRetry; ; wait, share = min(2*wait, mostRetry), max(1, share/2) {
		now := c.env.Clock.Now()
		left := limit.Sub(now)
		if ctx.Err() != nil || left <= 0 {
			return rep, c.over(maybe, context.Cause(ctx))
		}
		answer, err := c.bus.Call(ctx, m, bus.Timeout(min(left, max(left/share, leastTry))))
		switch {
		case err == nil:
			c.link.up(now)
			rep = reply{}
			if err := json.Unmarshal(answer, &rep); err != nil {
				return rep, fmt.Errorf("%w: an answer that cannot be read: %w", errInvalid, err)
			}
			c.link.tell(rep.Now)
			switch {
			case rep.Stale && maybe:
				return rep, c.over(maybe, errStale)
			case rep.Doubt == "":
				return rep, nil
			}
			maybe, err = writes, errors.New(rep.Doubt)
		case isAny(err, bus.ErrInvalid, bus.ErrUnsupported):
			return rep, fmt.Errorf("conductor: %w", err)
		case bus.Unknown(err):
			if writes && !maybe {
				maybe, doubt = true, c.link.doubted()
			}
		case !bus.NotRun(err):
			return rep, fmt.Errorf("conductor: %w", err) // a server has answered, with an error of its own
		}
		if rep.Doubt == "" && c.link.down(err) && !maybe {
			return rep, fmt.Errorf("%w: %w", ErrNoConductor, err)
		}
		c.meters.replays.Add(ctx, 1)
		pause := chance.Around(c.env.Rand, wait, 0.2)
		var busy *bus.BusyError
		if errors.As(err, &busy) {
			pause = max(pause, busy.RetryAfter)
		}
		if left = limit.Sub(c.env.Clock.Now()); pause >= left || c.env.Sleep(ctx, pause) != nil {
			return rep, c.over(maybe, err)
		}
	}
}

// over is the end of a call without an answer.
func (c *Client) over(maybe bool, err error) error {
	if err == nil {
		err = context.DeadlineExceeded
	}
	if maybe {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return fmt.Errorf("%w: %w", ErrNoConductor, err)
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// link is what the client knows of its servers.
type link struct {
	c *Client

	mu     sync.Mutex
	seen   time.Time   // last answer
	told   time.Time   // the store's clock as an answer told it …
	at     time.Time   // … then
	lost   time.Time   // of the first failure after that; zero: none
	warned time.Time   // last WARN
	gone   bool        // calls failed for want of a server
	routes []time.Time // of the last ErrNoRoutes
	doubts int         // commits whose outcome is not known yet
}

// up notes an answer.
func (l *link) up(now time.Time) {
	l.mu.Lock()
	lost := l.lost
	l.seen, l.lost, l.warned, l.routes, l.gone = now, time.Time{}, time.Time{}, nil, false
	l.mu.Unlock()
	if lost.IsZero() {
		return
	}
	l.c.meters.unready.Store(0)
	l.c.log.Info("conductor found after " + now.Sub(lost).Round(time.Millisecond).String())
	l.c.wakes.all()
	l.c.wakes.hurry() // these may be other servers
}

// tell notes the store's clock.
func (l *link) tell(now time.Time) {
	if now.IsZero() {
		return
	}
	at := l.c.env.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told, l.at = now, at
}

// storeMilli is the store's clock by the last answer, not later than it is; 0: no answer yet.
func (l *link) storeMilli() int64 {
	now := l.c.env.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told.IsZero() {
		return 0
	}
	return l.told.Add(now.Sub(l.at)).UnixMilli()
}

// down notes that nobody answered, and says that there is no server at all.
func (l *link) down(err error) (gone bool) {
	if errors.Is(err, bus.ErrBusy) {
		return false
	}
	now := l.c.env.Clock.Now()
	l.mu.Lock()
	if l.lost.IsZero() {
		l.lost = now
	}
	if errors.Is(err, bus.ErrNoRoute) {
		l.routes = append(l.routes, now)
		l.routes = l.routes[max(0, len(l.routes)-routesLost):]
		gone = len(l.routes) == routesLost && now.Sub(l.routes[0]) <= routesSpan
	}
	l.gone = l.gone || gone
	warn := l.warned.IsZero() || now.Sub(l.warned) >= warnSpacing
	if warn {
		l.warned = now
	}
	l.mu.Unlock()
	l.c.meters.unready.Store(1)
	if warn {
		l.c.log.Warn("no conductor answers", "err", err)
	}
	return gone
}

// rejoin spreads the first calls after an outage.
func (l *link) rejoin(ctx context.Context, live bool, left time.Duration) error {
	l.mu.Lock()
	gone := l.gone
	l.mu.Unlock()
	if !gone || live {
		return nil
	}
	d := time.Duration(chance.Unit(l.c.env.Rand) * float64(spread))
	if err := l.c.env.Sleep(ctx, min(d, left/2)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoConductor, err)
	}
	return nil
}

// doubted counts a commit that may have happened, until it is settled.
func (l *link) doubted() (settled func()) {
	l.mu.Lock()
	l.doubts++
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		l.doubts--
		l.mu.Unlock()
	}
}
