package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

const (
	redraw   = 500 * time.Millisecond // and how long a wait may be without any progress shown
	atLeast  = 10 * time.Second       // between lines that are not redrawn
	perSum   = time.Second            // between sums, where lines are not redrawn
	maxLines = 10                     // jobs with a line each
)

// progress shows on stderr what the jobs do that are waited for: redrawn in place on a terminal, else a line per change.
type progress struct {
	a       *app
	env     drover.Env
	start   time.Time
	jobs    []*job.Job // nil: not seen yet
	changed map[int]bool
	said    time.Time
	drawn   int // lines on the terminal
	shown   bool
}

func (p *progress) update(i int, j *job.Job) {
	old := p.jobs[i]
	p.jobs[i] = j
	if old != nil && old.State == j.State && old.Progress == j.Progress && old.Session == j.Session {
		return
	}
	if p.changed == nil {
		p.changed = map[int]bool{}
	}
	p.changed[i] = true
}

func (p *progress) known() (js []*job.Job) {
	for _, j := range p.jobs {
		if j != nil {
			js = append(js, j)
		}
	}
	return js
}

// unfinished are the ids that are still to be waited for.
func (p *progress) unfinished(ids []string) (left []string) {
	for i, j := range p.jobs {
		if j == nil || !j.State.Final() {
			left = append(left, ids[i])
		}
	}
	if len(left) > maxLines {
		return []string{"ID…"}
	}
	return left
}

// draw shows the present state; last is the end of the waiting. A wait that ends within redraw shows nothing.
func (p *progress) draw(last bool) {
	if p.a.quiet || last && !p.shown || len(p.known()) == 0 {
		return
	}
	p.shown = true
	if p.a.errTTY {
		p.inPlace(last)
	} else {
		p.append(last)
	}
}

func (p *progress) inPlace(last bool) {
	var b strings.Builder
	if p.drawn > 1 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn-1)
	}
	lines := p.lines(func(int) bool { return true })
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("\r\x1b[K\x1b[?7l" + l + "\x1b[?7h") // cut at the edge, not wrapped
	}
	p.drawn = len(lines)
	if last {
		b.WriteByte('\n')
	}
	_, _ = io.WriteString(p.a.stderr, b.String())
}

// append writes lines that stay: what has changed, and all of it at least every 10 s.
func (p *progress) append(last bool) {
	now, sum := p.env.Clock.Now(), len(p.jobs) > maxLines
	pause := atLeast
	if sum && len(p.changed) > 0 {
		pause = perSum
		if last {
			pause = 0
		}
	}
	due := now.Sub(p.said) >= pause
	if sum && !due {
		return
	}
	lines := p.lines(func(i int) bool { return due || p.changed[i] })
	for _, l := range lines {
		fmt.Fprintf(p.a.stderr, "%s\n", l)
	}
	if len(lines) > 0 {
		p.said = now
	}
	clear(p.changed)
}

// lines are the jobs that which selects, or one sum if there are many jobs.
func (p *progress) lines(which func(i int) bool) (ls []string) {
	took := p.env.Clock.Now().Sub(p.start)
	if len(p.jobs) > maxLines {
		return []string{sum(p.jobs, took)}
	}
	for i, j := range p.jobs {
		if j != nil && which(i) {
			ls = append(ls, line(j, took))
		}
	}
	return ls
}

// line is one job: cmd.migrate 3f2a1c9e  running on ms2  [########------]  57 %  12s  copying memory.
func line(j *job.Job, took time.Duration) string {
	s := clean(j.Kind) + " " + tail8(j.ID) + "  " + string(j.State)
	if j.State == job.Running && j.Session != "" {
		s += " on " + clean(j.Session)
	}
	if j.Progress != (job.Progress{}) {
		s += fmt.Sprintf("  %s  %d %%", bar(j.Progress.Percent), j.Progress.Percent)
	}
	s += "  " + short(took)
	if n := clean(note(j)); n != "" {
		s += "  " + n
	}
	return s
}

func bar(percent int) string {
	const width = 14
	n := max(0, min(percent, 100)) * width / 100
	return "[" + strings.Repeat("#", n) + strings.Repeat("-", width-n) + "]"
}

// sum counts jobs by state.
func sum(js []*job.Job, took time.Duration) string {
	n := map[job.State]int{}
	for _, j := range js {
		if j != nil {
			n[j.State]++
		}
	}
	var parts []string
	for _, s := range slices.Concat(live, finished) {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return fmt.Sprintf("%d jobs: %s  %s", len(js), strings.Join(parts, ", "), short(took))
}
