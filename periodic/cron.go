package periodic

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

const (
	maxCron = 256
	// horizon is how far ahead a date is looked for.
	horizon = 8 * 366
)

// macros are the names that stand for an expression.
var macros = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// The positions of the fields, as the parser counts them.
const (
	atMinute = iota + 1
	atHour
	atDay
	atMonth
	atWeekday
)

var fieldNames = [...]string{atMinute: "minute", atHour: "hour", atDay: "day", atMonth: "month", atWeekday: "weekday"}

// cron is an expression of five fields on a wall clock that knows no zones. The grammar is gronx's; what can be said of a
// field without a date is worked out once.
type cron struct {
	text         string
	minutes      uint64
	hours        uint32
	months       uint16
	day, weekday string
	either       bool // day and weekday are both restricted: one of them is enough
	realClock    bool // the hour is * or */n: runs go by the clock that never jumps
}

func parseCron(expr string) (*cron, error) {
	fields, err := split(expr)
	if err != nil {
		return nil, err
	}
	for pos := atMinute; pos <= atWeekday; pos++ {
		if err := checkField(fields[pos], pos); err != nil {
			return nil, err
		}
	}
	c := &cron{text: strings.Join(strings.Fields(expr), " "), day: fields[atDay], weekday: fields[atWeekday]}
	for m := range 60 {
		if matches(fields[atMinute], atMinute, reference.Add(time.Duration(m)*time.Minute)) {
			c.minutes |= 1 << m
		}
	}
	for h := range 24 {
		if matches(fields[atHour], atHour, reference.Add(time.Duration(h)*time.Hour)) {
			c.hours |= 1 << h
		}
	}
	for m := range 12 {
		if matches(fields[atMonth], atMonth, reference.AddDate(0, m, 0)) {
			c.months |= 1 << (m + 1)
		}
	}
	c.either = !open(c.day) && !open(c.weekday)
	c.realClock = fields[atHour] == "*" || strings.HasPrefix(fields[atHour], "*/") && !strings.Contains(fields[atHour], ",")
	return c, nil
}

// split gives the five fields at their positions, in capitals and with numbers for names.
func split(expr string) ([]string, error) {
	bad := func(why string) error { return fmt.Errorf("%w: %q: %s", ErrSchedule, expr[:min(len(expr), 64)], why) }
	if len(expr) > maxCron {
		return nil, bad(fmt.Sprintf("has %d bytes, at most %d are read", len(expr), maxCron))
	}
	words := strings.Fields(expr)
	if len(words) == 0 {
		return nil, bad("is empty")
	}
	if w := strings.ToUpper(words[0]); strings.HasPrefix(w, "TZ=") || strings.HasPrefix(w, "CRON_TZ=") {
		return nil, bad("names a zone: pass a *time.Location")
	}
	if strings.HasPrefix(words[0], "@") {
		switch full, ok := macros[strings.ToLower(words[0])]; {
		case ok && len(words) == 1:
			words = strings.Fields(full)
		case words[0] == "@every":
			return nil, bad("is no calendar: use Every")
		default:
			return nil, bad("is not known: @yearly, @monthly, @weekly, @daily, @midnight and @hourly are")
		}
	}
	if n := len(words); n == 6 || n == 7 {
		return nil, bad("has seconds or a year, which are not read: use Every for less than a minute")
	} else if n != 5 {
		return nil, bad(fmt.Sprintf("has %d fields: minute hour day month weekday are wanted", n))
	}
	fields, err := gronx.Segments(strings.Join(words, " "))
	if err != nil {
		return nil, bad(err.Error())
	}
	return fields, nil
}

// reference is a minute 0 of an hour 0 of a first of January.
var reference = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// leapYear is a day of each kind: every date, every weekday in every place of a month.
var leapYear = func() (days []time.Time) {
	for d := range 366 {
		days = append(days, reference.AddDate(0, 0, d))
	}
	return days
}()

// checkField looks at each part of a list by itself and at every value: the parser stops at the first part that matches.
func checkField(field string, pos int) error {
	days := leapYear[:1]
	if pos == atDay || pos == atWeekday {
		days = leapYear
	}
	for part := range strings.SplitSeq(field, ",") {
		if part == "" {
			return fmt.Errorf("%w: %s %q: part of a list is empty", ErrSchedule, fieldNames[pos], field)
		}
		for _, d := range days {
			c := gronx.SegmentChecker{}
			c.SetRef(d)
			if _, err := c.CheckDue(part, pos); err != nil {
				return fmt.Errorf("%w: %s %q: %w", ErrSchedule, fieldNames[pos], field, err)
			}
		}
	}
	return nil
}

func matches(field string, pos int, at time.Time) bool {
	c := gronx.SegmentChecker{}
	c.SetRef(at)
	ok, err := c.CheckDue(field, pos)
	return ok && err == nil
}

// open says that a field of days restricts nothing by itself: Vixie cron's rule of the star.
func open(field string) bool { return strings.HasPrefix(field, "*") || field == "?" }

// next is the first matching minute at or after from, a wall time in UTC.
func (c *cron) next(from time.Time) (time.Time, bool) {
	if t := from.Truncate(time.Minute); t.Before(from) {
		from = t.Add(time.Minute)
	}
	day := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, time.UTC)
	hour, minute := from.Hour(), from.Minute()
	for end := day.AddDate(0, 0, horizon); day.Before(end); hour, minute = 0, 0 {
		if c.months>>day.Month()&1 == 0 {
			day = time.Date(day.Year(), day.Month()+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if c.onDay(day) {
			if h, m, ok := c.inDay(hour, minute); ok {
				return day.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute), true
			}
		}
		day = day.AddDate(0, 0, 1)
	}
	return time.Time{}, false
}

func (c *cron) onDay(day time.Time) bool {
	if c.either {
		return matches(c.day, atDay, day) || matches(c.weekday, atWeekday, day)
	}
	return (c.day == "*" || matches(c.day, atDay, day)) && (c.weekday == "*" || matches(c.weekday, atWeekday, day))
}

// inDay is the first matching time of a day at or after hour:minute.
func (c *cron) inDay(hour, minute int) (h, m int, ok bool) {
	if c.hours>>hour&1 == 1 {
		if m := bits.TrailingZeros64(c.minutes >> minute); m < 64 {
			return hour, minute + m, true
		}
	}
	h = hour + 1 + bits.TrailingZeros32(c.hours>>(hour+1))
	return h, bits.TrailingZeros64(c.minutes), h < 24 && c.minutes != 0
}

// String is the expression as given.
func (c *cron) String() string { return c.text }
