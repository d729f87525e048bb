package flow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// past lists the steps of a stored run, in order, up to the one under way, which is current ("" for none).
func (rs records) past() (past []string, current string) {
	var names []string
	for name := range rs {
		if step, mark, _ := strings.Cut(name, ":"); step != "" && (mark == "" || ":"+mark == startMark) {
			names = append(names, name)
		} else if ":"+mark == tryMark+"1" {
			current = step // nothing else may say that the first one was started
		}
	}
	slices.SortFunc(names, func(a, b string) int { return rs[a].N - rs[b].N })
	for _, name := range names {
		rec := rs[name]
		if step, ok := strings.CutSuffix(name, startMark); ok {
			past, current = append(past, rec.Skipped...), step
			continue
		}
		past = append(append(past, name), rec.Skipped...)
		current = rec.Next
	}
	if current != "" {
		past = append(past, current)
	}
	return past, current
}

// astray is the first step of past that is not where it was, −1 for none.
func (r *run[S]) astray(past []string) int {
	for i, name := range past {
		if i >= len(r.f.steps) || r.f.steps[i].name != name {
			return i
		}
	}
	return -1
}

// changed takes over a run of an earlier definition that this one does not continue: it goes back.
func (r *run[S]) changed(own records, past []string, current string) {
	at := &r.resume
	at.order = []int{}
	for _, name := range past {
		rec, ran := own[name]
		i := r.index(name)
		if i < 0 {
			if ran || name == current {
				at.unknown = append(at.unknown, name)
			}
			continue
		}
		at.order = append(at.order, i)
		m := &r.marks[i]
		for own.has(name + tryMark + strconv.Itoa(m.tries+1)) {
			m.tries++
		}
		switch {
		case ran:
			r.recall(i, rec)
		case name == current:
			m.state = started
			r.recallSub(i, false)
		default:
			m.state = skipped
		}
		if rec.Back != nil {
			at.back = halt{err: r.book.job.Decode(rec.Back), step: rec.Step}
		}
	}
	if at.back.err == nil {
		at.back = halt{err: fmt.Errorf("%w: step %s is not where it was", ErrChanged, past[r.astray(past)])}
	}
}
