// Package testkit runs a whole cluster in one test, in virtual time, replayable by seed.
package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
)

// Explore runs f in a fresh world for n seeds (or the one in -testkit.seed or DROVER_SEED) and
// prints the failing seed and its trace.
func Explore(t *testing.T, n int, f func(w *World), opts ...Option) {}

type Option func(*options)
type options struct{}

func Horizon(d time.Duration) Option { return nil } // default 24h virtual
func Strict(on bool) Option          { return nil } // default true
func NoShrink() Option               { return nil }
func Parallel(n int) Option          { return nil } // default GOMAXPROCS

// World is a cluster in a testing/synctest bubble: real goroutines, fake time,
// one store, one bus, and a seeded scheduler that lets exactly one operation on
// them happen at a time.
type World struct {
	T    testing.TB
	Seed uint64
}

// Node starts a node; build makes its components from the node's own Env.
func (w *World) Node(name string, build func(n *Node) drover.Component) *Node { return nil }
func (w *World) Go(name string, f func())                                     {}
func (w *World) Advance(d time.Duration)                                      {} // let virtual time pass
func (w *World) Settle()                                                      {} // until nothing is runnable
func (w *World) Eventually(within time.Duration, what string, ok func() bool) {}
func (w *World) Always(what string, ok func() bool)                           {} // checked after every operation
func (w *World) Never(what string, bad func() bool)                           {}
func (w *World) JobInvariants()                                               {} // G1–G5
func (w *World) LeaseInvariants()                                             {}
func (w *World) Hosts(n int, spec HostSpec) []*SimHost                        { return nil }
func (w *World) Chaos(p Profile)                                              {}
func (w *World) Partition(a, b *Node)                                         {}
func (w *World) Heal()                                                        {}
func (w *World) StoreDown(d time.Duration)                                    {}
func (w *World) StoreReadOnly(d time.Duration)                                {}
func (w *World) StoreJump(d time.Duration)                                    {}
func (w *World) Hints(lose, dup float64, delay time.Duration)                 {}
func (w *World) CrashPoints(n *Node, f func())                                {}
func (w *World) Record() *History                                             { return nil }
func (w *World) Trace() []string                                              { return nil }

type Profile int

const (
	Gentle Profile = iota
	Rough
	Hostile
)

type HostSpec struct {
	CPUs      int
	MemoryMiB int64
}

// SimHost is a host of hypervisor/sim in the world; its verbs are the faults.
type SimHost struct{ BMC *SimBMC }
type SimBMC struct{ _ int }

func (h *SimHost) PowerLoss() {}
func (b *SimBMC) Dead()       {}

type History struct{ _ int }

type Node struct {
	Env   drover.Env // Clock may be skewed; Go names goroutines for the scheduler
	Store Stores
}

func (n *Node) Crash()                                             {} // goroutines stop at their next operation
func (n *Node) Restart()                                           {}
func (n *Node) Stop()                                              {}
func (n *Node) Freeze(d time.Duration)                             {} // GC pause: time passes, it does not run
func (n *Node) Skew(offset time.Duration, rate float64)            {}
func (n *Node) Slow(factor float64)                                {}
func (n *Node) Fail(op string, p float64, err error)               {} // before the operation
func (n *Node) FailAfter(op string, p float64, err error)          {} // written, and an error
func (n *Node) Delay(op string, p float64, min, max time.Duration) {}
func (n *Node) Serialize(p float64)                                {}
func (n *Node) Context() context.Context                           { return nil }

// Clock is manual; Inline gives an Env on it, for Step tests.
type Clock struct{ _ int }

func (c *Clock) Now() time.Time                         { return time.Time{} }
func (c *Clock) After(d time.Duration) <-chan time.Time { return nil }
func (c *Clock) Add(d time.Duration)                    {}
func Inline() (drover.Env, *Clock)                      { return drover.Env{}, nil }
