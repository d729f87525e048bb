package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// seen is what somebody learnt of a job: by reading it, by a change that was taken or refused as too late, or by running it.
type seen struct {
	What  string // read, changed, finished, ran
	Rev   int64
	Epoch int64
	State string
	Final bool
}

// observed is the model of a job that nodes change by themselves: it moves on at any time, but never back, never out of its end,
// and one revision is one state.
var observed = porcupine.Model{
	Init: func() any { return seen{} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(seen), input.(seen)
		switch o.What {
		case "read":
			ok := o.Rev > s.Rev || o.Rev == s.Rev && (s.State == "" || o == s)
			return ok && o.Epoch >= s.Epoch && (!s.Final || o.Final && (s.State == "" || o.State == s.State)), o
		case "changed":
			return !s.Final, s
		case "finished":
			if !s.Final {
				s = seen{What: "read", Rev: s.Rev + 1, Epoch: s.Epoch, Final: true}
			}
			return true, s
		case "ran":
			if o.Epoch > s.Epoch { // it had been claimed since
				return !s.Final, seen{What: "read", Rev: s.Rev + 1, Epoch: o.Epoch}
			}
			return true, s
		}
		return false, s
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}
