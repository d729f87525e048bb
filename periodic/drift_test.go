package periodic_test

import (
	"context"
	"testing"
	"time"
)

// Nova's periodic tasks run every 90 s when a task of 60 s takes 30.
func TestDrift(t *testing.T) {
	bubble(t, func(l *live) {
		const runs = 1000
		if err := l.Every(time.Minute, "task", l.costs("task", 30*time.Second)); err != nil {
			t.Fatal(err)
		}
		l.run()
		l.till((runs + 1) * time.Minute)
		at := l.at("task")
		if len(at) < runs {
			t.Fatalf("%d runs in %d minutes", len(at), runs+1)
		}
		mean := (at[runs-1] - at[0]) / (runs - 1)
		if off := (mean - time.Minute).Abs(); off > time.Minute/1000 {
			t.Errorf("the mean period is %v", mean)
		}
		for i, d := range at {
			if off := (d - at[0] - time.Duration(i)*time.Minute).Abs(); off > 2*time.Millisecond { // a look of the loop
				t.Fatalf("run %d is %v off its grid", i, off)
			}
		}
	})
	s := newStepped(t)
	var at []time.Duration
	if err := s.Every(time.Minute, "task", func(context.Context) error {
		at = append(at, s.clock.Now().Sub(s.start))
		s.clock.Add(30 * time.Second)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for next := time.Duration(0); len(at) < 1000; {
		next = s.step(max(next, s.clock.Now().Sub(s.start)))
	}
	for i, d := range at {
		if d-at[0] != time.Duration(i)*time.Minute {
			t.Fatalf("run %d, stepped, is %v off its grid", i, d-at[0]-time.Duration(i)*time.Minute)
		}
	}
}
