package flow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/job"
)

const (
	maxState  = 256 << 10
	saveTries = 10
	saveAgain = 5 * time.Second // after that many
)

// Suffixes of stored names beside the step's own; no name of a step has a colon.
const (
	undoMark  = ":undo"  // its undo has ended
	startMark = ":start" // it was started, and no boundary says so
	tryMark   = ":try"   // then a number: so many tries have failed
	beginMark = ":begin" // the flow was left before its first step
	versMark  = ":version"
)

// record is a boundary as it is stored: one per step and direction.
type record struct {
	N       int             `json:"n"` // order over the whole run
	State   string          `json:"state,omitempty"`
	Next    string          `json:"next,omitempty"`    // started with this very write
	Skipped []string        `json:"skipped,omitempty"` // steps after this one
	Err     json.RawMessage `json:"err,omitempty"`     // of the step, or of its undo
	Kept    bool            `json:"kept,omitempty"`    // Err was Continue
	Stop    bool            `json:"stop,omitempty"`    // Err was StopUndo
	Back    json.RawMessage `json:"back,omitempty"`    // the flow is rolled back because of this
	Step    string          `json:"step,omitempty"`    // that failed, if not this one
	Open    bool            `json:"open,omitempty"`    // left here: what comes next is still to be asked
	Lost    int             `json:"lost,omitempty"`    // nodes that had died under the job
	Job     string          `json:"job,omitempty"`     // of a debt's try: whose it was
	Version int             `json:"version,omitempty"` // of the flow, above 1
	S       json.RawMessage `json:"s,omitempty"`       // the state; absent: unchanged
}

// book keeps a durable run: the flow and all flows within it share one.
type book struct {
	job    steps.Run
	base   context.Context // the handler's: its cause tells why it ended
	env    drover.Env
	state  any             // the outermost flow's state
	last   json.RawMessage // as stored last
	n      int             // of the last record
	lost   int             // nodes that died under the job when that was written
	stored records         // of earlier runs of the job
}

// durable runs r in a job.
func (r *run[S]) durable(ctx context.Context, j steps.Run) error {
	path := r.f.name
	if up, _ := ctx.Value(currentKey{}).(*stepCtx); up != nil && up.path != "" {
		path = up.path + "/" + path
	}
	if !j.Use(path) {
		return drover.Permanent(fmt.Errorf("flow: %s runs twice in one run of its job: name a Clone differently", path))
	}
	if err := r.open(ctx, j, path+"/"); err != nil {
		return err
	}
	b := r.book
	if v := r.f.vers; v > 1 && !b.stored.has(r.path+versMark) {
		if err := b.save(ctx, r.path+versMark, record{Version: v}, -1); err != nil {
			return err
		}
	}
	r.load(j.First())
	work, cancel := b.work(ctx)
	defer cancel()
	res := r.exec(work)
	return cmp.Or(res.leave, res.fault())
}

// open gives r a book of what is stored at path.
func (r *run[S]) open(ctx context.Context, j steps.Run, path string) error {
	b := &book{job: j, base: j.Base(), env: j.Env(), state: r.s}
	r.book, r.env, r.path, r.meters = b, &b.env, path, newMeters(&b.env, r.f.name)
	return b.open(ctx, path)
}

// open reads what earlier runs stored and puts the state back.
func (b *book) open(ctx context.Context, prefix string) error {
	first, err := json.Marshal(b.state)
	if err != nil || len(first) > maxState {
		return drover.Permanent(fmt.Errorf("%w: %d bytes: %w", ErrState, len(first), errOr(err, job.ErrTooLarge)))
	}
	b.last = first
	ctx, release := b.job.Unwind(ctx) // it may have ended, for a rollback
	defer release()
	raw, err := b.job.Load(ctx, prefix)
	if err != nil {
		return unsaved(prefix, err)
	}
	b.stored = make(records, len(raw))
	newest, state := -1, -1
	var saved json.RawMessage
	for name, data := range raw {
		var rec record
		if err := json.Unmarshal(data, &rec); err != nil {
			return drover.Permanent(fmt.Errorf("%w: stored step %q: %w", ErrState, name, err))
		}
		b.stored[name] = rec
		if rec.N > newest {
			newest, b.lost = rec.N, rec.Lost
		}
		if rec.S != nil && rec.N > state {
			state, saved = rec.N, rec.S
		}
	}
	b.n = max(newest, 0)
	if saved != nil {
		b.last = saved
		return b.restore()
	}
	return nil
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// restore makes the state what was stored last.
func (b *book) restore() error {
	if err := reset(b.state, b.last); err != nil {
		return drover.Permanent(fmt.Errorf("%w: %w", ErrState, err))
	}
	return nil
}

// work is the ctx of steps: it ends with the run's, except that a stopping node lets the step under way end.
func (b *book) work(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, release := b.job.Unwind(ctx)
	ctx, cancel := context.WithCancelCause(ctx) // the job's deadline ends base: it is by Env.Clock, which contexts do not know
	pass := func() {
		if cause := context.Cause(b.base); !errors.Is(cause, job.ErrStopping) {
			cancel(cause)
		}
	}
	stop := context.AfterFunc(b.base, pass)
	if b.base.Err() != nil {
		pass()
	}
	return ctx, func() {
		stop()
		cancel(context.Canceled)
		release()
	}
}

// leaving says why the run must be let go of: the claim is lost, or the node stops, which does not matter at the end.
func (b *book) leaving(end bool) error {
	if b.base.Err() == nil {
		return nil
	}
	cause := context.Cause(b.base)
	if errors.Is(cause, job.ErrLost) || errors.Is(cause, job.ErrStopping) && !end {
		return cause
	}
	return nil
}

// bookLeaving is leaving in the middle of a flow, nil in place.
func (r *run[S]) bookLeaving() error {
	if r.book == nil {
		return nil
	}
	return r.book.leaving(false)
}

// sleep waits, unless ctx or the run ends; false then.
func (b *book) sleep(ctx context.Context, d time.Duration) bool {
	var base <-chan struct{}
	if b.base.Err() == nil {
		base = b.base.Done()
	}
	select {
	case <-ctx.Done():
	case <-base:
	case <-b.env.Clock.After(d):
	}
	return ctx.Err() == nil && (base == nil || b.base.Err() == nil)
}

// encode is the state if it has changed since it was stored last.
func (b *book) encode() (json.RawMessage, error) {
	data, err := json.Marshal(b.state)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	case len(data) > maxState:
		return nil, fmt.Errorf("%w: %d bytes, most are %d", ErrState, len(data), maxState)
	case string(data) == string(b.last):
		return nil, nil
	}
	return data, nil
}

// save writes one record; an error of the store is tried again, for the run must not go on without it.
func (b *book) save(ctx context.Context, name string, rec record, percent int) error {
	ctx, release := b.job.Unwind(ctx)
	defer release()
	b.n++
	rec.N, rec.Lost = b.n, b.job.Lost()
	data, err := json.Marshal(rec)
	if err != nil {
		return drover.Permanent(fmt.Errorf("%w: %w", ErrState, err))
	}
	if err := b.retry(ctx, name, func() error { return b.job.Save(ctx, name, data, percent) }); err != nil {
		return err
	}
	if rec.S != nil {
		b.last = rec.S
	}
	b.lost = rec.Lost
	return nil
}

// retry calls write until it works, or the run has to be left.
func (b *book) retry(ctx context.Context, name string, write func() error) error {
	policy := exponential(&b.env, 100*time.Millisecond, 5*time.Second, 0.2)
	for try := 1; ; try++ {
		err := write()
		if err == nil {
			return nil
		}
		d := policy.NextBackOff()
		if errors.Is(err, job.ErrLost) || try == saveTries || ctx.Err() != nil || d == backoff.Stop || b.env.Sleep(ctx, d) != nil {
			return unsaved(name, err)
		}
	}
}

// unsaved lets the job try again later: the run is where it was stored last.
func unsaved(name string, err error) error {
	if errors.Is(err, job.ErrLost) {
		return err
	}
	return fmt.Errorf("flow: boundary %s: %w", name, errors.Join(err, job.Again(saveAgain)))
}

// records by name.
type records map[string]record

func (rs records) has(name string) bool { _, ok := rs[name]; return ok }

// under are the stored names of the flow at path, without those of flows within it.
func (b *book) under(path string) records {
	own := records{}
	for name, rec := range b.stored {
		if rest, ok := strings.CutPrefix(name, path); ok && !strings.Contains(rest, "/") {
			own[rest] = rec
		}
	}
	return own
}
