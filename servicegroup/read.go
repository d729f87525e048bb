package servicegroup

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/internal/chance"
)

const hintSpacing = 200 * time.Millisecond // between reads that hints ask for

// reader is the reading side of a Group, guarded by its mu.
type reader struct {
	due    time.Time
	grid   time.Time
	tries  int
	last   time.Time // start of the last successful read
	latest time.Time // start of the last read, successful or not
	failed bool      // logged
	stale  bool      // as last published
	outage bool      // the first successful read came after failed ones: beats cannot have got through either
}

// stepRead reads the group if that is due.
func (g *Group) stepRead(ctx context.Context) (time.Time, error) {
	now := g.now()
	g.mu.Lock()
	r := &g.reader
	if r.grid.IsZero() {
		r.grid = now.Add(time.Duration((1 - chance.Unit(g.cfg.Env.Rand)) * float64(g.cfg.every())))
		r.due = now
	}
	due := r.due
	if !due.After(now) {
		r.due = g.onGrid(r.grid, now)
	}
	g.mu.Unlock()
	if due.After(now) {
		return due, nil
	}
	_ = g.read(ctx) // logged
	if ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return r.due, nil
}

// read asks the driver, all or nothing, and judges what it answers.
func (g *Group) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.limit())
	defer cancel()
	ctx, span := g.meters.tracer.Start(ctx, "servicegroup.read", trace.WithAttributes(attribute.String("id", g.cfg.ID)))
	defer span.End()
	start := g.now()
	g.mu.Lock()
	g.reader.latest = start
	g.mu.Unlock()
	var all []Member
	err := guard(func() (err error) { all, err = g.cfg.Driver.Members(ctx, g.cfg.Group); return err })
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.reader
	r.tries++
	if err != nil {
		span.RecordError(err)
		if !r.failed && !errors.Is(ctx.Err(), context.Canceled) {
			g.log.Warn("group not read", "err", err)
			r.failed = true
		}
		g.refresh(now)
		return err
	}
	first := r.last.IsZero()
	if first {
		r.outage = r.failed
	}
	if r.failed {
		g.log.Info("group read again", "outage", now.Sub(r.last))
		r.failed = false
	}
	if start.Before(r.last) { // a later one was quicker
		return nil
	}
	gap := !r.last.IsZero() && start.Sub(r.last) > g.cfg.every()*3/2
	r.last = start
	g.known.absorb(all, start, gap)
	g.judge(start, first)
	g.publish(now)
	poke(g.wakes.clock)
	return nil
}

// stale: nothing was read for longer than Down. The caller holds mu.
func (g *Group) stale(now time.Time) bool {
	return g.reader.last.IsZero() || now.Sub(g.reader.last) > g.cfg.Down
}

// readSoon asks for a read beside the grid, not sooner than the spacing of hints allows. The caller holds mu.
func (g *Group) readSoon(now time.Time) {
	r := &g.reader
	at := now
	if next := r.latest.Add(hintSpacing); next.After(now) {
		at = next
	}
	if r.grid.IsZero() || !at.Before(r.due) {
		return
	}
	r.due = at
	poke(g.wakes.read)
}

// listen turns the driver's hints into reads. A driver that cannot watch leaves it at polling.
func (g *Group) listen(ctx context.Context, w Watcher) {
	for ctx.Err() == nil {
		var hints <-chan struct{}
		err := guard(func() (err error) { hints, err = w.Watch(ctx, g.cfg.Group); return err })
		for err == nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case _, ok := <-hints:
				if !ok {
					err = ErrUnavailable
					continue
				}
				now := g.now()
				g.mu.Lock()
				g.readSoon(now)
				g.mu.Unlock()
			}
		}
		if errors.Is(err, ErrUnsupported) || g.cfg.Env.Sleep(ctx, maxRetry) != nil {
			return
		}
	}
}
