package flow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
)

func TestEach(t *testing.T) {
	t.Parallel()
	numbers := func(n int) (list []int) {
		for i := range n {
			list = append(list, i)
		}
		return list
	}
	t.Run("flow-40 parallel", func(t *testing.T) {
		for _, c := range []struct{ items, parallel, most int }{{3, 2, 2}, {100, 0, 16}, {10, 50, 10}, {5, 1, 1}} {
			synctest.Test(t, func(t *testing.T) {
				var now, most, all atomic.Int32
				errs := flow.Each(t.Context(), drover.Env{}, c.parallel, numbers(c.items), func(context.Context, int) error {
					all.Add(1)
					for n := now.Add(1); ; {
						if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
							break
						}
					}
					time.Sleep(time.Second)
					now.Add(-1)
					return nil
				})
				if int(all.Load()) != c.items || int(most.Load()) != c.most || len(errs) != c.items || errors.Join(errs...) != nil {
					t.Errorf("%d of %d by %d: ran %d, %d at once, %v", c.items, c.parallel, c.most, all.Load(), most.Load(), errs)
				}
			})
		}
		if errs := flow.Each(t.Context(), drover.Env{}, 0, nil, func(context.Context, int) error { panic("never") }); len(errs) != 0 {
			t.Errorf("empty: %v", errs)
		}
	})
	t.Run("flow-41 errors and panics", func(t *testing.T) {
		errs := flow.Each(t.Context(), drover.Env{}, 2, numbers(3), func(_ context.Context, i int) error { return fmt.Errorf("item %d", i) })
		if got := fmt.Sprint(errs); got != "[item 0 item 1 item 2]" {
			t.Error(got)
		}
		errs = flow.Each(t.Context(), drover.Env{}, 0, numbers(10), func(_ context.Context, i int) error {
			if i%2 == 1 {
				panic(i)
			}
			return nil
		})
		for i, err := range errs {
			if errors.Is(err, drover.ErrPanic) != (i%2 == 1) {
				t.Errorf("item %d: %v", i, err)
			}
		}
	})
	t.Run("flow-42 stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var began, ended atomic.Int32
			errs := flow.Each(t.Context(), drover.Env{}, 4, numbers(100), func(_ context.Context, i int) error {
				began.Add(1)
				defer ended.Add(1)
				if i == 2 {
					time.Sleep(500 * time.Millisecond)
					return fmt.Errorf("enough: %w", flow.Stop)
				}
				time.Sleep(time.Second)
				return nil
			})
			skipped := 0
			for _, err := range errs {
				if errors.Is(err, flow.ErrSkipped) {
					skipped++
				}
			}
			if began.Load() != 4 || ended.Load() != 4 || skipped != 96 || !errors.Is(errs[2], flow.Stop) {
				t.Errorf("began %d, ended %d, skipped %d, item 2: %v", began.Load(), ended.Load(), skipped, errs[2])
			}
		})
		errs := flow.Each(t.Context(), drover.Env{}, 1, numbers(100), func(_ context.Context, i int) error {
			if i == 2 {
				return flow.Stop
			}
			return nil
		})
		if !errors.Is(errs[3], flow.ErrSkipped) || errs[1] != nil {
			t.Errorf("one at a time: %v", errs[:5])
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		errs = flow.Each(ctx, drover.Env{}, 1, numbers(5), func(_ context.Context, i int) error {
			if i == 1 {
				cancel(errBoom)
			}
			return nil
		})
		if errs[1] != nil || !errors.Is(errs[2], flow.ErrSkipped) || !errors.Is(errs[4], errBoom) {
			t.Errorf("ctx ended: %v", errs)
		}
	})
	t.Run("flow-43 nested", func(t *testing.T) {
		var runs atomic.Int32
		errs := flow.Each(t.Context(), drover.Env{}, 0, numbers(10), func(ctx context.Context, i int) error {
			return errors.Join(flow.Each(ctx, drover.Env{}, 3, numbers(10), func(_ context.Context, j int) error {
				runs.Add(1)
				if i == 4 && j == 7 {
					return errBoom
				}
				return nil
			})...)
		})
		for i, err := range errs {
			if errors.Is(err, errBoom) != (i == 4) {
				t.Errorf("item %d: %v", i, err)
			}
		}
		if runs.Load() != 100 {
			t.Errorf("%d runs", runs.Load())
		}
	})
}

func TestLeavesFirst(t *testing.T) {
	t.Parallel()
	graph := func(edges string) func(string) ([]string, error) {
		below := map[string][]string{}
		for e := range strings.FieldsSeq(edges) {
			below[e[:1]] = append(below[e[:1]], e[1:])
		}
		return func(n string) ([]string, error) {
			if n == "!" {
				return nil, errBoom
			}
			return below[n], nil
		}
	}
	for _, c := range []struct {
		name, edges, roots, want string
		err                      error
		text                     string
	}{
		{"flow-44 leaf first", "ab bc", "a", "cba", nil, ""},
		{"flow-44 once over two paths", "ab ac bd cd", "a", "dbca", nil, ""},
		{"flow-44 order kept", "ab ac ad", "a", "bcda", nil, ""},
		{"flow-44 several roots", "ac bc", "ab", "cab", nil, ""},
		{"flow-44 cycle", "ab bc ca", "a", "", flow.ErrCycle, "a → b → c → a"},
		{"flow-44 cycle below", "ab bc cb", "a", "", flow.ErrCycle, "b → c → b"},
		{"flow-44 self", "aa", "a", "", flow.ErrCycle, "a → a"},
		{"children fail", "a!", "a", "", errBoom, "children of !"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := flow.LeavesFirst(strings.Split(c.roots, ""), graph(c.edges))
			if strings.Join(got, "") != c.want || !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	if got, err := flow.LeavesFirst([]string{"a", "b", "a"}, nil); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("nil children: %v, %v", got, err)
	}
}
