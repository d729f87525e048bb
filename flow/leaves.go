package flow

import (
	"fmt"
	"slices"
	"strings"
)

// LeavesFirst lists what is reachable from roots with children before their parents, each node once even over several
// paths, and siblings in the order given: the order of a cascading delete. children may answer nil. A node that is among
// its own descendants gives [ErrCycle] with the path; an error of children ends the walk.
func LeavesFirst[T comparable](roots []T, children func(T) ([]T, error)) ([]T, error) {
	w := walk[T]{children: children, seen: map[T]bool{}}
	for _, r := range roots {
		if err := w.visit(r); err != nil {
			return nil, err
		}
	}
	return w.list, nil
}

type walk[T comparable] struct {
	children func(T) ([]T, error)
	seen     map[T]bool // false: on path
	path     []T
	list     []T
}

func (w *walk[T]) visit(n T) error {
	if done, ok := w.seen[n]; ok {
		if done {
			return nil
		}
		return w.cycle(n)
	}
	w.seen[n] = false
	w.path = append(w.path, n)
	if w.children != nil {
		below, err := w.children(n)
		if err != nil {
			return fmt.Errorf("flow: children of %v: %w", n, err)
		}
		for _, c := range below {
			if err := w.visit(c); err != nil {
				return err
			}
		}
	}
	w.path = w.path[:len(w.path)-1]
	w.seen[n] = true
	w.list = append(w.list, n)
	return nil
}

func (w *walk[T]) cycle(n T) error {
	var b strings.Builder
	for _, p := range w.path[slices.Index(w.path, n):] {
		fmt.Fprintf(&b, "%v → ", p)
	}
	return fmt.Errorf("%w: %s%v", ErrCycle, b.String(), n)
}
