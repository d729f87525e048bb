package testkit

import "github.com/drover-cloud/drover/internal/testkit/sched"

// crashPlan is which operation of a node a world crashes it at. Run 0 counts them.
type crashPlan struct {
	at    int  // 0: only count
	after bool // else before
	node  *Node
	on    bool
	n     int
}

// CrashPoints runs f, and then the whole world again for each shared operation that n did meanwhile, once crashing n
// before it and once after it: 2N worlds more. What follows in the test is run in all of them; it usually restarts n and
// checks what must hold. N is logged, and two counts that differ fail. Once per world, with a node that runs.
func (w *World) CrashPoints(n *Node, f func()) {
	w.use("World.CrashPoints")
	if w.crash.node != nil {
		w.T.Fatal("testkit: World.CrashPoints: called twice in a world")
	}
	w.crash.node, w.crash.on = n, true
	f()
	w.crash.on = false
}

// visit counts e and says whether the node crashes at it.
func (c *crashPlan) visit(l *life, e *sched.Entry) sched.Kind {
	if c == nil || !c.on || l.node != c.node {
		return sched.Run
	}
	c.n++
	switch {
	case c.n != c.at:
		return sched.Run
	case c.after:
		return sched.DieAfter
	}
	return sched.Die
}
