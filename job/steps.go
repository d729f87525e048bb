package job

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/store"
)

const maxStepValue = 256 << 10

// steps are the durable steps of a run; guarded by run.mu.
type steps struct {
	loaded bool
	done   map[string]json.RawMessage // of earlier runs
	used   []string                   // names in this run
}

type stepKey struct{}

// Step runs f until it has succeeded once and answers its value, also in later runs of the job, without calling f again. An
// error of f is returned and not stored. f runs at least once: a crash between its end and the commit repeats it.
//
// The name is unique within a run, 1 to 128 printable bytes; inside f, names are joined with "/". Parallel steps are
// allowed. A name used twice, a value that cannot be encoded, is larger than 256 KiB or cannot be decoded fail the job for
// good ([Permanent]); [ErrLost] when the claim is lost.
func Step[R any](ctx context.Context, name string, f func(context.Context) (R, error)) (v R, err error) {
	r, err := handlerOf(ctx)
	if err != nil {
		return v, err
	}
	outer, _ := ctx.Value(stepKey{}).(string)
	path, err := r.useStep(outer, name)
	if err != nil {
		return v, err
	}
	stored, ok, err := r.stepValue(ctx, path)
	if err != nil {
		return v, err
	}
	if ok {
		if err := json.Unmarshal(stored, &v); err != nil {
			return v, Permanent(invalid("Step", "the stored value of %q is no %T: %v", path, v, err))
		}
		return v, nil
	}
	if v, err = f(context.WithValue(ctx, stepKey{}, path)); err != nil {
		return v, err
	}
	return v, r.storeStep(ctx, path, v)
}

// useStep joins the name to the step around it and refuses one that was used.
func (r *run) useStep(outer, name string) (string, error) {
	if why := badName(name); why != "" {
		return "", Permanent(&FieldError{"Step", fmt.Sprintf("name %q %s", name, why)})
	}
	path := strings.TrimPrefix(outer+"/"+name, "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	used := &r.more().steps.used
	if slices.Contains(*used, path) {
		return "", Permanent(invalid("Step", "name %q is used twice in one run", path))
	}
	*used = append(*used, path)
	return path, nil
}

// stepValue is what an earlier run stored. A first run has no earlier one to ask for.
func (r *run) stepValue(ctx context.Context, path string) (json.RawMessage, bool, error) {
	r.mu.Lock()
	known := &r.more().steps
	if r.row.Runs <= 1 && r.row.RetryOf == "" {
		known.loaded = true
	}
	if known.loaded {
		v, ok := known.done[path]
		r.mu.Unlock()
		return v, ok, nil
	}
	r.mu.Unlock()
	done := map[string]json.RawMessage{}
	err := r.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		found, err := r.m.store.List(ctx, tx, Find{IDs: []string{r.row.ID}, Steps: true})
		if err != nil || len(found.Rows) == 0 {
			return err
		}
		for _, s := range found.Rows[0].Steps {
			done[s.Step] = s.Data
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known.loaded, known.done = true, done
	v, ok := done[path]
	return v, ok, nil
}

func (r *run) storeStep(ctx context.Context, path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return Permanent(invalid("Step", "the value of %q cannot be encoded: %v", path, err))
	}
	if len(data) > maxStepValue {
		return Permanent(fmt.Errorf("job: Step: the value of %q has %d bytes, most are %d: %w", path, len(data), maxStepValue, ErrTooLarge))
	}
	r.alive()
	return r.log(ctx, Entry{Step: path, Data: data})
}
