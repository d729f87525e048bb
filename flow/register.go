package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

// Register handles jobs of kind "flow:<name>": Args is the initial state, the result the final one. The kind has
// [job.Unwinds] and f's Grace. A flow that has been rolled back fails its job for good; it ends cancelled if that was why.
//
// It panics, with an error that is [ErrState], if an S does not encode as JSON or has fields tagged secret: the state is
// stored as it is. It panics too if the kind is taken or f has no steps.
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
	job.Handle(m, "flow:"+f.name, func(ctx context.Context, s S) (S, error) {
		err := f.Run(ctx, &s)
		if e := new(Error); errors.As(err, &e) || drover.IsPermanent(err) {
			err = job.Permanent(err)
		}
		return s, err
	}, job.Unwinds(), job.Grace(f.grace))
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
