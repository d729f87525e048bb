package main

import (
	"slices"

	"github.com/anishathalye/porcupine"
)

// turn is something about the turns of a key.
type turn struct {
	What string
	Jobs []string // one, or those submitted together
}

// lineOf is what an honest server knows of a key. Its slices are never changed.
type lineOf struct{ waiting, holders []string }

// turns is the model of a key with so many turns. A job keeps its turn from its first claim to its end. With one turn the first in
// line gets it; with more, turns are granted in that order, which is not seen, and claimed in any.
func turns(limit int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return lineOf{} },
		Step: func(state, input, _ any) (bool, any) {
			s, o := state.(lineOf), input.(turn)
			if o.What == "submit" {
				return true, lineOf{slices.Concat(s.waiting, o.Jobs), s.holders}
			}
			id := o.Jobs[0]
			at := slices.Index(s.waiting, id)
			holds := slices.Contains(s.holders, id)
			switch {
			case o.What == "claim" && holds:
				return true, s
			case o.What == "claim":
				ok := at == 0 || at > 0 && limit > 1
				return ok && len(s.holders) < limit, lineOf{without(s.waiting, id), slices.Sorted(slices.Values(append(slices.Clip(s.holders), id)))}
			case o.What == "done":
				return at >= 0 || holds, lineOf{without(s.waiting, id), without(s.holders, id)}
			}
			return false, s
		},
		Equal: func(a, b any) bool {
			x, y := a.(lineOf), b.(lineOf)
			return slices.Equal(x.waiting, y.waiting) && slices.Equal(x.holders, y.holders)
		},
	}
}

func without(all []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == id })
}
