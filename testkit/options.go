package testkit

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
)

// Option changes how [Explore] runs.
type Option func(*options)

type options struct {
	horizon  time.Duration
	strict   bool
	parallel int
	store    openStore
	atMost   int // 0: no bound
	err      error
}

type openStore func(t testing.TB, env drover.Env) (Stores, error)

func newOptions(opts []Option) options {
	o := options{horizon: 24 * time.Hour, strict: true, parallel: runtime.GOMAXPROCS(0)}
	for _, f := range opts {
		f(&o)
	}
	return o
}

// Horizon bounds a world's virtual time; one that is not over by then has failed. Default 24 h.
func Horizon(d time.Duration) Option {
	return func(o *options) {
		if o.horizon = d; d <= 0 {
			o.err = fmt.Errorf("Horizon(%v): want more than 0", d)
		}
	}
}

// Strict fails worlds that tie, or whose replay differs. Default true; false counts ties and compares nothing.
func Strict(on bool) Option { return func(o *options) { o.strict = on } }

// Store has worlds on another store than the one in memory, for hosts that keep rows of their own beside drover's; see [Inner].
// open is called in each world's bubble, before anything else; env's Clock is to be the store's, and t's Cleanup closes what
// was opened. Its transactions must be serializable and must not depend on chance. Of SQLite use a file with a write-ahead log: a
// database in memory lives in one connection, which an open transaction keeps from all readers and a cut query closes.
func Store(open func(t testing.TB, env drover.Env) (Stores, error)) Option {
	return func(o *options) {
		if o.store = open; open == nil {
			o.err = errors.New("Store(nil)")
		}
	}
}

// Parallel bounds the worlds that run at once. Default GOMAXPROCS; -parallel bounds them too.
func Parallel(n int) Option {
	return func(o *options) {
		if o.parallel = n; n < 1 {
			o.err = fmt.Errorf("Parallel(%d): want at least 1", n)
		}
	}
}

// AtMost bounds the number of seeds, also that of -testkit.seeds and DROVER_SEEDS: for worlds that cost much, or where the seed
// decides little.
func AtMost(seeds int) Option {
	return func(o *options) {
		if o.atMost = seeds; seeds < 1 {
			o.err = fmt.Errorf("AtMost(%d): want at least 1", seeds)
		}
	}
}

// number is a flag that knows whether it was given.
type number struct {
	v   uint64
	set bool
	min uint64
}

func (n *number) String() string { return strconv.FormatUint(n.v, 10) }
func (n *number) Set(s string) error {
	v, err := strconv.ParseUint(s, 10, 63)
	if err != nil || v < n.min {
		return fmt.Errorf("want a whole number of at least %d", n.min)
	}
	n.v, n.set = v, true
	return nil
}

// either is the flag's number, else the variable's.
func (n number) either(env string) (number, error) {
	if s := os.Getenv(env); s != "" && !n.set {
		if err := n.Set(s); err != nil {
			return n, fmt.Errorf("%s=%q: %w", env, s, err)
		}
	}
	return n, nil
}

type replays string

func (r *replays) String() string { return string(*r) }
func (r *replays) Set(s string) error {
	if s != "first" && s != "all" && s != "none" {
		return errors.New("want first, all or none")
	}
	*r = replays(s)
	return nil
}

var (
	flagSeed   number
	flagSeeds  = number{min: 1}
	flagBase   = number{v: 1}
	flagReplay = replays("first")
	flagTrace  = flag.String("testkit.trace", "", "write the trace of the first failing world to this `file`")
)

func init() {
	flag.Var(&flagSeed, "testkit.seed", "run only this `seed` and print its trace")
	flag.Var(&flagSeeds, "testkit.seeds", "run this `number` of seeds")
	flag.Var(&flagBase, "testkit.base", "first `seed`")
	flag.Var(&flagReplay, "testkit.replay", "which seeds run twice: `first`, all or none")
}

// plan is which seeds run.
type plan struct {
	seeds []uint64
	one   bool // a replay: print the trace
}

func newPlan(n, atMost int, short bool) (plan, error) {
	seed, err1 := flagSeed.either("DROVER_SEED")
	seeds, err2 := flagSeeds.either("DROVER_SEEDS")
	base, err3 := flagBase.either("DROVER_SEED_BASE")
	if err := errors.Join(err1, err2, err3); err != nil {
		return plan{}, err
	}
	if n <= 0 {
		return plan{}, fmt.Errorf("Explore of %d seeds: want at least 1", n)
	}
	if seed.set {
		return plan{seeds: []uint64{seed.v}, one: true}, nil
	}
	if seeds.set {
		n = int(seeds.v)
	}
	if atMost > 0 {
		n = min(n, atMost)
	}
	if short {
		n = max(1, n/10)
	}
	p := plan{}
	for i := range n {
		p.seeds = append(p.seeds, base.v+uint64(i))
	}
	return p, nil
}

// twice says whether the i-th seed is run again and compared.
func (p plan) twice(i int, strict bool) bool {
	switch {
	case !strict || flagReplay == "none":
		return false
	case flagReplay == "all" || p.one:
		return true
	}
	return i%10 == 0
}
