package job

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/drover-cloud/drover"
	inner "github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/store"
)

func init() { inner.Of = func(m any) inner.Manager { return (*flowManager)(m.(*Manager)) } }

// flowManager is the side of a manager that package flow sees.
type flowManager Manager

func (f *flowManager) Env() drover.Env { return f.env }

func (f *flowManager) Attach(name string, make func() any) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attached == nil {
		f.attached = map[string]any{}
	}
	if f.attached[name] == nil {
		f.attached[name] = make()
	}
	return f.attached[name]
}

func (f *flowManager) Stored(ctx context.Context, id string) (all []inner.Stored, err error) {
	m := (*Manager)(f)
	var found Found
	err = m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		found, err = m.find(ctx, tx, Find{IDs: []string{id}, Steps: true})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, s := range found.Rows[0].Steps {
		all = append(all, inner.Stored{Name: s.Step, Data: s.Data, At: s.At})
	}
	return all, nil
}

// flowRun is the side of a run that package flow sees: durable steps without the rules of Step.
type flowRun run

var _ inner.Run = (*flowRun)(nil)

func (f *flowRun) run() *run             { return (*run)(f) }
func (f *flowRun) Base() context.Context { return f.ctx }
func (f *flowRun) Env() drover.Env       { return f.m.env }
func (f *flowRun) First() bool           { return f.row.Runs <= 1 && f.row.RetryOf == "" }
func (f *flowRun) Lost() int             { return f.row.Lost }

func (f *flowRun) Permanent(err error) bool { return isPermanent(err) }

func (f *flowRun) Leaves(err error) bool {
	again := new(againError)
	return errors.As(err, &again) || parkOf(err) != nil
}

func (f *flowRun) Use(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	used := &f.run().more().steps.used
	if slices.Contains(*used, name) {
		return false
	}
	*used = append(*used, name)
	return true
}

func (f *flowRun) Load(ctx context.Context, prefix string) (map[string]json.RawMessage, error) {
	r := f.run()
	if _, _, err := r.stepValue(ctx, prefix); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[string]json.RawMessage{}
	for name, data := range r.more().steps.done {
		if strings.HasPrefix(name, prefix) {
			found[name] = data
		}
	}
	return found, nil
}

func (f *flowRun) Save(ctx context.Context, name string, data json.RawMessage, percent int) error {
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	e := Entry{Step: name, Data: data}
	if percent >= 0 {
		p := Progress{Percent: clamp(percent)}
		if s, ok := ctx.Value(stageKey{}).(stageRange); ok {
			p.Percent = int(s.of(p.Percent))
		}
		e.Progress = &p
	}
	if err := r.log(ctx, e); err != nil {
		return err
	}
	if e.Progress != nil {
		r.mu.Lock()
		r.more().progress = progress{last: *e.Progress, stored: r.m.env.Clock.Now()}
		r.mu.Unlock()
		r.m.waits.changed([]*run{r})
	}
	return nil
}

func (f *flowRun) Encode(err error) json.RawMessage {
	data, _ := json.Marshal(encode(err)) // of strings only
	return data
}

func (f *flowRun) Decode(data json.RawMessage) error {
	e := new(Error)
	if err := json.Unmarshal(data, e); err != nil {
		return err
	}
	return e
}

func (f *flowRun) Stage(ctx context.Context, from, to int) context.Context {
	return Stage(ctx, from, to)
}

func (f *flowRun) Owe(ctx context.Context, failure error, kind, unique string, args any) error {
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		row, err := r.m.load(ctx, tx, r.row.ID)
		if err != nil {
			return err
		}
		if row.Flags&Sealed != 0 { // by a commit whose answer was lost
			return nil
		}
		_, err = r.m.SubmitTx(ctx, tx, Request{
			Kind: kind, Unique: unique, Args: args, Detached: true,
			Identity: row.public().Identity, Resource: row.Resource, roomy: true,
		})
		if err != nil {
			return err
		}
		return FinishTx(ctx, tx, failure)
	})
	return r.refused(err)
}

func (f *flowRun) CancelledBy(ctx context.Context) (by, reason string, err error) {
	r := f.run()
	err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		row, err := r.m.load(ctx, tx, r.row.ID)
		if err == nil {
			by, reason = row.CancelBy, row.CancelReason
		}
		return err
	})
	return by, reason, err
}

// Unwind is ctx without its end, except that it ends when the claim is lost.
func (f *flowRun) Unwind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	claim := f.run().whileClaimed()
	stop := context.AfterFunc(claim, func() { cancel(context.Cause(claim)) })
	if claim.Err() != nil {
		cancel(context.Cause(claim))
	}
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}
