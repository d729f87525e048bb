package periodic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones' rules of the tests' dates, whatever the machine has
)

func calendarAt(t testing.TB, expr, zone string) Schedule {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Calendar(expr, loc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04Z", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// after lists the next n due times after an instant, in UTC.
func after(t testing.TB, s Schedule, from string, n int) (got []string) {
	t.Helper()
	r := Run{Due: instant(t, from)}
	for range n {
		due, ok := s.Next(r)
		if !ok {
			return append(got, "never")
		}
		if !due.After(r.Due) {
			t.Fatalf("%v after %v", due, r.Due)
		}
		r.Due = due
		got = append(got, due.UTC().Format("2006-01-02T15:04Z"))
	}
	return got
}

func TestCron(t *testing.T) {
	t.Parallel()
	t.Run("periodic-45 refused", func(t *testing.T) {
		for _, expr := range []string{"", " ", "TZ=0", "CRON_TZ=Europe/Berlin 0 0 * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "*/-1 * * * *", "1,,2 * * * *",
			"a b c d e", "0 0 0 * * *", "0 0 0 * * * 2030", "@every 5m", "@reboot", "@always", "@daily 5", strings.Repeat("*", 257), "* * * *", "0 24 * * *",
			"0 0 0 * *", "0 0 32 * *", "0 0 * 13 *", "0 0 * * 8", "5,99 * * * *", "\xff * * * *"} {
			_, err := Calendar(expr, nil)
			if !errors.Is(err, ErrSchedule) {
				t.Errorf("%q: %v", expr, err)
			}
			if err := (&Set{}).Add(Cron(expr, nil, "a", func2)); !errors.Is(err, ErrSchedule) {
				t.Errorf("Add %q: %v", expr, err)
			}
		}
		for _, expr := range []string{"0 0 30 2 *", "0 0 31 4 *", "0 0 * * 1#9", "0 0 99W * *"} {
			if _, err := Calendar(expr, nil); !errors.Is(err, ErrNever) {
				t.Errorf("%q: %v", expr, err)
			}
		}
	})
	for _, c := range []struct{ id, zone, expr, from, want string }{
		{"periodic-46 leap day", "UTC", "0 0 29 2 *", "2026-01-01T00:00Z", "2028-02-29T00:00Z"},
		{"periodic-46 the 1st or a Monday", "UTC", "0 0 1 * 1", "2026-01-01T00:00Z", "2026-01-05T00:00Z"},
		{"periodic-46 the last day", "UTC", "0 0 L * *", "2026-01-01T00:00Z", "2026-01-31T00:00Z"},
		{"periodic-46 7 is Sunday", "UTC", "0 0 * * 7", "2026-01-01T00:00Z", "2026-01-04T00:00Z"},
		{"periodic-46 @daily", "UTC", "@daily", "2026-01-01T00:00Z", "2026-01-02T00:00Z"},
		{"periodic-46 names", "UTC", "0 0 * feb mon-fri", "2026-01-01T00:00Z", "2026-02-02T00:00Z"},
		{"periodic-47 Berlin's gap", "Europe/Berlin", "30 2 * * *", "2026-03-28T12:00Z", "2026-03-29T01:00Z 2026-03-30T00:30Z"},
		{"periodic-47 two in the gap", "Europe/Berlin", "0,30 2 * * *", "2026-03-28T12:00Z", "2026-03-29T01:00Z 2026-03-30T00:00Z"},
		{"periodic-48 Berlin's fold", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00Z", "2026-10-25T00:30Z 2026-10-26T01:30Z"},
		{"periodic-48 started within the fold", "Europe/Berlin", "30 2 * * *", "2026-10-25T01:10Z", "2026-10-26T01:30Z"},
		{"periodic-51 a gap of half an hour", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00Z", "2026-10-03T15:30Z"},
		{"periodic-52 a day that was left out", "Pacific/Apia", "0 12 * * *", "2011-12-29T22:00Z", "2011-12-30T10:00Z 2011-12-30T22:00Z"},
	} {
		t.Run(c.id, func(t *testing.T) {
			got := after(t, calendarAt(t, c.expr, c.zone), c.from, len(strings.Fields(c.want)))
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	t.Run("periodic-49 every quarter of an hour", func(t *testing.T) {
		s := calendarAt(t, "*/15 * * * *", "Europe/Berlin")
		loc, _ := time.LoadLocation("Europe/Berlin")
		for day, want := range map[int]int{29: 92, 25: 100} {
			month := map[int]time.Month{29: time.March, 25: time.October}[day]
			n, r := 0, Run{Due: time.Date(2026, month, day, 0, 0, 0, 0, loc).Add(-time.Nanosecond)}
			for end := time.Date(2026, month, day+1, 0, 0, 0, 0, loc); ; n++ {
				due, _ := s.Next(r)
				if !due.Before(end) {
					break
				}
				if n > 0 && due.Sub(r.Due) != 15*time.Minute {
					t.Errorf("%v after %v", due, r.Due)
				}
				r.Due = due
			}
			if n != want {
				t.Errorf("day %d: %d runs, want %d", day, n, want)
			}
		}
	})
	t.Run("periodic-50 every hour", func(t *testing.T) {
		s := calendarAt(t, "0 * * * *", "Europe/Berlin")
		r := Run{Due: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		for range 365 * 24 {
			due, _ := s.Next(r)
			if due.Sub(r.Due) != time.Hour {
				t.Fatalf("%v after %v", due, r.Due)
			}
			r.Due = due
		}
	})
}

func func2(context.Context) error { return nil }

// field is a random field of an expression, and what it matches.
func field(r *rand.Rand, low, high int) (string, func(v int) bool) {
	pick := func(a, b int) int { return a + r.IntN(b-a+1) }
	switch r.IntN(6) {
	case 0, 1:
		return "*", func(int) bool { return true }
	case 2:
		n := pick(low, high)
		return fmt.Sprint(n), func(v int) bool { return v == n }
	case 3:
		a := pick(low, high)
		b := pick(a, high)
		return fmt.Sprintf("%d-%d", a, b), func(v int) bool { return v >= a && v <= b }
	case 4:
		n := pick(2, max(2, (high-low)/2))
		return fmt.Sprintf("*/%d", n), func(v int) bool { return (v-low)%n == 0 }
	default:
		a, b := pick(low, high), pick(low, high)
		return fmt.Sprintf("%d,%d", a, b), func(v int) bool { return v == a || v == b }
	}
}

func TestCronProperties(t *testing.T) {
	t.Parallel()
	t.Run("periodic-53 random expressions and a brute force", func(t *testing.T) {
		n := 300
		if os.Getenv("DROVER_LONG") != "" {
			n = 10_000
		}
		r := rand.New(rand.NewPCG(53, 1))
		for range n {
			min, isMin := field(r, 0, 59)
			hour, isHour := field(r, 0, 23)
			day, isDay := field(r, 1, 31)
			month, isMonth := field(r, 1, 12)
			wday, isWday := field(r, 0, 6)
			expr := strings.Join([]string{min, hour, day, month, wday}, " ")
			either := day[0] != '*' && wday[0] != '*'
			brute := func(from time.Time) (time.Time, bool) { // minute by minute, leaving out days that do not match
				for at, end := from.Add(time.Minute), from.AddDate(8, 0, 0); at.Before(end); {
					onDay := isDay(at.Day()) && isWday(int(at.Weekday()))
					if either {
						onDay = isDay(at.Day()) || isWday(int(at.Weekday()))
					}
					switch {
					case !isMonth(int(at.Month())) || !onDay:
						at = time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, time.UTC)
					case isHour(at.Hour()) && isMin(at.Minute()):
						return at, true
					default:
						at = at.Add(time.Minute)
					}
				}
				return time.Time{}, false
			}
			s, err := Calendar(expr, nil)
			if errors.Is(err, ErrNever) {
				if at, ok := brute(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); ok {
					t.Fatalf("%q is never, but %v", expr, at)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%q: %v", expr, err)
			}
			at := time.Date(2026, 1, 1+r.IntN(2000), r.IntN(24), r.IntN(60), 0, 0, time.UTC)
			for range 8 {
				want, ok := brute(at)
				got, gotOK := s.Next(Run{Due: at})
				if ok != gotOK && want.Sub(at) < 7*365*24*time.Hour || ok && gotOK && !got.Equal(want) {
					t.Fatalf("%q after %v: %v %v, want %v %v", expr, at, got, gotOK, want, ok)
				}
				if !ok {
					break
				}
				at = want
			}
		}
	})
	zones := []string{"Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "Africa/Casablanca", "America/St_Johns",
		"Asia/Tehran", "Europe/Dublin", "America/Havana", "Asia/Beirut", "Pacific/Chatham", "Asia/Gaza", "America/Santiago", "Africa/Cairo", "Europe/London", "Atlantic/Azores",
		"Antarctica/Troll", "UTC"}
	t.Run("periodic-54 zones", func(t *testing.T) {
		n := 10
		if os.Getenv("DROVER_LONG") != "" {
			n = 200
		}
		r := rand.New(rand.NewPCG(54, 1))
		for _, zone := range zones {
			loc, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				hour, minute := r.IntN(24), r.IntN(60)
				onceADay(t, loc, hour, minute)
				f, _ := field(r, 0, 59)
				g, _ := field(r, 0, 23)
				s, err := Calendar(f+" "+g+" * * *", loc)
				if err != nil {
					t.Fatal(err)
				}
				for run, i := (Run{Due: time.Date(2011, 1, 1, 0, 0, 0, 0, loc)}), 0; i < 2000; i++ {
					due, ok := s.Next(run)
					if !ok || !due.After(run.Due) {
						t.Fatalf("%s %v: %v after %v", zone, s, due, run.Due)
					}
					run.Due = due
				}
			}
		}
	})
}

// onceADay checks that a time of day is due once per local date that exists; a gap across midnight moves it to the next.
func onceADay(t *testing.T, loc *time.Location, hour, minute int) {
	t.Helper()
	s, err := Calendar(fmt.Sprintf("%d %d * * *", minute, hour), loc)
	if err != nil {
		t.Fatal(err)
	}
	run := Run{Due: time.Date(2011, 1, 1, 12, 0, 0, 0, loc)}
	var days []string
	for range 3 * 365 {
		due, ok := s.Next(run)
		if !ok {
			t.Fatalf("%v %v ends", loc, s)
		}
		if gap := due.Sub(run.Due); gap > 50*time.Hour || gap <= 0 {
			t.Fatalf("%v %v: %v after %v", loc, s, due, run.Due)
		}
		run.Due = due
		days = append(days, due.In(loc).Format(time.DateOnly))
	}
	for i := 1; i < len(days); i++ {
		a, _ := time.Parse(time.DateOnly, days[i-1])
		b, _ := time.Parse(time.DateOnly, days[i])
		if gap := b.Sub(a); gap > 48*time.Hour || gap < 0 {
			t.Fatalf("%v %v: on %s, then on %s", loc, s, days[i-1], days[i])
		} else if gap == 0 && !gapAt(loc, b) {
			t.Fatalf("%v %v: twice on %s", loc, s, days[i])
		}
	}
}

// gapAt says that a clock change of loc touches the midnight that begins day or its first hours.
func gapAt(loc *time.Location, day time.Time) bool {
	at := time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, loc)
	_, o := at.Zone()
	_, was := at.Add(-36 * time.Hour).Zone()
	return o > was
}

// spec: periodic-55
func FuzzCalendar(f *testing.F) {
	for _, s := range []string{"*/15 * * * *", "0 0 29 2 *", "0 0 L * 5#2", "0 0 15W * *", "@daily", "1-5/2,7 0-23/3 ? jan sun", "TZ=0", "0 0 1 1 L"} {
		f.Add(s, int64(1_700_000_000))
	}
	loc, err := time.LoadLocation("America/Havana")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expr string, at int64) {
		began := time.Now()
		s, err := Calendar(expr, loc)
		if err != nil {
			if !errors.Is(err, ErrSchedule) && !errors.Is(err, ErrNever) {
				t.Fatal(err)
			}
			return
		}
		from := time.Unix(at%(1<<35), 0)
		if due, ok := s.Next(Run{Due: from}); ok && !due.After(from) {
			t.Fatalf("%q: %v after %v", expr, due, from)
		}
		if took := time.Since(began); took > 2*time.Second { // 50 ms on a machine that does nothing else
			t.Fatalf("%q: took %v", expr, took)
		}
	})
}
