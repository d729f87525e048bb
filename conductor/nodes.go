package conductor

import "sync"

// nodes are the names of sessions, by epoch: neither ever changes.
type nodes struct {
	mu sync.Mutex
	of map[int64]string
}

const maxNodes = 100_000

func (n *nodes) get(epoch int64) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.of[epoch]
	return name, ok
}

func (n *nodes) put(epoch int64, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil || len(n.of) >= maxNodes {
		n.of = map[int64]string{}
	}
	n.of[epoch] = name
}
