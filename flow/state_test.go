package flow_test

import (
	"context"
	"errors"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
)

// ledger is a state that steps share: each adds to it what undo takes off again, and notes its end in it.
type ledger struct {
	Sum   int
	Done  bool
	Err   error
	Undos []int
}

func TestSharedState(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		fails    int // the step that does, after it has done nothing
		panics   bool
		undoFail int
		sum      int
		undos    int
	}{
		{name: "flow-19 all done", sum: 6},
		{name: "flow-19 second fails", fails: 2, sum: -2, undos: 2},
		{name: "flow-19 third fails", fails: 3, sum: -3, undos: 3},
		{name: "flow-19 third panics", fails: 3, panics: true, sum: -3, undos: 3},
		{name: "flow-19 undo of the second fails", fails: 3, undoFail: 2, sum: -1, undos: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := flow.New[ledger]("f").Env(quiet)
			for i := 1; i <= 3; i++ {
				f.Then([]string{"", "one", "two", "three"}[i], func(_ context.Context, s *ledger) error {
					if i == c.fails && c.panics {
						panic("boom")
					}
					if i == c.fails {
						s.Err = errBoom
						return s.Err
					}
					s.Sum += i
					return nil
				}, func(_ context.Context, s *ledger) error {
					s.Undos = append(s.Undos, i)
					if i == c.undoFail {
						return errBoom
					}
					s.Sum -= i
					return nil
				}, flow.NoRetryUndo())
			}
			s := ledger{}
			err := f.Finally(func(_ context.Context, s *ledger, err error) { s.Done, s.Err = err == nil, err }).Run(t.Context(), &s)
			if s.Sum != c.sum || s.Done != (c.fails == 0) || len(s.Undos) != c.undos || !errors.Is(err, s.Err) {
				t.Errorf("%+v, %v", s, err)
			}
			for i, u := range s.Undos {
				if u != c.fails-i {
					t.Errorf("undone %v", s.Undos)
				}
			}
			if e := new(drover.PanicError); errors.As(err, &e) != c.panics {
				t.Errorf("%v", err)
			}
			var e *flow.Error
			if errors.As(err, &e) && (len(e.Undo) == 1) != (c.undoFail > 0) {
				t.Errorf("%v", e.Undo)
			}
		})
	}
	t.Run("flow-47 clean-ups inside a step", func(t *testing.T) {
		for name, end := range map[string]func() error{
			"nil":   func() error { return nil },
			"error": func() error { return errBoom },
			"panic": func() error { panic("boom") },
		} {
			s := trail{}
			_ = flow.New[trail]("f").Env(quiet).Then("a", func(_ context.Context, s *trail) (err error) {
				defer s.add("first")
				defer s.add("second")
				defer func() {
					if err != nil {
						s.add("only on error")
					}
				}()
				return end()
			}, nil).Run(t.Context(), &s)
			s.want(t, map[string]string{"nil": "second, first", "error": "only on error, second, first", "panic": "second, first"}[name])
		}
	})
}
