package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

const (
	maxBars = 500
	minGap  = time.Second
)

// past is what a timeline is made of.
type past struct {
	j        *job.Job
	entries  []job.Entry
	steps    []flow.StepRecord
	children []*job.Job
	holder   *syncqueue.Item // of its key, while it waits
	now      time.Time
}

// pastOf reads all of it.
func (c *Console) pastOf(ctx context.Context, j *job.Job) (p past, err error) {
	p = past{j: j, now: c.now()}
	for e, err := range c.journalOf(ctx, j.ID) {
		if err != nil {
			return p, err
		}
		p.entries = append(p.entries, e)
	}
	if p.children, _, err = c.childrenOf(ctx, j.ID, who(ctx)); err != nil {
		return p, err
	}
	if m, is := c.cfg.Jobs.(*job.Manager); is {
		if p.steps, err = stepsOf(ctx, m, j.ID); err != nil {
			return p, err
		}
		if c.cfg.Tell != nil && who(ctx).Account != "" {
			for i := range p.steps {
				if s := &p.steps[i]; s.Cause != "" {
					s.Cause = c.cfg.Tell(job.Error{Text: s.Cause}).Text
				}
			}
		}
	}
	if j.State == job.Waiting && c.cfg.Queues != nil {
		items, err := c.cfg.Queues.List(ctx, j.Sync)
		if err != nil {
			return p, err
		}
		if len(items) > 0 && !items[0].Since.IsZero() {
			p.holder = &items[0]
		}
	}
	return p, nil
}

// stepsOf are the steps of flows, and the plain ones, which tell only when they ended.
func stepsOf(ctx context.Context, m *job.Manager, id string) (rs []flow.StepRecord, err error) {
	for s, err := range flow.Journal(ctx, m, id) {
		if err != nil {
			return nil, err
		}
		if s.State != flow.StateSkipped {
			rs = append(rs, s)
		}
	}
	if len(rs) > 0 {
		return rs, nil
	}
	stored, err := steps.Of(m).Stored(ctx, id)
	for _, s := range stored {
		rs = append(rs, flow.StepRecord{Path: s.Name, State: flow.StateDone, Ended: s.At})
	}
	return rs, err
}

// timeline is the spans of a job in order of their start.
func timeline(p past) []span {
	j := p.j
	var out []span
	out = append(out, p.before()...)
	runs := p.runs()
	out = append(out, runs...)
	out = append(out, p.stepSpans(runs)...)
	if len(p.children) > 20 {
		out = append(out, p.manyChildren())
	} else {
		for _, k := range p.children {
			out = append(out, span{What: "child", Text: k.Kind, From: stamp(k.Created), To: stamp(k.Ended), Outcome: string(k.State), Job: k.ID, Depth: 1})
		}
	}
	if !j.CancelAt.IsZero() {
		s := span{What: "cancel", Text: "cancel requested", From: stamp(j.CancelAt), To: stamp(j.Ended), Detail: strings.TrimSpace(j.CancelReason), Depth: 1}
		if s.Detail == "" && j.CancelBy != "" {
			s.Detail = "by " + j.CancelBy
		}
		out = append(out, s)
	}
	out = append(out, p.gaps(out)...)
	slices.SortStableFunc(out, func(a, b span) int { return time.Time(a.From).Compare(time.Time(b.From)) })
	return fold(out)
}

// gaps are the times over a second of which nothing is known.
func (p *past) gaps(spans []span) (out []span) {
	var known []span
	for _, s := range spans {
		if slices.Contains([]string{"scheduled", "waiting", "ready", "run", "delay", "park"}, s.What) {
			known = append(known, s)
		}
	}
	slices.SortStableFunc(known, func(a, b span) int { return time.Time(a.From).Compare(time.Time(b.From)) })
	at, end := p.j.Created, cmp.Or(p.j.Ended, p.now)
	gap := func(to time.Time) {
		if to.Sub(at) > minGap {
			out = append(out, span{What: "gap", Text: "not recorded", From: stamp(at), To: stamp(to), Depth: 1})
		}
	}
	for i := range known {
		gap(time.Time(known[i].From))
		if to := known[i].Until(end); to.After(at) {
			at = to
		}
	}
	gap(end)
	return out
}

// before is what happened until the first run.
func (p *past) before() (out []span) {
	j, from := p.j, p.j.Created
	until := p.firstStart()
	if j.RunAt.After(j.Created) && p.failures() == 0 && j.Runs <= 1 && (j.Attempt == 0 || j.State == job.Scheduled) {
		to := j.RunAt
		if j.State == job.Scheduled {
			to = time.Time{}
		}
		out = append(out, span{What: "scheduled", Text: "scheduled", From: stamp(from), To: stamp(to), Detail: "due " + stamp(j.RunAt).String()})
		from = j.RunAt
	}
	if j.State == job.Scheduled {
		return out
	}
	s := span{What: "ready", Text: "ready", From: stamp(from), To: stamp(until)}
	if j.Sync.Kind != "" {
		s.What, s.Text, s.Detail = "waiting", "waiting for "+j.Sync.String(), ""
	}
	if p.holder != nil {
		s.Detail, s.Job = "held by "+short(p.holder.Content)+" on "+p.holder.Holder, p.holder.Content
	}
	if until.IsZero() && j.State.Final() {
		s.To = stamp(j.Ended)
	}
	if j.State == job.Ready && j.Runs == 0 && j.Sync.Kind != "" {
		s.What, s.Text = "ready", "ready"
	}
	return append(out, s)
}

// failures are the runs that the journal tells of.
func (p *past) failures() (n int) {
	for _, e := range p.entries {
		if e.Failure && e.Epoch < p.j.Epoch {
			n++
		}
	}
	return n
}

// firstStart is when the first run began, as far as that is known.
func (p *past) firstStart() time.Time {
	if p.j.Runs == 0 {
		return time.Time{}
	}
	first := p.j.Started
	for _, e := range p.entries {
		if e.At.Before(first) {
			first = e.At
		}
	}
	for _, s := range p.steps {
		for _, t := range []time.Time{s.Started, s.Ended} {
			if !t.IsZero() && t.Before(first) {
				first = t
			}
		}
	}
	return first
}

// runs: earlier ones as the journal's epochs tell, the last one by the row.
func (p *past) runs() (out []span) {
	j := p.j
	if j.Runs == 0 {
		return nil
	}
	epochs, at := []int64{}, map[int64][]job.Entry{}
	for _, e := range p.entries {
		if len(at[e.Epoch]) == 0 {
			epochs = append(epochs, e.Epoch)
		}
		at[e.Epoch] = append(at[e.Epoch], e)
	}
	slices.Sort(epochs)
	n, prev := 1, time.Time{}
	for _, epoch := range epochs {
		es := at[epoch]
		last := es[len(es)-1]
		if epoch == j.Epoch || !es[0].At.Before(j.Started) {
			continue // the last run
		}
		from := es[0].At
		if !prev.IsZero() && from.Sub(prev) > minGap {
			out = append(out, span{What: "delay", Text: "before the next run", From: stamp(prev), To: stamp(from), Depth: 1})
		}
		s := span{What: "run", Text: fmt.Sprintf("run %d on %s", n, last.Node), From: stamp(from), To: stamp(last.At), Outcome: "ended", Detail: fmt.Sprintf("epoch %d", epoch)}
		if last.Failure {
			s.Outcome, s.Detail = "failed", firstLine(last.Text)
		}
		out, prev, n = append(out, s), last.At, n+1
	}
	if !prev.IsZero() && j.Started.Sub(prev) > 0 {
		out = append(out, span{What: "delay", Text: "retry delay", From: stamp(prev), To: stamp(j.Started), Depth: 1})
	}
	return append(out, p.lastRun(max(n, j.Runs))...)
}

func (p *past) lastRun(n int) (out []span) {
	j := p.j
	s := span{What: "run", Text: fmt.Sprintf("run %d on %s", n, j.Session), From: stamp(j.Started), Detail: fmt.Sprintf("epoch %d", j.Epoch)}
	switch j.State {
	case job.Running:
		return append(out, s)
	case job.Succeeded, job.Failed, job.Cancelled:
		s.To, s.Outcome = stamp(j.Ended), string(j.State)
		if at, is := p.parked(); is { // it ended while it was parked
			s.To, s.Outcome = stamp(at), "ended"
			return append(out, s, span{What: "park", Text: "parked", From: stamp(at), To: stamp(j.Ended), Outcome: string(j.State)})
		}
		if j.Error != nil && j.State == job.Failed {
			s.Detail = firstLine(j.Error.Text)
		}
		return append(out, s)
	}
	at := j.Updated
	if parked, is := p.parked(); is && j.State == job.Parked {
		at = parked
	}
	s.To, s.Outcome = stamp(at), "ended"
	next := span{What: "ready", Text: "ready again", From: stamp(at)}
	switch j.State {
	case job.Parked:
		next.What, next.Text = "park", "parked"
	case job.Scheduled:
		next.What, next.Text, next.Detail = "delay", "retry delay", "due "+stamp(j.RunAt).String()
	case job.Waiting:
		next.What, next.Text = "waiting", "waiting for "+j.Sync.String()
	}
	if j.Attempt > 0 && j.Error != nil {
		s.Outcome, s.Detail = "failed", firstLine(j.Error.Text)
	}
	return append(out, s, next)
}

// parked is when the last run parked, if the last thing that its journal tells of it is that.
func (p *past) parked() (at time.Time, is bool) {
	for _, e := range p.entries {
		if e.Epoch != p.j.Epoch {
			continue
		}
		switch word, _, _ := strings.Cut(e.Text, " "); strings.TrimRight(word, ":,") {
		case "parked":
			at, is = e.At, true
		case "woken", "claimed":
			is = false
		}
	}
	return at, is
}

// stepSpans: a step that does not tell when it began did so when the one before ended.
func (p *past) stepSpans(runs []span) (out []span) {
	if len(runs) == 0 {
		return nil
	}
	prev := time.Time(runs[0].From)
	for _, s := range p.steps {
		from := s.Started
		if from.IsZero() {
			for _, r := range runs { // in the run that it ended in, not before
				if at := time.Time(r.From); r.What == "run" && at.After(prev) && !at.After(s.Ended) {
					prev = at
				}
			}
			from = prev
		}
		to := s.Ended
		if s.State == flow.StateStarted && !p.j.State.Final() {
			to = time.Time{}
		} else if to.IsZero() {
			to = cmp.Or(p.j.Ended, p.now)
		}
		if !to.IsZero() && from.After(to) {
			from = to
		}
		name := s.Path[strings.LastIndex(s.Path, "/")+1:]
		out = append(out, span{What: "step", Text: name, From: stamp(from), To: stamp(to), Outcome: s.State, Detail: firstLine(s.Cause), Depth: 1})
		if !to.IsZero() {
			prev = to
		}
	}
	return out
}

func (p *past) manyChildren() span {
	s := span{What: "child", Text: fmt.Sprintf("%d children", len(p.children)), From: stamp(p.children[0].Created), Depth: 1}
	open := false
	for _, k := range p.children {
		open = open || k.Ended.IsZero()
		if k.Ended.After(time.Time(s.To)) {
			s.To = stamp(k.Ended)
		}
	}
	if open {
		s.To = stamp{}
	}
	return s
}

// fold makes one bar of the middle ones beyond maxBars.
func fold(out []span) []span {
	if len(out) <= maxBars {
		return out
	}
	head := maxBars / 5
	n := len(out) - (maxBars - 1)
	mid := out[head : head+n]
	more := span{What: "more", Text: fmt.Sprintf("%d more", n), From: mid[0].From, To: mid[len(mid)-1].To}
	return append(append(append([]span{}, out[:head]...), more), out[head+n:]...)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (c *Console) getTimeline(r *http.Request) (*answer, error) {
	j, err := c.get(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	p, err := c.pastOf(r.Context(), j)
	if err != nil {
		return nil, err
	}
	return ok(list[span]{Items: timeline(p)})
}
