package flow

import (
	"context"
	"fmt"
)

// Sub adds another flow as one step of f, on the part of the state that pick answers; its undo is g's rollback. A failure
// of g rolls g back first. It panics as Then does, on a nil g or pick, and beyond 8 flows within each other. g is sealed.
func Sub[S, T any](f *Flow[S], name string, g *Flow[T], pick func(*S) *T, opts ...Option) *Flow[S] {
	if g == nil || pick == nil {
		panic(fmt.Sprintf("flow: %s: step %q: nil flow or pick", f.name, name))
	}
	if g.depth+1 > maxDepth {
		panic(fmt.Sprintf("flow: %s: step %q: more than %d flows within each other", f.name, name, maxDepth))
	}
	s := newStep[S](f.name, name, nil, nil, opts)
	s.sub = subOf[S, T]{g, pick}
	f.insert(len(f.steps), s)
	g.seal()
	f.depth = max(f.depth, g.depth+1)
	return f
}

// subflow is a flow on a part of an S.
type subflow[S any] interface {
	plan() []string
	bind(up *run[S], path string) runner
}

// runner is a run of any state.
type runner interface {
	exec(ctx context.Context) result
	undoAll(ctx context.Context, cause error, stop bool) back
	load(first bool)
	payUndo(ctx context.Context, path, outcome string, try int, cause error) error
}

type subOf[S, T any] struct {
	g    *Flow[T]
	pick func(*S) *T
}

func (o subOf[S, T]) plan() []string { return o.g.Plan() }

func (o subOf[S, T]) bind(up *run[S], path string) runner {
	at := func() *T { return o.pick(up.s) }
	m := o.g.meters
	if up.book != nil {
		m = newMeters(up.env, o.g.name)
	}
	return &run[T]{f: o.g, s: at(), at: at, env: up.env, meters: m, marks: make([]mark, len(o.g.steps)), book: up.book, path: path}
}

// attemptSub runs the flow of step i.
func (r *run[S]) attemptSub(sc *stepCtx, i int) halt {
	s, m := &r.f.steps[i], &r.marks[i]
	if m.sub == nil || !r.resumes(i) {
		if err := safely(func() error { m.sub = s.sub.bind(r, sc.path+"/"); return nil }); err != nil {
			return halt{err: err, step: s.name}
		}
	}
	r.resume.begun, r.resume.assumed = false, false // a second try is a fresh run
	var ctx context.Context = sc
	if s.opts.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.opts.timeout, ErrStepTimeout)
		defer cancel()
	}
	res := m.sub.exec(ctx)
	switch {
	case res.leave != nil:
		return halt{err: res.leave, leave: true}
	case res.err == nil:
		return halt{}
	}
	h := halt{err: res.err.Err, step: s.name, final: len(res.err.Undo)+len(res.err.Skipped) > 0}
	if r.f.noUndo { // else the rollback finds them again
		h.undo, h.skipped = within(s.name, res.err.Undo), prefixed(s.name, res.err.Skipped)
	}
	if res.err.Step != "" {
		h.step += "/" + res.err.Step
	}
	if res.kept {
		h.err = Continue(h.err)
	}
	return h
}

// undoSub undoes what the flow of step i has begun.
func (r *run[S]) undoSub(ctx context.Context, i int, cause error, b *back) {
	name := r.f.steps[i].name
	if r.marks[i].sub == nil { // not begun
		return
	}
	in := r.marks[i].sub.undoAll(ctx, cause, b.stop)
	b.undo = append(b.undo, within(name, in.undo)...)
	b.skipped = append(b.skipped, prefixed(name, in.skipped)...)
	b.stop, b.leave = in.stop, in.leave
}

func within(step string, errs []error) []error {
	var out []error
	for _, err := range errs {
		if u, ok := err.(*UndoError); ok { //nolint:errorlint // made here, never wrapped
			err = &UndoError{step + "/" + u.Step, u.Err, u.owed}
		}
		out = append(out, err)
	}
	return out
}

func prefixed(step string, names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, step+"/"+n)
	}
	return out
}
