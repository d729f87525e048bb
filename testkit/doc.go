// Package testkit runs a whole cluster in one test: real nodes with real goroutines, in virtual time, with faults, each
// run replayable from its seed.
//
//	testkit.Explore(t, 200, func(w *testkit.World) {
//		a := w.Node("a", build) // build makes the node's components from n.Env and n.Store
//		w.Node("b", build)
//		w.Advance(5 * time.Second)
//		a.Crash()
//		w.Eventually(2*time.Minute, "done once", func() bool { return effects == 1 })
//	})
//
// Each seed is a world in a testing/synctest bubble. Nodes share one store in memory, or another one ([Store]), and one network
// that carries the messages of their buses (Node.Bus). Their calls to these are scheduling points: before each, its
// goroutine parks; when every goroutine of the world has come to rest, the seed draws which of them goes on, and what
// fault it meets.
//
// # Guarantees
//
//   - Same binary, same seed, same trace, byte for byte, whatever GOMAXPROCS, -race, or the load of the machine; a world
//     that does not replay fails, naming the first line that differs (see [Strict]).
//   - Exactly one shared operation happens at a time, and all goroutines come to rest before the next.
//   - Shipped code runs unchanged: what is simulated stands behind the interfaces that components are handed.
//   - Time is virtual: time.Sleep, contexts and Env.Clock follow it; idle hours cost one timer.
//   - A shared operation called under a lock of package internal/watchlock fails the world.
//   - A failure prints its seed, the command that replays it, and the end of the trace.
//
// # Not guaranteed
//
//   - Coverage of all interleavings, and none inside a node between two shared operations: that is the race detector's.
//   - The behaviour of real servers: the conformance suites (storetest, drivertest) test that.
//   - Nothing with real sockets works inside a world.
//   - A crashed or frozen node's goroutines stop at their next shared operation or timer of Env.Clock. Code between, and
//     code that waits by package time alone, still runs; its context is cancelled by a crash.
//   - Contexts and package time follow the world's clock also on a skewed node: use context.WithTimeout there, or Env.Clock.
//   - What code writes after a plain time.Sleep and a check reads must be atomic under -race: the detector does not know
//     the order that virtual time makes. After a shared operation or Env.Clock it does.
//   - A frozen node's open transaction ends first, since the one store would stand still with it.
//
// Start goroutines with Env.Go or World.Go, named after their work. Two goroutines of one name before the same
// operation on the same key are a tie: nobody can say which is which, and the world fails.
//
// # Replay
//
// The flag wins over the variable; the variables work with ./... too.
//
//	-testkit.seed=N    DROVER_SEED       only seed N, printing its whole trace
//	-testkit.seeds=N   DROVER_SEEDS      so many seeds instead of Explore's; -short divides by 10
//	-testkit.base=N    DROVER_SEED_BASE  the first seed, default 1
//	-testkit.replay=first|all|none       which seeds run twice and are compared, default the first and every tenth
//	-testkit.trace=FILE                  write the trace of the first failure there
package testkit
