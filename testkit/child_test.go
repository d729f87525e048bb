package testkit_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

const childEnv = "DROVER_TESTKIT_CHILD"

// TestChild holds worlds that fail, for tests that look at how they do; run by child, in a process of their own.
func TestChild(t *testing.T) {
	if f := failing[os.Getenv(childEnv)]; f != nil {
		f(t)
	}
}

// child runs a failing world in a process of its own and gives what it printed.
func child(t *testing.T, name string, env []string, flags ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-test.run", "^TestChild$", "-test.v"}, flags...)...)
	cmd.Env = append(append(os.Environ(), childEnv+"="+name, "DROVER_SEED=", "DROVER_SEEDS=", "DROVER_SEED_BASE="), env...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("%s passed:\n%s", name, out)
	}
	return string(out)
}

func wants(t *testing.T, out string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			t.Errorf("no %q in:\n%s", p, out)
		}
	}
}

// inTx is a transaction of n's, outside any handler.
func inTx(n *testkit.Node, f func(ctx context.Context, tx store.Tx) error) error {
	return n.Store.InTx(context.Background(), f)
}

func openSession(n *testkit.Node, name string) (tok lease.Token, err error) {
	err = inTx(n, func(ctx context.Context, tx store.Tx) error {
		tok, err = n.Store.Leases().Open(ctx, tx, lease.Info{Name: name, State: lease.Active}, name, 30*time.Second)
		return err
	})
	return tok, err
}

func storeNow(n *testkit.Node) (now time.Time) {
	_ = inTx(n, func(_ context.Context, tx store.Tx) error { now = tx.Now(); return nil })
	return now
}

// limit is a number kept in the store, read and written in two transactions.
func limit(n *testkit.Node) (v int) {
	_ = inTx(n, func(ctx context.Context, tx store.Tx) error {
		rows, err := n.Store.Queues().Policy(ctx, tx, nil)
		for _, r := range rows {
			v = r.Limit
		}
		return err
	})
	return v
}

func setLimit(n *testkit.Node, v int) {
	_ = inTx(n, func(ctx context.Context, tx store.Tx) error {
		_, err := n.Store.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: v}}})
		return err
	})
}

// runs counts the worlds of a process, to make one that depends on it.
var runs int

var failing = map[string]func(t *testing.T){
	"lost update": func(t *testing.T) {
		testkit.Explore(t, 50, func(w *testkit.World) {
			a, b := w.Node("a", nil), w.Node("b", nil)
			setLimit(a, 1)
			done := 0
			for _, n := range []*testkit.Node{a, b} {
				w.Go("add-"+n.Name(), func() {
					setLimit(n, limit(n)+1)
					done++
				})
			}
			w.Eventually(time.Minute, "both have added", func() bool { return done == 2 })
			if got := limit(a); got != 3 {
				w.T.Fatalf("limit %d after two additions to 1", got)
			}
		})
	},
	"map order": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n1", nil)
			jobs := map[string]bool{}
			for i := range 20 {
				jobs[fmt.Sprintf("s%02d", i)] = true
			}
			n.Env.Go("picker", func() {
				for name := range jobs {
					_, _ = openSession(n, name)
				}
			})
			w.Advance(time.Second)
		})
	},
	"tie": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n1", nil)
			for range 2 {
				go func() { _, _ = openSession(n, "x") }()
			}
			w.Advance(time.Second)
		})
	},
	"under a lock": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n1", nil)
			l := watchlock.New(n.Env.Defaults(), "tracker").Lock("snapshots")
			n.Env.Go("audit", func() {
				_ = l.Do(n.Context(), watchlock.Holder{Op: "audit"}, func() { _ = storeNow(n) })
			})
			w.Advance(time.Second)
		})
	},
	"always calls": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n1", nil)
			w.Always("limit is 0", func() bool { return limit(n) == 0 })
			w.Advance(time.Second)
		})
	},
	"eventually": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			w.Advance(3 * time.Second)
			w.Eventually(time.Minute, "pigs fly", func() bool { return false })
		})
	},
	"left behind": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n1", nil)
			n.Env.Go("sleeper", func() { <-make(chan int) })
		})
	},
	"left behind, no name": func(t *testing.T) {
		testkit.Explore(t, 1, func(*testkit.World) { go func() { <-make(chan int) }() })
	},
	"mutex": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n1", nil)
			var mu sync.Mutex
			for i := range 2 {
				n.Env.Go(fmt.Sprint("holder-", i), func() {
					mu.Lock()
					defer mu.Unlock()
					_, _ = openSession(n, "x")
				})
			}
			w.Advance(time.Second)
		})
	},
	"panic": func(t *testing.T) {
		testkit.Explore(t, 4, func(w *testkit.World) {
			w.Node("n1", func(n *testkit.Node) drover.Component {
				return drover.Func(func(context.Context) error {
					if w.Seed == 2 {
						panic("host code broke")
					}
					return nil
				})
			})
			w.Advance(time.Second)
		})
	},
	"no seeds": func(t *testing.T) { testkit.Explore(t, 0, func(*testkit.World) { t.Log("a seed ran") }) },
	"any":      func(t *testing.T) { testkit.Explore(t, 2, func(*testkit.World) { t.Log("a seed ran") }) },
	"in bubble": func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { testkit.Explore(t, 1, func(*testkit.World) {}) })
	},
	"after the end": func(t *testing.T) {
		var left *testkit.World
		testkit.Explore(t, 1, func(w *testkit.World) { left = w })
		left.Advance(time.Second)
	},
	"empty name": func(t *testing.T) { testkit.Explore(t, 1, func(w *testkit.World) { w.Node("", nil) }) },
	"name twice": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) { w.Node("n1", nil); w.Node("n1", nil) })
	},
	"name with slash": func(t *testing.T) { testkit.Explore(t, 1, func(w *testkit.World) { w.Node("a/b", nil) }) },
	"bad op": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) { w.Node("n1", nil).Fail("store.jobs.klaim", 1, nil) })
	},
	"counts differ": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			runs++
			n := w.Node("n1", nil)
			w.CrashPoints(n, func() {
				for i := range runs {
					_, _ = openSession(n, fmt.Sprint(i))
				}
			})
		}, testkit.Strict(true))
	},
	"horizon": func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) { w.Advance(2 * time.Hour) }, testkit.Horizon(time.Hour))
	},
}

func TestFailures(t *testing.T) {
	t.Run("testkit-03 a lost update is found, and replays 20 of 20 times", func(t *testing.T) {
		t.Parallel()
		out := child(t, "lost update", nil, "-testkit.replay=none")
		m := regexp.MustCompile(`seed (\d+): limit 2 after two additions`).FindStringSubmatch(out)
		if m == nil {
			t.Fatal(out)
		}
		for range 20 {
			wants(t, child(t, "lost update", []string{"DROVER_SEED=" + m[1]}), "seed "+m[1]+": limit 2 after two additions")
		}
	})
	t.Run("testkit-04 the replay line, pasted into a shell, fails in the same way", func(t *testing.T) {
		t.Parallel()
		out := child(t, "lost update", nil, "-testkit.replay=none")
		m := regexp.MustCompile(`(?s)(seed \d+: limit 2 after two additions to 1\n +at T\+\S+)\n +replay: ([^\n]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatal(out)
		}
		cmd := exec.Command("sh", "-c", m[2])
		cmd.Env = append(os.Environ(), childEnv+"=lost update", "DROVER_SEEDS=", "DROVER_SEED_BASE=")
		again, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(squeeze(string(again)), squeeze(m[1])) {
			t.Fatalf("%v: want %q in:\n%s", err, m[1], again)
		}
	})
	t.Run("testkit-05 a decision by map order is not deterministic", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "map order", nil), `not deterministic.*first differing line \d+:`, `once: T\+\S+ n1/main>picker store\.leases\.open key=s\d\d`,
			`then: T\+\S+ n1/main>picker store\.leases\.open key=s\d\d`)
	})
	t.Run("testkit-06 a tie names both", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "tie", nil), `tie: n1/anon \(created by .*child_test\.go:\d+.*\) and n1/anon \(created by .*child_test\.go:\d+.*\) both wait for store\.tx\.begin`)
	})
	t.Run("testkit-17 a check that calls the store", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "always calls", nil), `a check called a shared operation \(store\.tx\.begin\)`)
	})
	t.Run("service-45 the store is called under a lock", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "under a lock", nil), `store\.tx\.begin called by n1/main>audit under a lock that .*testkit_test\..* took`)
	})
	t.Run("testkit-18 Eventually fails at its deadline, saying what it waited for", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "eventually", nil), `eventually "pigs fly \(within 1m0s\)": not within the time given`, `at T\+1m3s`)
	})
	t.Run("testkit-19 goroutines left behind are named, a mutex across a call is found", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "left behind", nil), `left behind: n1/main>sleeper\n`, `chan receive \(durable\)`, `child_test\.go`)
		wants(t, child(t, "left behind, no name", nil), `left behind, started by a plain go statement`, `child_test\.go`)
		begin := time.Now()
		out := child(t, "mutex", nil)
		if d := time.Since(begin); d < 8*time.Second || d > 20*time.Second {
			t.Errorf("the watchdog took %v", d)
		}
		wants(t, out, `seed 1: nothing has happened for 10s`, `replay: DROVER_SEED=1 go test`, `n1/holder-|store\.tx\.begin|main`, `sync\.\(\*Mutex\)\.Lock`, `child_test\.go`)
	})
	t.Run("testkit-20 a panic fails its seed alone", func(t *testing.T) {
		t.Parallel()
		out := child(t, "panic", nil)
		wants(t, out, `seed 2: panic in n1: host code broke`, `child_test\.go`, `--- FAIL: TestChild/seed/2`, `--- PASS: TestChild/seed/1`, `--- PASS: TestChild/seed/4`)
	})
	t.Run("testkit-26 bad numbers are refused before a seed runs", func(t *testing.T) {
		t.Parallel()
		for _, out := range []string{child(t, "any", nil, "-testkit.seeds=0"), child(t, "any", nil, "-testkit.seeds=-1"), child(t, "any", nil, "-testkit.seed=x")} {
			wants(t, out, `invalid value .* for flag -testkit\.seeds?: want a whole number`)
		}
		outs := []string{child(t, "any", []string{"DROVER_SEEDS=0"}), child(t, "any", []string{"DROVER_SEED=x"}), child(t, "no seeds", nil)}
		for i, p := range []string{`DROVER_SEEDS="0": want a whole number of at least 1`, `DROVER_SEED="x": want a whole number`, `Explore of 0 seeds: want at least 1`} {
			wants(t, outs[i], p)
			if strings.Contains(outs[i], "a seed ran") {
				t.Error(outs[i])
			}
		}
	})
	t.Run("testkit-27 Explore in a bubble, a World after its end", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "in bubble", nil), `Explore inside a testing/synctest bubble`)
		wants(t, child(t, "after the end", nil), `World\.Advance after the end of the World of seed 1`)
	})
	t.Run("testkit-28 node names", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "empty name", nil), `World\.Node\(""\)`)
		wants(t, child(t, "name twice", nil), `World\.Node\("n1"\): the name is in use`)
		wants(t, child(t, "name with slash", nil), `World\.Node\("a/b"\)`)
		wants(t, child(t, "bad op", nil), `operation "store\.jobs\.klaim" matches none of store\.tx\.begin`)
		wants(t, child(t, "horizon", nil), `the horizon of 1h0m0s is reached`)
	})
	t.Run("testkit-40 counts that differ", func(t *testing.T) {
		t.Parallel()
		wants(t, child(t, "counts differ", nil, "-testkit.replay=none"), `not deterministic|CrashPoints counted 3 operations, then 6`)
	})
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
