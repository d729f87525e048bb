package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

const maxCrashes = 3 // within one step, then it has failed

// resume is where a durable run goes on.
type resume struct {
	next    int      // the step under way, or the next one
	begun   bool     // it was started
	assumed bool     // nothing is stored: the first may have been started
	ended   bool     // nothing is left to run or to ask
	back    halt     // err != nil: a rollback is under way
	unknown []string // steps of an earlier definition
	order   []int    // of a changed one: the steps that were run, in their order
	mark    bool     // store that the next step starts: no boundary tells it
}

// reset makes *state what data says, and nothing else of it.
func reset(state any, data json.RawMessage) error {
	v := reflect.ValueOf(state).Elem()
	v.SetZero()
	return json.Unmarshal(data, state)
}

// load finds out where the run at r.path stands. first: it has never been begun.
func (r *run[S]) load(first bool) {
	own := r.book.under(r.path)
	if past, current := own.past(); r.astray(past) >= 0 {
		r.changed(own, past, current)
		r.recallUndo(own)
		return
	}
	at := &r.resume
	at.assumed = !first
	var last record
	for i := range r.marks {
		name, m := r.f.steps[i].name, &r.marks[i]
		for own.has(name + tryMark + strconv.Itoa(m.tries+1)) {
			m.tries++
		}
		rec, ok := own[name]
		if !ok && m.state == skipped {
			continue
		}
		if !ok {
			break
		}
		last, at.assumed = rec, false
		r.recall(i, rec)
		at.next, at.begun = i+1, rec.Next != ""
		r.skip(rec.Skipped)
		if rec.Next != "" {
			at.next = r.index(rec.Next)
		}
		if rec.Back != nil {
			at.back = halt{err: r.book.job.Decode(rec.Back), step: rec.Step}
		}
	}
	at.assumed = at.assumed && !own.has(beginMark)
	r.position(own, last)
	r.recallUndo(own)
}

func (r *run[S]) skip(names []string) {
	for _, s := range names {
		if j := r.index(s); j >= 0 && r.marks[j].state == pending {
			r.marks[j].state = skipped
		}
	}
}

// recall takes over what became of step i.
func (r *run[S]) recall(i int, rec record) {
	m := &r.marks[i]
	m.state = ended
	switch {
	case rec.Kept:
		r.keep(i, halt{err: Continue(r.book.job.Decode(rec.Err)), step: rec.Step})
	case rec.State == OutcomeFailed:
		m.state = failed
		r.resume.back = halt{err: r.book.job.Decode(rec.Err), step: rec.Step}
	}
	r.recallSub(i, false)
}

// recallSub loads the flow within step i.
func (r *run[S]) recallSub(i int, first bool) {
	s, m := &r.f.steps[i], &r.marks[i]
	if s.sub == nil {
		return
	}
	path := r.path + s.name
	if m.tries > 0 {
		path += "#" + strconv.Itoa(m.tries+1)
	}
	m.sub = s.sub.bind(r, path+"/")
	m.sub.load(first)
}

// position takes over what is known of the step under way.
func (r *run[S]) position(own records, last record) {
	at := &r.resume
	for j := len(r.marks) - 1; j >= at.next; j-- { // started without a boundary before it
		if rec, ok := own[r.f.steps[j].name+startMark]; ok {
			at.next, at.begun, at.assumed = j, true, false
			r.skip(rec.Skipped)
			break
		}
	}
	for at.next < len(r.marks) && r.marks[at.next].state == skipped {
		at.next++
	}
	if at.next == len(r.marks) {
		at.begun, at.ended = false, !last.Open
		return
	}
	m := &r.marks[at.next]
	at.begun = at.begun || m.tries > 0
	switch {
	case at.back.err != nil:
	case at.begun:
		m.state = started
		r.recallSub(at.next, false)
	case at.assumed:
		r.recallSub(at.next, false)
	default:
		at.mark = len(own) > 0
	}
}

// recallUndo takes over how far a rollback has come.
func (r *run[S]) recallUndo(own records) {
	for i := range r.marks {
		rec, ok := own[r.f.steps[i].name+undoMark]
		if !ok {
			continue
		}
		m := &r.marks[i]
		if m.was, m.state = m.state, undone; rec.Err != nil {
			m.state, m.undoErr, m.stop = undoFailed, r.book.job.Decode(rec.Err), rec.Stop
		}
		if r.resume.back.err == nil {
			r.resume.back = halt{err: r.book.job.Decode(rec.Back), step: rec.Step}
		}
	}
}

func (r *run[S]) index(name string) int {
	return slices.IndexFunc(r.f.steps, func(s step[S]) bool { return s.name == name })
}

// begin is where forward starts: at the first step, or where an earlier run of the job was.
func (r *run[S]) begin(ctx context.Context) (int, halt) {
	at := &r.resume
	switch {
	case r.book == nil:
		return r.advance(ctx, 0)
	case at.back.err != nil:
		return 0, at.back
	case at.ended:
		return len(r.marks), halt{}
	}
	if err := r.book.leaving(false); err != nil {
		return at.next, halt{err: err, leave: true}
	}
	if ctx.Err() != nil {
		return at.next, halt{err: context.Cause(ctx)}
	}
	if at.begun {
		return at.next, halt{}
	}
	next, h := r.advance(ctx, at.next)
	var name string
	var rec record
	switch {
	case h.leave && at.assumed, h.leave && at.next == 0 && !at.mark:
		name = beginMark
	case h.err == nil && next < len(r.marks) && (at.mark || next > at.next):
		name, rec = r.f.steps[next].name+startMark, record{Skipped: r.between(at.next, next)}
	default:
		return next, h
	}
	if err := r.book.save(ctx, r.path+name, rec, -1); err != nil {
		return next, halt{err: err, leave: true}
	}
	return next, h
}

// between names the steps from i to before j.
func (r *run[S]) between(i, j int) (names []string) {
	for ; i < j; i++ {
		names = append(names, r.f.steps[i].name)
	}
	return names
}

// boundary stores, in one write, that step prev has ended, what the state is, and what comes next: step next starts, or h.
func (r *run[S]) boundary(ctx context.Context, prev, next int, h halt) halt {
	m := &r.marks[prev]
	rec := record{State: m.state.outcome()}
	state, err := r.book.encode()
	if err != nil { // the step has failed, and what it made of the state with it
		if rerr := r.book.restore(); rerr != nil {
			return halt{err: rerr, leave: true}
		}
		if m.state != failed {
			m.state, rec.State = failed, OutcomeFailed
			h = halt{err: err, step: r.f.steps[prev].name}
			for i := prev + 1; i < len(r.marks); i++ {
				r.marks[i].state = pending
			}
		}
	}
	rec.S = state
	switch {
	case m.state == failed:
		rec.Err, rec.Step = r.book.job.Encode(h.err), h.step
	case h.leave:
		rec.Open = true
	case h.err != nil:
		rec.Back, rec.Step = r.book.job.Encode(h.err), h.step
	}
	if n := len(r.kept); m.state == ended && n > 0 && r.keptAt == prev {
		rec.Kept, rec.Err, rec.Step = true, r.book.job.Encode(r.kept[n-1]), r.where
	}
	rec.Skipped = r.between(prev+1, next)
	if h.err == nil && next < len(r.marks) {
		rec.Next = r.f.steps[next].name
	}
	if err := r.book.save(ctx, r.path+r.f.steps[prev].name, rec, (prev+1)*100/len(r.marks)); err != nil {
		return halt{err: err, leave: true}
	}
	return h
}

// undoBoundary stores that the undo of step i has ended.
func (r *run[S]) undoBoundary(ctx context.Context, i int, cause error) error {
	m := &r.marks[i]
	rec := record{Back: r.book.job.Encode(cause)}
	if m.state == undoFailed {
		rec.Err, rec.Stop = r.book.job.Encode(m.undoErr), m.stop
	}
	rec.S, _ = r.book.encode() // what cannot be stored is left as it was stored last
	return r.book.save(ctx, r.path+r.f.steps[i].name+undoMark, rec, -1)
}

// tried stores that a try of step i has failed.
func (r *run[S]) tried(ctx context.Context, i, try int, err error) error {
	if r.book == nil {
		return nil
	}
	return r.book.save(ctx, r.path+r.f.steps[i].name+tryMark+strconv.Itoa(try), record{Err: r.book.job.Encode(err)}, -1)
}

// poisoned is the failure of a step in which three nodes have died.
func (r *run[S]) poisoned(i int) error {
	if !r.resumes(i) || r.f.steps[i].sub != nil {
		return nil
	}
	if n := r.book.job.Lost() - r.book.lost; n >= maxCrashes {
		return fmt.Errorf("flow: step %s: %d nodes died in it", r.f.steps[i].name, n)
	}
	return nil
}

// resumes says whether step i is the one that an earlier run was in.
func (r *run[S]) resumes(i int) bool {
	return r.book != nil && (r.resume.begun || r.resume.assumed) && r.resume.next == i
}

// place gives a step's ctx its place among stored names and in the progress.
func (r *run[S]) place(sc *stepCtx, i, try int) {
	if r.book == nil {
		return
	}
	sc.path = r.path + sc.step
	if try > 1 && sc.phase == PhaseDo {
		sc.path += "#" + strconv.Itoa(try)
	}
	if sc.phase == PhaseDo {
		sc.Context = r.book.job.Stage(sc.Context, i*100/len(r.marks), (i+1)*100/len(r.marks))
	}
}
