package periodic_test

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/periodic"
)

// setClock is a manual clock with both readings, whose wall clock can be set.
type setClock struct {
	base time.Time
	on   time.Duration // that have passed
	off  time.Duration // by which the wall clock was set
}

func (c *setClock) Now() time.Time                       { return setWall(c.base.Add(c.on), c.off) }
func (c *setClock) After(time.Duration) <-chan time.Time { return nil }

// setWall moves only the wall reading of t, which package time has no way to say: bits 30 to 62 of its first word are the
// seconds since 1885, when there is a monotonic reading.
func setWall(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(d/time.Second) << 30
	return t
}

func TestWallClock(t *testing.T) {
	t.Run("the clock of this test", func(t *testing.T) {
		a, b := time.Now(), setWall(time.Now(), -5*time.Hour)
		if d := b.Sub(a); d < 0 || d > time.Minute {
			t.Fatal("monotonic", d)
		}
		if d := b.Round(0).Sub(a.Round(0)); d > -4*time.Hour || d < -6*time.Hour {
			t.Fatal("wall", d)
		}
	})
	for name, c := range map[string]struct {
		back   time.Duration
		events int
	}{
		"periodic-64 set back 1 h": {-time.Hour, 0},
		"periodic-64 set back 5 h": {-5 * time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &setClock{base: time.Now()}
			clock.off = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).Sub(clock.base.Round(0)).Truncate(time.Second)
			sink := &live{}
			ran := map[string][]time.Duration{}
			note := func(name string) periodic.Func {
				return func(context.Context) error { ran[name] = append(ran[name], clock.on.Round(time.Minute)); return nil }
			}
			s := &periodic.Set{Env: drover.Env{Clock: clock, Logger: newLogger(sink)}}
			if err := s.Add(periodic.Every(10*time.Minute, "every", note("every"), exact), periodic.Cron("0 * * * *", nil, "cron", note("cron"))); err != nil {
				t.Fatal(err)
			}
			for ; clock.on <= 302*time.Minute; clock.on += 20 * time.Second {
				if clock.on == 150*time.Minute { // the calendar has run at 1:00 and 2:00
					clock.off += c.back // 2:30 becomes 1:30, or 21:30 of the day before
				}
				if _, err := s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			same(t, "every", len(ran["every"]), 30)
			for i, at := range ran["every"] {
				same(t, "every", at, time.Duration(i+1)*10*time.Minute)
			}
			want := secs(3600, 7200, 14400, 18000) // 2:00 does not come again; 3:00 is an hour later
			if c.events > 0 {
				want = secs(3600, 7200, 10800, 14400, 18000) // 22:00, 23:00, 0:00
			}
			list(t, "calendar", ran["cron"], want...)
			same(t, "events", len(sink.logged("periodic.clock")), c.events)
		})
	}
}
