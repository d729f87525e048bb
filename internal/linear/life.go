package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// lived is what an honest server knows of one.
type lived struct {
	there, final bool
	epoch        int64
}

// life is the model of one job.
var life = porcupine.Model{
	Init: func() any { return lived{} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(lived), input.(op)
		mine := s.there && !s.final && s.epoch == o.Epoch
		switch o.What {
		case "submit":
			return !s.there, lived{there: true}
		case "claim":
			return s.there && !s.final && o.Epoch > s.epoch, lived{there: true, epoch: o.Epoch}
		case "write":
			return mine, s
		case "done": // by its run, or by a sweeper that raised the epoch, so that the run is fenced
			return mine || s.there && !s.final && o.Epoch > s.epoch, lived{there: true, final: true, epoch: s.epoch}
		case "read":
			return s.final && (o.Epoch == 0 || o.Epoch == s.epoch), s
		}
		return false, s
	},
	DescribeOperation: func(input, _ any) string { o := input.(op); return fmt.Sprint(o.What, "@", o.Epoch) },
}
