package testkit_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover/testkit"
)

// sums collects the hash of each seed's trace and complains of a second one.
type sums struct {
	mu   sync.Mutex
	seen map[uint64]string
	runs int
}

func (s *sums) add(t testing.TB, w *testkit.World) {
	trace := w.Trace()
	sum := trace[len(trace)-1]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	if s.seen == nil {
		s.seen = map[uint64]string{}
	}
	if old := s.seen[w.Seed]; old != "" && old != sum {
		t.Errorf("seed %d: %s, then %s", w.Seed, old, sum)
	}
	s.seen[w.Seed] = sum
}

func (s *sums) distinct() int {
	d := map[string]bool{}
	for _, sum := range s.seen {
		d[sum] = true
	}
	return len(d)
}

// small is 3 nodes, 30 jobs and a crash.
func small(w *testkit.World) {
	c, ns := newCluster(w, "n1", "n2", "n3")
	ids := c.submit(ns, 30)
	w.Advance(time.Second)
	ns[0].Crash()
	c.done("n2", 5*time.Minute, ids)
}

func hashes(t *testing.T, replays int) *sums {
	s := &sums{}
	for range replays {
		testkit.Explore(t, 20, func(w *testkit.World) {
			small(w)
			s.add(t, w)
		}, testkit.Strict(false))
	}
	return s
}

// TestHashes prints a hash per seed, for TestReplay to compare with those of another build.
func TestHashes(t *testing.T) {
	if os.Getenv(childEnv) != "hashes" {
		return
	}
	s := hashes(t, 1)
	for seed := range uint64(20) {
		t.Logf("hash of %d: %s", seed+1, s.seen[seed+1])
	}
}

// counted makes Explore run the seeds it is given, also where a longer run is asked for.
func counted(t *testing.T) {
	for _, v := range []string{"DROVER_SEED", "DROVER_SEEDS", "DROVER_SEED_BASE"} {
		t.Setenv(v, "")
	}
}

// Not parallel: it sets GOMAXPROCS.
func TestReplay(t *testing.T) {
	counted(t)
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	s := &sums{}
	t.Run("testkit-01 one trace per seed, whatever GOMAXPROCS and load", func(t *testing.T) {
		for _, procs := range []int{1, 2, 8} {
			runtime.GOMAXPROCS(procs)
			for range 5 {
				testkit.Explore(t, 20, func(w *testkit.World) { small(w); s.add(t, w) }, testkit.Strict(false))
			}
		}
		var stop atomic.Bool
		var busy sync.WaitGroup
		for range 4 {
			busy.Go(func() {
				for !stop.Load() {
				}
			})
		}
		for range 5 {
			testkit.Explore(t, 20, func(w *testkit.World) { small(w); s.add(t, w) }, testkit.Strict(false))
		}
		stop.Store(true)
		busy.Wait()
		runtime.GOMAXPROCS(before)
		if want := 400; s.runs != want && !testing.Short() {
			t.Errorf("%d worlds, want %d", s.runs, want)
		}
	})
	t.Run("testkit-01 the same with and without -race", func(t *testing.T) {
		if testing.Short() {
			t.Skip("builds the tests a second time")
		}
		args := []string{"test", "-run", "^TestHashes$", "-v", "-count=1", "."}
		if !raceEnabled {
			args = slices.Insert(args, 1, "-race")
		}
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), childEnv+"=hashes")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		found := regexp.MustCompile(`hash of (\d+): (sha256 [0-9a-f]{64})`).FindAllStringSubmatch(string(out), -1)
		if len(found) != 20 {
			t.Fatalf("%d hashes in\n%s", len(found), out)
		}
		for _, f := range found {
			var seed uint64
			_, _ = fmt.Sscan(f[1], &seed)
			if s.seen[seed] != f[2] {
				t.Errorf("seed %d: %s, the other build says %s", seed, s.seen[seed], f[2])
			}
		}
	})
	t.Run("testkit-02 seeds differ", func(t *testing.T) {
		if n := s.distinct(); n < 19 && !testing.Short() {
			t.Errorf("%d distinct traces of 20", n)
		}
	})
	t.Run("G10 one storm, 20 times at GOMAXPROCS 1 and 2", func(t *testing.T) {
		s := &sums{}
		for i := range 20 {
			runtime.GOMAXPROCS(1 + i%2)
			testkit.Explore(t, 1, func(w *testkit.World) { storm(w, 200); s.add(t, w) }, testkit.Strict(false))
		}
		runtime.GOMAXPROCS(before)
		if s.runs != 20 {
			t.Errorf("%d runs", s.runs)
		}
	})
	t.Run("testkit-07 a timer and a crash at one instant: 380 replays", func(t *testing.T) {
		s := &sums{}
		order := map[bool]int{}
		for range 19 {
			testkit.Explore(t, 20, func(w *testkit.World) {
				a, b := w.Node("a", nil), w.Node("b", nil)
				a.Env.Go("late", func() {
					time.Sleep(5 * time.Second)
					_, _ = openSession(a, "late")
				})
				w.Advance(5 * time.Second)
				a.Crash()
				opened := len(sessions(b)) == 1
				s.add(t, w)
				s.mu.Lock()
				order[opened]++
				s.mu.Unlock()
			}, testkit.Strict(false))
		}
		if s.runs != 380 && !testing.Short() {
			t.Errorf("%d replays", s.runs)
		}
		if (order[true] == 0 || order[false] == 0) && !testing.Short() {
			t.Errorf("only one order was seen: %v", order)
		}
	})
}
