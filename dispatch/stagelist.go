package dispatch

import (
	"fmt"
	"slices"
)

// Stages is an ordered list of named stages. It is a value: edits return a new one and leave the old one alone. They
// panic on a name that is not there, or already there, since that is a mistake in the host's wiring.
type Stages struct{ list []namedStage }

type namedStage struct {
	name  string
	stage Stage
}

// Standard is recover, trace, lookup, permit, unpack, bind, authorize, generic, validate, admit: the order of CloudStack's
// ApiServer and its dispatch chain, with creation of anything after the last check.
func Standard() Stages {
	return Stages{list: []namedStage{
		{"recover", Recover()}, {"trace", Trace()}, {"lookup", Lookup()}, {"permit", Permit(nil)}, {"unpack", Unpack()},
		{"bind", Bind()}, {"authorize", Authorize(nil)}, {"generic", Generic()}, {"validate", Validate()}, {"admit", Admit()},
	}}
}

// Names lists the stages in order.
func (s Stages) Names() []string {
	names := make([]string, len(s.list))
	for i, n := range s.list {
		names[i] = n.name
	}
	return names
}

// Before inserts a new stage in front of the one called name.
func (s Stages) Before(name, added string, st Stage) Stages {
	return s.insert(s.at(name), added, st)
}

// After inserts a new stage behind the one called name.
func (s Stages) After(name, added string, st Stage) Stages {
	return s.insert(s.at(name)+1, added, st)
}

// Replace puts st in the place of the stage called name.
func (s Stages) Replace(name string, st Stage) Stages {
	i := s.at(name)
	if st == nil {
		panic("dispatch: nil stage for " + name)
	}
	list := slices.Clone(s.list)
	list[i].stage = st
	return Stages{list}
}

// Remove takes the stage called name out. recover cannot be removed.
func (s Stages) Remove(name string) Stages {
	i := s.at(name)
	if name == "recover" {
		panic("dispatch: stage recover cannot be removed")
	}
	return Stages{slices.Delete(slices.Clone(s.list), i, i+1)}
}

func (s Stages) at(name string) int {
	i := slices.IndexFunc(s.list, func(n namedStage) bool { return n.name == name })
	if i < 0 {
		panic(fmt.Sprintf("dispatch: no stage %q in %v", name, s.Names()))
	}
	return i
}

func (s Stages) insert(i int, name string, st Stage) Stages {
	if name == "" || st == nil {
		panic("dispatch: a stage needs a name and a function")
	}
	if slices.Contains(s.Names(), name) {
		panic(fmt.Sprintf("dispatch: stage %q is there already", name))
	}
	return Stages{slices.Insert(slices.Clone(s.list), i, namedStage{name, st})}
}

// chain composes them around h, without those left out.
func (s Stages) chain(h Handler, without ...string) Handler {
	for _, n := range slices.Backward(s.list) {
		if !slices.Contains(without, n.name) {
			h = n.stage(h)
		}
	}
	return h
}
