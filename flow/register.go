package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/job"
)

// Register handles jobs of kind "flow:<name>": Args is the initial state, the result the final one. The kind has
// [job.Unwinds] and f's Grace. A flow that has been rolled back fails its job for good; it ends cancelled if that was why.
// Other versions of f, with the same S, may be registered too ([Flow.Version]); the Grace is the first one's.
//
// Undos that failed become a debt: a job of kind "flow-undo:<name>", submitted in the transaction that ends the flow's job. It
// runs them in order, each until it succeeds, with 10 s between tries, doubled up to 10 min, and fails after 50 tries of one
// or at an error that is permanent, [StopUndo] or [ErrNoUndo]. [DebtTopic] makes it try at once. Cancel forgives the debt,
// and its journal says who did; job.Manager.Retry begins again. It has the resource and identity of the job that failed,
// takes no turn, and does not run Finally.
//
// It panics, with an error that is [ErrState], if an S does not encode as JSON or has fields tagged secret: the state is
// stored as it is. It panics too if the kind is taken, the version registered, or f has no steps.
func Register[S any](m *job.Manager, f *Flow[S]) {
	f.seal()
	if len(f.steps) == 0 {
		panic(fmt.Errorf("%w: %s", ErrEmpty, f.name))
	}
	if path := secret(reflect.TypeFor[S](), nil); path != "" {
		panic(fmt.Errorf("%w: %s: field %s is tagged secret", ErrState, f.name, path))
	}
	if _, err := json.Marshal(new(S)); err != nil {
		panic(fmt.Errorf("%w: %s: %w", ErrState, f.name, err))
	}
	v, ok := steps.Of(m).Attach("flow/"+f.name, func() any { return &versions[S]{} }).(*versions[S])
	if !ok {
		panic(fmt.Sprintf("flow: %s: another version has another state than %T", f.name, *new(S)))
	}
	if !v.add(f) {
		return
	}
	name := f.name
	job.Handle(m, "flow:"+name, func(ctx context.Context, s S) (S, error) {
		err := v.run(ctx, name, &s)
		return s, err
	}, job.Unwinds(), job.Grace(f.grace))
	job.Handle(m, "flow-undo:"+name, v.pay, job.Unwinds(), job.Grace(f.grace), job.Timeout(job.NoTimeout))
	watchDebts(m, name)
}

// secret finds a field tagged so by its path.
func secret(t reflect.Type, within []reflect.Type) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(within, t) {
		return ""
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if isSecret(f.Tag) {
			return f.Name
		}
		if path := secret(f.Type, append(within, t)); path != "" {
			return f.Name + "." + path
		}
	}
	return ""
}

// isSecret knows the word in the tags drover and param, and a tag of its own.
func isSecret(tag reflect.StructTag) bool {
	if _, ok := tag.Lookup("secret"); ok {
		return true
	}
	return slices.Contains(strings.Split(tag.Get("drover")+","+tag.Get("param"), ","), "secret")
}
