package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/job"
)

// elsewhere is how long a job waits for a node that has its version.
const elsewhere = 30 * time.Second

// versions are the definitions of one name that a manager has.
type versions[S any] struct {
	mu    sync.Mutex
	flows map[int]*Flow[S]
}

// add says whether f is the first.
func (v *versions[S]) add(f *Flow[S]) (first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.flows[f.vers] != nil {
		panic(fmt.Sprintf("flow: %s: version %d is registered twice", f.name, f.vers))
	}
	if first = v.flows == nil; first {
		v.flows = map[int]*Flow[S]{}
	}
	v.flows[f.vers] = f
	return first
}

func (v *versions[S]) get(n int) (*Flow[S], error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.flows[n]; f != nil {
		return f, nil
	}
	return nil, job.Again(elsewhere)
}

// numbers lists the versions, the lowest first.
func (v *versions[S]) numbers() []int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.flows))
}

// run handles a job of kind flow:<name>.
func (v *versions[S]) run(ctx context.Context, name string, s *S) error {
	j := steps.From(ctx)
	f, err := v.pick(ctx, j, name)
	if err != nil {
		return err
	}
	r := f.begin(s)
	err = r.durable(ctx, j)
	if e := new(Error); errors.As(err, &e) {
		if d := r.debt(ctx, e); d != nil {
			if oweErr := r.book.owe(ctx, f.name, err, d); oweErr != nil {
				return oweErr
			}
		}
		return job.Permanent(err)
	}
	if drover.IsPermanent(err) {
		return job.Permanent(err)
	}
	return err
}

// pick finds the flow that the job has begun under. A run of version 1 does not say so: whatever has begun and says nothing is
// taken for one of it.
func (v *versions[S]) pick(ctx context.Context, j steps.Run, name string) (*Flow[S], error) {
	have := v.numbers()
	if j.First() {
		return v.get(have[len(have)-1])
	}
	uncut, release := j.Unwind(ctx)
	defer release()
	stored, err := j.Load(uncut, name+"/")
	if err != nil {
		return nil, unsaved(name, err)
	}
	if data, ok := stored[name+"/"+versMark]; ok {
		var rec record
		if err := json.Unmarshal(data, &rec); err != nil {
			return nil, drover.Permanent(fmt.Errorf("%w: %s: %w", ErrState, name+"/"+versMark, err))
		}
		return v.get(rec.Version)
	}
	if len(stored) > 0 {
		return v.get(1)
	}
	return v.get(have[0])
}
