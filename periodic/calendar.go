package periodic

import (
	"fmt"
	"time"
)

// calendar is cron in a zone. The expression is matched on wall times, and what daylight saving does to them is decided here:
// the zone's time is walked span by span of constant offset.
type calendar struct {
	*cron
	loc *time.Location
}

// Calendar is the schedule of [Cron]: expr has five fields, minute hour day month weekday, of * , - / names ? L W and #, or
// is one of @yearly @annually @monthly @weekly @daily @midnight @hourly; loc nil is UTC. If day and weekday are both
// restricted, one of them is enough. [ErrSchedule]: it cannot be read. [ErrNever]: no date matches.
//
// When clocks go forward, a time that does not exist is due at the instant of the change, once; when they go back, a time
// that comes twice is due the first time only. An hour of * or */n goes by the clock that never jumps instead.
func Calendar(expr string, loc *time.Location) (Schedule, error) {
	c, err := parseCron(expr)
	if err != nil {
		return nil, err
	}
	for year := 2000; ; year += 8 { // 28 years hold every date on every weekday
		if _, ok := c.next(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)); ok {
			break
		}
		if year > 2028 {
			return nil, fmt.Errorf("%w: %q", ErrNever, expr)
		}
	}
	if loc == nil {
		loc = time.UTC
	}
	return calendar{c, loc}, nil
}

// span is a stretch of a zone's time with one offset; zero start or end: it has none.
type span struct {
	start, end time.Time
	offset     time.Duration
}

func (c calendar) spanAt(t time.Time) span {
	t = t.In(c.loc)
	start, end := t.ZoneBounds()
	_, o := t.Zone()
	return span{start, end, time.Duration(o) * time.Second}
}

func wall(t time.Time, offset time.Duration) time.Time { return t.UTC().Add(offset) }

// Next is the first due time after last.Due.
func (c calendar) Next(last Run) (time.Time, bool) {
	after := last.Due.Round(0)
	s := c.spanAt(after)
	from := wall(after, s.offset).Truncate(time.Minute).Add(time.Minute)
	if !s.start.IsZero() && !c.realClock {
		// Wall times of the span before are not due again.
		if was := wall(s.start, c.spanAt(s.start.Add(-1)).offset); from.Before(was) {
			from = was
		}
	}
	for limit := after.AddDate(0, 0, horizon); ; {
		n, ok := c.next(from)
		if !ok {
			return time.Time{}, false
		}
		if due := n.Add(-s.offset); s.end.IsZero() || due.Before(s.end) {
			return due.In(c.loc), true
		}
		if s.end.After(limit) {
			return time.Time{}, false
		}
		then := c.spanAt(s.end)
		was, now := wall(s.end, s.offset), wall(s.end, then.offset)
		if !c.realClock && n.Before(now) { // in the gap
			return s.end.In(c.loc), true
		}
		from = now
		if !c.realClock && was.After(now) {
			from = was
		}
		s = then
	}
}

func (c calendar) String() string {
	if c.loc == time.UTC {
		return c.text
	}
	return c.text + " " + c.loc.String()
}
