package syncqueue_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestSpecLocalEnds(t *testing.T) {
	for name, end := range map[string]func(){
		"queue-07 fails": func() {}, "queue-07 panics": func() { panic(errBoom) }, "queue-07 exits": runtime.Goexit,
	} {
		bubble(t, name, func(t *testing.T) {
			var l syncqueue.Local
			var order []int
			var handles []*syncqueue.Handle
			for i := range 100 {
				f := func(context.Context) error {
					order = append(order, i)
					end()
					return errBoom
				}
				if i%3 == 0 { // on the caller's goroutine
					go func() {
						defer func() { _ = recover() }()
						_ = l.Do(t.Context(), k1, f)
					}()
					synctest.Wait()
					continue
				}
				if i == 1 {
					handles = append(handles, l.Go(t.Context(), k1, func(context.Context) error { time.Sleep(time.Second); order = append(order, i); return errBoom }))
					continue
				}
				handles = append(handles, l.Go(t.Context(), k1, f))
			}
			for _, h := range handles {
				if err := h.Wait(t.Context()); !errors.Is(err, errBoom) && !errors.Is(err, drover.ErrPanic) {
					t.Errorf("Wait gave %v", err)
				}
			}
			synctest.Wait()
			if len(order) != 100 || !slices.IsSorted(order) {
				t.Errorf("order %v", order)
			}
			checkEmpty(t, &l)
		})
	}
}
