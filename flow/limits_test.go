package flow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
)

func TestMany(t *testing.T) {
	t.Parallel()
	t.Run("flow-45 concurrent runs", func(t *testing.T) {
		f := abc("abc", nil).Then("d", func(_ context.Context, s *trail) error { s.add("do d"); return s.Err }, undo("d", nil))
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				want := 4
				s := trail{}
				if i%2 == 0 {
					s.Err, want = errBoom, 8
				}
				if err := f.Run(context.Background(), &s); len(s.Calls) != want || !errors.Is(err, s.Err) {
					t.Errorf("%v, %v", err, s.Calls)
				}
			})
		}
		wg.Wait()
	})
	t.Run("flow-46 bad definitions", func(t *testing.T) {
		ok := do("x", nil)
		deep := func(n int) *flow.Flow[trail] {
			f := flow.New[trail]("d").Then("leaf", ok, nil)
			for range n {
				f = flow.Sub(flow.New[trail]("d"), "deeper", f, func(s *trail) *trail { return s })
			}
			return f
		}
		full := flow.New[trail]("full")
		for i := range 256 {
			full.Then(fmt.Sprint("s", i), ok, nil)
		}
		deep(8)
		for name, c := range map[string]struct {
			f    func()
			want string
		}{
			"flow name":  {func() { flow.New[trail]("A") }, `"A"`},
			"long name":  {func() { flow.New[trail](strings.Repeat("a", 64)) }, "name"},
			"empty name": {func() { flow.New[trail]("") }, `""`},
			"step name":  {func() { abc("", nil).Then("a b", ok, nil) }, `"a b"`},
			"colon":      {func() { abc("", nil).Then("a:undo", ok, nil) }, `"a:undo"`},
			"twice":      {func() { abc("a", nil).Then("a", ok, nil) }, `"a" twice`},
			"nil do":     {func() { abc("", nil).Then("a", nil, nil) }, `"a": nil do`},
			"257 steps":  {func() { full.Then("one-more", ok, nil) }, "one-more"},
			"depth 9":    {func() { deep(9) }, "deeper"},
			"nil sub":    {func() { flow.Sub[trail, trail](abc("", nil), "s", nil, nil) }, `"s"`},
			"retry 0":    {func() { abc("", nil).Then("a", ok, nil, flow.Retry(nil, 0)) }, `"a": Retry`},
			"timeout":    {func() { abc("", nil).Then("a", ok, nil, flow.Timeout(-1)) }, `"a": Timeout`},
			"other's when": {func() {
				abc("", nil).Then("a", ok, nil, flow.When(func(context.Context, *int) (bool, error) { return true, nil }))
			}, `"a": When`},
			"grace":         {func() { abc("", nil).Grace(0) }, "Grace"},
			"parallel < 0":  {func() { flow.Each(t.Context(), drover.Env{}, -1, []int{1}, nil) }, "parallel"},
			"before nobody": {func() { abc("", nil).Before("q", flow.Step[trail]{Name: "a", Do: ok}) }, `"q"`},
		} {
			if msg := panics(c.f); !strings.Contains(msg, c.want) {
				t.Errorf("%s: panic %q, want it to name %s", name, msg, c.want)
			}
		}
	})
}

func BenchmarkRun(b *testing.B) {
	f := flow.New[trail]("bench")
	for i := range 10 {
		f.Then(fmt.Sprint("s", i), func(context.Context, *trail) error { return nil }, nil)
	}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Run(ctx, &trail{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCost(t *testing.T) {
	f := flow.New[trail]("cost")
	for i := range 10 {
		f.Then(fmt.Sprint("s", i), func(context.Context, *trail) error { return nil }, nil)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _ = f.Run(ctx, &trail{}) }); n > 15 {
		t.Errorf("%v allocations for 10 steps, want 15 at most", n)
	}
}
