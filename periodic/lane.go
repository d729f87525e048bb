package periodic

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// Lane lets one of the tasks that share it, by [OnLane], run at a time, in order of due time and name; tasks of several Sets
// may share one. A run that waits counts as running for its task's Overlap; its limit begins with its start. The zero value is
// ready.
type Lane struct {
	mu   sync.Mutex
	busy bool
	line []*run
}

// enter takes the lane for r, or puts r in line.
func (l *Lane) enter(r *run) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		l.wait(r)
		return false
	}
	l.busy = true
	return true
}

func (l *Lane) wait(r *run) {
	i, _ := slices.BinarySearchFunc(l.line, r, func(a, b *run) int {
		return cmp.Or(a.info.Due.Compare(b.info.Due), strings.Compare(a.info.Name, b.info.Name), -1)
	})
	l.line = slices.Insert(l.line, i, r)
}

// leave starts the first in line, next among them if it is not nil; true: it is next, and the caller runs it.
func (l *Lane) leave(next *run) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next != nil {
		l.wait(next)
	}
	if len(l.line) == 0 {
		l.busy = false
		return next != nil
	}
	first := l.line[0]
	l.line = slices.Delete(l.line, 0, 1)
	if first != next {
		first.e.set.spawn(first)
	}
	return first == next
}

// drop takes r out of the line; false: it was not there.
func (l *Lane) drop(r *run) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.line, r)
	if i >= 0 {
		l.line = slices.Delete(l.line, i, i+1)
	}
	return i >= 0
}
