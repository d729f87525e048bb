package syncqueue

import (
	"slices"
	"time"
)

// maxTasks is how many tasks Local.Tasks lists.
const maxTasks = 1000

// Stat is a key in use.
type Stat struct {
	Key              Key
	Level            int // turns at once; ≤ 0 is unlimited
	Running, Pending int
	Oldest           time.Duration // the longest present wait
}

// Task is a task inside a Local.
type Task struct {
	Name     string    // by the option Name
	Since    time.Time // of its turn, or of the call while it waits
	Running  bool
	Position int // in the line, from 1; 0 when running
}

// Stats lists the keys in use, sorted. Each part of the keys is a snapshot; together they are not one.
func (l *Local) Stats() (stats []Stat) {
	l.setup()
	now := l.env.Clock.Now()
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for k, e := range sh.entries {
			s := Stat{Key: k, Level: int(e.level), Running: e.running.n, Pending: e.pending.n}
			if t := e.pending.head; t != nil {
				s.Oldest = now.Sub(t.since)
			}
			stats = append(stats, s)
		}
		sh.mu.Unlock()
	}
	slices.SortFunc(stats, func(a, b Stat) int { return a.Key.Compare(b.Key) })
	return stats
}

// Tasks lists the tasks of k, those that run first, then the line in order; at most 1000.
func (l *Local) Tasks(k Key) (tasks []Task) {
	l.setup()
	sh := l.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entries[k]
	if e == nil {
		return nil
	}
	for t := e.running.head; t != nil && len(tasks) < maxTasks; t = t.next {
		tasks = append(tasks, Task{Name: t.name(), Since: t.since, Running: true})
	}
	for t, pos := e.pending.head, 1; t != nil && len(tasks) < maxTasks; t, pos = t.next, pos+1 {
		tasks = append(tasks, Task{Name: t.name(), Since: t.since, Position: pos})
	}
	return tasks
}

// Running reports whether a task of k runs.
func (l *Local) Running(k Key) bool {
	l.setup()
	sh := l.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entries[k]
	return e != nil && e.running.n > 0
}
