package console

import (
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
)

func TestGaps(t *testing.T) {
	t.Run("console-18 gaps over a second are named", func(t *testing.T) {
		zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		at := func(s float64) stamp { return stamp(zero.Add(time.Duration(s * float64(time.Second)))) }
		p := past{j: &job.Job{Created: zero, Ended: time.Time(at(12)), State: job.Failed}, now: time.Time(at(99))}
		got := p.gaps([]span{{What: "run", From: at(5), To: at(10)}, {What: "waiting", From: at(0), To: at(2)}, {What: "step", From: at(3), To: at(4)}, {What: "run", From: at(10.5), To: at(10.9)}})
		want := []span{{What: "gap", Text: "not recorded", From: at(2), To: at(5), Depth: 1}, {What: "gap", Text: "not recorded", From: at(10.9), To: at(12), Depth: 1}}
		if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%v, want %v", got, want)
		}
	})
}
