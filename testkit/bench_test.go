package testkit_test

import (
	"sync/atomic"
	"testing"

	"github.com/drover-cloud/drover/testkit"
)

// BenchmarkExplore runs b.N worlds of three nodes with 40 jobs each, crashes, freezes and store errors, and reports the
// scheduling points that all cores together got through.
func BenchmarkExplore(b *testing.B) {
	var points atomic.Int64
	worlds := func(t *testing.T) {
		testkit.Explore(t, b.N, func(w *testkit.World) {
			storm(w, 40)
			points.Add(w.Stats().Points)
		}, testkit.Strict(false))
	}
	any := func(string, string) (bool, error) { return true, nil }
	if !testing.RunTests(any, []testing.InternalTest{{Name: "worlds", F: worlds}}) { // a bubble needs a *testing.T
		b.Fail()
	}
	b.ReportMetric(float64(points.Load())/b.Elapsed().Seconds(), "points/s")
}
