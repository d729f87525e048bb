package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
)

func TestMain(m *testing.M) {
	if cfg := os.Getenv(workerEnv); cfg != "" {
		os.Exit(work(cfg))
	}
	os.Exit(testkit.Main(m))
}

func TestSpec(t *testing.T) {
	t.Run("rel-08 one seed, one plan", func(t *testing.T) {
		a, b, c := must(t, "-seed", "7"), must(t, "-seed", "7"), must(t, "-seed", "8")
		if !slices.Equal(plan(a), plan(b)) || slices.Equal(plan(a), plan(c)) || len(plan(a)) != a.all() {
			t.Error("the plan is not the seed's")
		}
	})
	t.Run("job-80 short profile", func(t *testing.T) {
		if testing.Short() { // beside the race detector
			harnessed(t, met, "-jobs", "2000")
			return
		}
		harnessed(t, met)
	})
	if os.Getenv("DROVER_LONG") == "" {
		return
	}
	t.Run("rel-04 without SIGSTOP the run is invalid", func(t *testing.T) { harnessed(t, invalid, "-stops", "0") })
	t.Run("rel-03 control", func(t *testing.T) {
		testkit.FreshPostgres(t) // it is there
		var out bytes.Buffer
		if code := run(t.Context(), []string{"kill", "-mutant", "finish-no-epoch"}, &out, &out); code != missed {
			t.Errorf("exit code %d, want %d", code, missed)
		}
		if !regexp.MustCompile(`(?m)^stale: .*MISSED`).Match(out.Bytes()) {
			t.Error("no stale result found")
		}
		t.Log(out.String())
	})
	t.Run("job-80 long profile", func(t *testing.T) { harnessed(t, met, "-profile", "long") })
}

func must(t *testing.T, flags ...string) *options {
	t.Helper()
	o, err := parse(flags, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFlags(t *testing.T) {
	for _, flags := range [][]string{{"-profile", "huge"}, {"-jobs", "-1"}, {"-for", "-1s"}, {"more"}, {"-no-such"}} {
		if _, err := parse(flags, io.Discard); err == nil {
			t.Errorf("%v: no error", flags)
		}
	}
	if got := without([]string{"kill", "-mutant", "x", "-seed", "1", "--mutant=x", "-mutants"}, "mutant"); !slices.Equal(got, []string{"kill", "-seed", "1", "-mutants"}) {
		t.Errorf("%v", got)
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		offences, stops int64
		want            int
	}{{0, 1, met}, {1, 1, missed}, {0, 0, invalid}, {1, 0, missed}} {
		r := &report{}
		r.zero("stale", c.offences)
		r.atLeast("stops", c.stops, 1)
		if r.code() != c.want {
			t.Errorf("%+v: exit code %d", c, r.code())
		}
		if r.Cut = true; r.code() != invalid {
			t.Errorf("%+v, cut: exit code %d", c, r.code())
		}
	}
}

// TestLines shows that the two judges in Go can find what they look for.
func TestLines(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	mute := func(string, ...any) {}
	ls := lines{"one/1": {limit: 1,
		turns:  []turn{{n: 1, first: 5, last: 9}, {n: 2, first: 7, last: 7}, {n: 3, first: 10, last: 10}},
		spells: []spell{{from: at(1), to: at(3)}, {from: at(3), to: at(5)}, {from: at(4), to: at(6)}},
	}}
	if d, c := ls.disorder(mute), ls.crowds(mute); d != 1 || c != 1 {
		t.Errorf("%d out of order, %d too many", d, c)
	}
	ls["one/1"].limit = 2
	if d, c := ls.disorder(mute), ls.crowds(mute); d != 0 || c != 0 {
		t.Errorf("limit 2: %d out of order, %d too many", d, c)
	}
}

func TestAsleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &asleep{last: time.Now()}
		began := c.Now()
		early := c.After(300 * time.Millisecond)
		time.Sleep(10 * time.Second) // nobody looks: frozen
		if d := c.Now().Sub(began); d > gap {
			t.Errorf("%v have passed for a frozen clock", d)
		}
		for range 4 {
			time.Sleep(gap / 4)
			c.Now()
		}
		select {
		case <-early:
		default:
			t.Error("a timer is lost")
		}
	})
}

// harnessed runs the harness with a seed of its own; the log names it.
func harnessed(t *testing.T, want int, flags ...string) {
	t.Helper()
	var log bytes.Buffer
	o, err := parse(flags, &log)
	if err != nil {
		t.Fatal(err)
	}
	o.server = testkit.FreshPostgres(t, testkit.FsyncOn, "max_connections=400")
	rep, err := kill(t.Context(), o, &log)
	if rep != nil {
		rep.print(&log)
	}
	t.Log(log.String())
	if err != nil || rep == nil {
		t.Fatal(err)
	}
	if code := rep.code(); code != want {
		t.Errorf("exit code %d, want %d", code, want)
	}
}
