package flow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/drover-cloud/drover/flow"
)

func TestSub(t *testing.T) {
	t.Parallel()
	t.Run("flow-18 undone in its place", func(t *testing.T) {
		type outer struct {
			trail
			In trail
		}
		run := func(fails map[string]error, last error) (*outer, error) {
			in := flow.New[trail]("in").Then("x", do("x", fails["x"]), undo("x", nil)).Then("y", do("y", fails["y"]), undo("y", fails["undo y"]), flow.NoRetryUndo())
			f := flow.New[outer]("out").Env(quiet).Then("a", func(_ context.Context, s *outer) error { s.In.add("do a"); return nil },
				func(_ context.Context, s *outer) error { s.In.add("undo a"); return nil })
			flow.Sub(f, "s", in, func(s *outer) *trail { return &s.In })
			f.Then("z", func(_ context.Context, s *outer) error { s.In.add("do z"); return last }, nil)
			if got := fmt.Sprint(f.Plan()); got != "[a s/x s/y z]" {
				t.Error(got)
			}
			var s outer
			return &s, f.Run(t.Context(), &s)
		}
		s, err := run(nil, errBoom)
		wantStep(t, err, "z", errBoom)
		s.In.want(t, "do a, do x, do y, do z, undo y, undo x, undo a")
		s, err = run(map[string]error{"y": errBoom, "undo y": errors.New("cannot")}, nil)
		e := failure(t, err, "s/y", errBoom)
		s.In.want(t, "do a, do x, do y, undo y, undo x, undo a")
		u := new(flow.UndoError)
		if len(e.Undo) != 1 || !errors.As(e.Undo[0], &u) || u.Step != "s/y" {
			t.Errorf("%v", e.Undo)
		}
		s, err = run(map[string]error{"x": flow.Continue(errBoom)}, nil)
		wantStep(t, err, "s/x", errBoom)
		s.In.want(t, "do a, do x, do y, do z")
		s, err = run(map[string]error{"y": errBoom, "undo y": flow.StopUndo(errBoom)}, nil)
		if e := failure(t, err, "s/y", errBoom); !slices.Equal(e.Skipped, []string{"s/x", "a"}) {
			t.Errorf("%v", e.Skipped)
		}
		s.In.want(t, "do a, do x, do y, undo y")
		s, err = run(map[string]error{"undo y": flow.StopUndo(errBoom)}, errBoom)
		if e := failure(t, err, "z", errBoom); !slices.Equal(e.Skipped, []string{"s/x", "a"}) {
			t.Errorf("%v", e.Skipped)
		}
		s.In.want(t, "do a, do x, do y, do z, undo y")
	})
}
