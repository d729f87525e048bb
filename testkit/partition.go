package testkit

import (
	"fmt"
	"time"
)

// Place is an end of a connection: a *Node, [TheStore] or [TheBus].
type Place interface{ place() string }

func (n *Node) place() string { return n.name }

type thePlace string

func (p thePlace) place() string { return string(p) }

// TheStore is the world's store, as an end of a partition, and TheBus what carries the messages of all nodes.
const (
	TheStore thePlace = "store"
	TheBus   thePlace = "bus"
)

// cut is what of a node's connection to the store, or to the bus, is broken.
type cut struct{ to, from bool }

func (c cut) any() bool { return c.to || c.from }

// Partition cuts the connection of a node and the store, of a node and the bus, or of two nodes, both ways, until Heal: calls of the
// store and sends hang until their context ends, messages between the two nodes are held back.
func (w *World) Partition(a, b Place) {
	w.Cut(a, b)
	w.Cut(b, a)
}

// Cut cuts one way. Calls that begin hang until their context ends, or until Heal. Of a call under way: node to store,
// it is not done, and its transaction is rolled back; store to node, it is done, but the node hears nothing of it. Of the bus
// likewise; what it has for the node, and what one node has sent to the other, arrives after Heal.
func (w *World) Cut(from, to Place) {
	w.use("World.Partition")
	n, out := from.(*Node)
	m, in := to.(*Node)
	switch {
	case out && in && n != m:
		w.mu.Lock()
		if w.net.cuts == nil {
			w.net.cuts = map[[2]*Node]bool{}
		}
		w.net.cuts[[2]*Node{n, m}] = true
		w.mu.Unlock()
	case out && to == TheStore:
		n.cut.to = true
	case in && from == TheStore:
		m.cut.from = true
	case out && to == TheBus:
		n.off.to = true
	case in && from == TheBus:
		m.off.from = true
	default:
		w.T.Fatalf("testkit: World.Partition(%s, %s): a node and another, TheStore or TheBus are wanted", from.place(), to.place())
	}
	w.act("partition", fmt.Sprintf("partition %s -> %s", from.place(), to.place()))
}

// Heal ends all partitions.
func (w *World) Heal() {
	w.use("World.Heal")
	for _, n := range w.nodes {
		n.cure()
	}
	w.mu.Lock()
	clear(w.net.cuts)
	w.mu.Unlock()
	w.resume()
	w.s.Mark("!! heal")
	w.s.Rest()
}

func (n *Node) cure() {
	if n.cut.any() {
		n.cut, n.healed = cut{}, time.Now()
	}
	n.off = cut{}
}

// heal ends n's partitions from the store and the bus.
func (n *Node) heal() {
	n.cure()
	n.w.resume()
	n.w.s.Mark("!! heal " + n.name)
	n.w.s.Rest()
}

// StoreDown makes every operation of every node fail at once with ErrDown for d; open transactions are rolled back.
func (w *World) StoreDown(d time.Duration) {
	w.use("World.StoreDown")
	w.down = time.Now().Add(d)
	w.act("store down", fmt.Sprintf("store down %v", d))
}

// StoreReadOnly makes every operation that writes fail with ErrDown for d.
func (w *World) StoreReadOnly(d time.Duration) {
	w.use("World.StoreReadOnly")
	w.frozen = time.Now().Add(d)
	w.act("store read-only", fmt.Sprintf("store read-only %v", d))
}

// StoreJump moves the store's clock by d. A store never shows a time before one it has shown: a jump back stops its
// clock until the world has caught up.
func (w *World) StoreJump(d time.Duration) {
	w.use("World.StoreJump")
	w.mu.Lock()
	w.jump += d
	w.mu.Unlock()
	w.act("store clock", fmt.Sprintf("store clock %+v", d))
}
