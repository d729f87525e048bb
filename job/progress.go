package job

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/store"
)

const (
	reportEvery = time.Second // per job, at most
	maxStepText = 128
	maxNoteText = 1 << 10
)

// progress is what a handler has reported; guarded by run.mu.
type progress struct {
	last   Progress
	dirty  bool      // not stored yet
	stored time.Time // when a report was last stored, by the local clock
}

type stageKey struct{}

// stageRange maps 0…100 into from…to.
type stageRange struct{ from, to float64 }

// Stage gives a ctx in which a [Report] of 0 to 100 percent means from to to percent outside; stages nest.
func Stage(ctx context.Context, from, to int) context.Context {
	outer, ok := ctx.Value(stageKey{}).(stageRange)
	if !ok {
		outer = stageRange{0, 100}
	}
	return context.WithValue(ctx, stageKey{}, stageRange{outer.of(clamp(from)), outer.of(clamp(to))})
}

func (s stageRange) of(percent int) float64 { return s.from + (s.to-s.from)*float64(percent)/100 }

func clamp(percent int) int { return max(0, min(percent, 100)) }

// Report sets the running job's progress; the last one wins. It is stored at once if the last report stored is a second old,
// else within a poll, and at the end in any case. Percent is clamped, texts are cut. [ErrLost] when the claim is lost;
// after the handler has returned it is ignored.
func Report(ctx context.Context, p Progress) error {
	r, err := handlerOf(ctx)
	if err != nil {
		if errors.Is(err, ErrFinished) {
			return nil
		}
		return err
	}
	p.Percent = clamp(p.Percent)
	if s, ok := ctx.Value(stageKey{}).(stageRange); ok {
		p.Percent = int(s.of(p.Percent))
	}
	p.Step, p.Note = cut(p.Step, maxStepText), cut(p.Note, maxNoteText)
	now := r.m.env.Clock.Now()
	r.mu.Lock()
	at := &r.more().progress
	at.last, at.dirty = p, true
	due := at.stored.IsZero() || now.Sub(at.stored) >= reportEvery
	if due {
		at.stored, at.dirty = now, false
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	if err := r.log(ctx, Entry{Progress: &p}); err != nil {
		r.mu.Lock()
		r.more().progress.dirty = true
		r.mu.Unlock()
		return err
	}
	r.m.waits.changed([]*run{r})
	return nil
}

// Beat tells that the handler is alive; see [Quiet]. It costs no write.
func Beat(ctx context.Context) {
	if r := runOf(ctx); r != nil {
		r.alive()
	}
}

// unstored is the report that the outcome has to carry.
func (r *run) unstored() *Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rare == nil || !r.rare.progress.dirty {
		return nil
	}
	p := r.rare.progress.last
	return &p
}

// storeProgress stores the reports of the last second, of all jobs in one write.
func (m *Manager) storeProgress(ctx context.Context) error {
	var es []Entry
	var rs []*run
	now := m.env.Clock.Now()
	for _, r := range m.running(func(*run) bool { return true }) {
		r.mu.Lock()
		if r.rare != nil && !r.ended && !r.lost {
			if at := &r.rare.progress; at.dirty && now.Sub(at.stored) >= reportEvery {
				p := at.last
				es, rs = append(es, r.entry(Entry{Progress: &p})), append(rs, r)
				at.dirty, at.stored = false, now
			}
		}
		r.mu.Unlock()
	}
	if len(es) == 0 {
		return nil
	}
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := m.logEach(ctx, tx, es); err != nil {
			return err
		}
		for _, e := range es {
			tx.Hint(JobTopic(e.JobID))
		}
		return m.publishRuns(ctx, tx, rs)
	})
	if err == nil {
		m.waits.changed(rs)
		return nil
	}
	for _, r := range rs {
		r.mu.Lock()
		r.more().progress.dirty = true
		r.mu.Unlock()
	}
	return err
}
