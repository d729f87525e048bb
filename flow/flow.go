package flow

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

const (
	defaultGrace = 30 * time.Minute
	maxSteps     = 256
	maxDepth     = 8
)

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Flow is a list of steps over a state S. Build it, then run it as often as wanted, from any goroutine, each Run with a
// state of its own. The first Run, [Register] or use in [Sub] seals it: changing it afterwards panics; change a Clone.
type Flow[S any] struct {
	name   string
	steps  []step[S]
	checks []func(context.Context, *S) error
	finals []func(context.Context, *S, error)
	noUndo bool
	grace  time.Duration
	vers   int
	env    drover.Env
	limit  int
	depth  int // of flows within it

	mu     sync.Mutex
	sealed bool
	meters *meters
}

// Step is what [Flow.Before] and [Flow.After] add.
type Step[S any] struct {
	Name     string
	Do, Undo func(context.Context, *S) error
	Opts     []Option
}

// New makes an empty flow. It panics unless name is [a-z0-9][a-z0-9._-]{0,62}, as do all names of flows and steps.
func New[S any](name string) *Flow[S] {
	if !nameRule.MatchString(name) {
		panic(fmt.Sprintf("flow: name %q: want %s", name, nameRule))
	}
	return &Flow[S]{name: name, grace: defaultGrace, vers: 1, limit: maxSteps}
}

// Then adds a step. undo may be nil: there is nothing to undo. Both must be idempotent, for after a crash the one that was
// under way runs again. It panics on a nil do, a bad name, a second step of that name, and step 257.
func (f *Flow[S]) Then(name string, do, undo func(context.Context, *S) error, opts ...Option) *Flow[S] {
	return f.insert(len(f.steps), f.step(Step[S]{name, do, undo, opts}))
}

// Replace puts other functions and options in the place of the step called name. It panics if there is none.
func (f *Flow[S]) Replace(name string, do, undo func(context.Context, *S) error, opts ...Option) *Flow[S] {
	i := f.find(name)
	s := f.step(Step[S]{name, do, undo, opts})
	f.change()
	f.steps[i] = s
	return f
}

// Before adds s before the step called name. It panics if there is none, and as Then does.
func (f *Flow[S]) Before(name string, s Step[S]) *Flow[S] { return f.insert(f.find(name), f.step(s)) }

// After adds s after the step called name. It panics if there is none, and as Then does.
func (f *Flow[S]) After(name string, s Step[S]) *Flow[S] { return f.insert(f.find(name)+1, f.step(s)) }

// Check adds a question that is asked before every step and after the last one, outside the steps. Its error rolls back
// the steps before.
func (f *Flow[S]) Check(ask func(context.Context, *S) error) *Flow[S] {
	f.change()
	f.checks = append(f.checks, ask)
	return f
}

// Finally adds what runs at the end of every Run with its final error, nil after success. Several run in reverse order of
// adding. Its ctx does not end with Run's but after 30 s. A panic is logged and changes nothing.
func (f *Flow[S]) Finally(end func(context.Context, *S, error)) *Flow[S] {
	f.change()
	f.finals = append(f.finals, end)
	return f
}

// NoUndo turns the rollback off.
func (f *Flow[S]) NoUndo() *Flow[S] {
	f.change()
	f.noUndo = true
	return f
}

// Grace bounds a whole rollback; default 30 min.
func (f *Flow[S]) Grace(d time.Duration) *Flow[S] {
	f.change()
	if d <= 0 {
		panic(fmt.Sprintf("flow: %s: Grace(%v) must be positive", f.name, d))
	}
	f.grace = d
	return f
}

// Version numbers definitions of one name, from 1, the default. Several may be registered: a job that has begun under one goes
// on, and back, under that one, and new ones take the highest on their node. Above 1 a run costs one write more.
func (f *Flow[S]) Version(n int) *Flow[S] {
	f.change()
	if n < 1 {
		panic(fmt.Sprintf("flow: %s: Version(%d) must be at least 1", f.name, n))
	}
	f.vers = n
	return f
}

// Env gives runs in place another clock, logger and so on; in a job a flow has the manager's.
func (f *Flow[S]) Env(e drover.Env) *Flow[S] {
	f.change()
	f.env = e
	return f
}

// Clone is a copy that can be changed.
func (f *Flow[S]) Clone() *Flow[S] {
	return &Flow[S]{
		name: f.name, steps: slices.Clone(f.steps), checks: slices.Clone(f.checks), finals: slices.Clone(f.finals),
		noUndo: f.noUndo, grace: f.grace, vers: f.vers, env: f.env, limit: f.limit, depth: f.depth,
	}
}

// Plan lists the steps; "a/b" is step b of the flow run as step a.
func (f *Flow[S]) Plan() []string {
	var plan []string
	for _, s := range f.steps {
		if s.sub == nil {
			plan = append(plan, s.name)
			continue
		}
		for _, p := range s.sub.plan() {
			plan = append(plan, s.name+"/"+p)
		}
	}
	return plan
}

// step checks what Then, Replace, Before and After have in common.
func (f *Flow[S]) step(s Step[S]) step[S] {
	if s.Do == nil {
		panic(fmt.Sprintf("flow: %s: step %q: nil do", f.name, s.Name))
	}
	return newStep(f.name, s.Name, s.Do, s.Undo, s.Opts)
}

func (f *Flow[S]) insert(i int, s step[S]) *Flow[S] {
	f.change()
	switch {
	case !nameRule.MatchString(s.name):
		panic(fmt.Sprintf("flow: %s: step name %q: want %s", f.name, s.name, nameRule))
	case slices.ContainsFunc(f.steps, func(t step[S]) bool { return t.name == s.name }):
		panic(fmt.Sprintf("flow: %s: step %q twice", f.name, s.name))
	case len(f.steps) >= f.limit:
		panic(fmt.Sprintf("flow: %s: step %q is one more than %d", f.name, s.name, f.limit))
	}
	f.steps = slices.Insert(f.steps, i, s)
	return f
}

func (f *Flow[S]) find(name string) int {
	i := slices.IndexFunc(f.steps, func(s step[S]) bool { return s.name == name })
	if i < 0 {
		panic(fmt.Sprintf("flow: %s: no step %q", f.name, name))
	}
	return i
}

func (f *Flow[S]) change() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sealed {
		panic(fmt.Sprintf("flow: %s is in use: change a Clone", f.name))
	}
}

func (f *Flow[S]) seal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.sealed {
		f.sealed = true
		f.env = f.env.Defaults()
		f.meters = newMeters(&f.env, f.name)
	}
}
