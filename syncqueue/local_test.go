package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/syncqueue"
)

func TestSpecLocalTurns(t *testing.T) {
	bubble(t, "queue-05 second waits, then starts in the same instant", func(t *testing.T) {
		var l syncqueue.Local
		start := time.Now()
		var began time.Duration
		l.Go(t.Context(), k1, sleep(2*time.Second))
		h := l.Go(t.Context(), k1, func(context.Context) error { began = time.Since(start); return nil })
		if err := h.Wait(t.Context()); err != nil || began != 2*time.Second {
			t.Errorf("began after %v: %v", began, err)
		}
		err := l.Do(t.Context(), k1, nop)
		if err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("Do on a free key: %v after %v", err, time.Since(start))
		}
		checkEmpty(t, &l)
	})
	bubble(t, "queue-06 cancel while pending", testCancelPending)
	bubble(t, "queue-08 errors, deadlines and causes", testErrors)
	bubble(t, "queue-09 SetLevel", testSetLevel)
	bubble(t, "queue-10 unlimited", func(t *testing.T) {
		for _, n := range []int{0, -1} {
			l := syncqueue.Local{Level: func(syncqueue.Key) int { return n }}
			var releases []func()
			for range 20 {
				releases = append(releases, block(t, &l, k1))
			}
			if s := l.Stats(); len(s) != 1 || s[0].Running != 20 || s[0].Pending != 0 || len(l.Tasks(k1)) != 20 {
				t.Errorf("stats %+v", s)
			}
			for _, release := range releases {
				release()
			}
			checkEmpty(t, &l)
		}
	})
	bubble(t, "queue-16 re-entry", testReentry)
	bubble(t, "queue-25 Running", func(t *testing.T) {
		var l syncqueue.Local
		release := block(t, &l, k1)
		if !l.Running(k1) || l.Running(k2) {
			t.Error("Running is wrong while the task runs")
		}
		release()
		if l.Running(k1) {
			t.Error("Running is true afterwards")
		}
	})
	bubble(t, "queue-26 MaxTotal and Drain", testTotalAndDrain)
	bubble(t, "queue-27 bad input", testBadInput)
	bubble(t, "queue-29 panic in Do", func(t *testing.T) {
		var l syncqueue.Local
		started := make(chan struct{})
		func() {
			defer func() {
				if v := recover(); v != errBoom {
					t.Errorf("recovered %v", v)
				}
				<-started // or the bubble is dead
			}()
			_ = l.Do(t.Context(), k1, func(context.Context) error {
				l.Go(t.Context(), k1, func(context.Context) error { close(started); return nil })
				panic(errBoom)
			})
		}()
		synctest.Wait()
		checkEmpty(t, &l)
	})
}

func testCancelPending(t *testing.T) {
	var l syncqueue.Local
	release := block(t, &l, k1)
	var mu sync.Mutex
	var order, returned []int
	cancels := map[int]context.CancelCauseFunc{}
	for i := range 10 {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancels[i] = cancel
		go func() {
			err := l.Do(ctx, k1, func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
				return nil
			}, syncqueue.Name(fmt.Sprint(i)))
			if want := ctx.Err() != nil; want != errors.Is(err, errBoom) {
				t.Errorf("caller %d got %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				returned = append(returned, i)
			}
		}()
		synctest.Wait()
	}
	for i := 1; i < 10; i += 2 {
		cancels[i](errBoom)
	}
	synctest.Wait()
	var names []string
	for i, task := range l.Tasks(k1)[1:] {
		names = append(names, task.Name)
		if task.Running || task.Position != i+1 {
			t.Errorf("task %+v at place %d", task, i+1)
		}
	}
	if len(returned) != 5 || len(order) != 0 || strings.Join(names, "") != "02468" {
		t.Errorf("returned %v, started %v, listed %v", returned, order, names)
	}
	release()
	synctest.Wait()
	if !slices.Equal(order, []int{0, 2, 4, 6, 8}) {
		t.Errorf("order %v", order)
	}
	checkEmpty(t, &l)
	for _, cancel := range cancels {
		cancel(nil)
	}
}

func testErrors(t *testing.T) {
	var l syncqueue.Local
	ctx := t.Context()
	h := l.Go(ctx, k1, func(context.Context) error { return errBoom })
	if a, b := h.Wait(ctx), h.Wait(ctx); a != errBoom || b != errBoom {
		t.Errorf("Wait gave %v, then %v", a, b)
	}
	if err := l.Do(ctx, k1, func(context.Context) error { return errBoom }); err != errBoom {
		t.Errorf("Do gave %v", err)
	}
	start := time.Now()
	obey := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	if err := l.Do(short, k1, obey); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
		t.Errorf("Do gave %v after %v", err, time.Since(start))
	}
	cancel()
	// a result after 0.5 s of 2 s is in time, one after 3 s is not
	for d, ok := range map[time.Duration]bool{time.Second / 2: true, 3 * time.Second: false} {
		h := l.Go(ctx, k1, sleep(d))
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		if err := h.Wait(short); (err == nil) != ok || !ok && err != context.DeadlineExceeded {
			t.Errorf("Wait for %v gave %v", d, err)
		}
		cancel()
		if err := h.Wait(ctx); err != nil {
			t.Errorf("the task did not go on: %v", err)
		}
	}
	release := block(t, &l, k1)
	caused, stop := context.WithCancelCause(ctx)
	pending := l.Go(caused, k1, nop)
	taken := l.Go(ctx, k1, nop)
	stop(errBoom)
	taken.Cancel()
	taken.Cancel()
	if err := pending.Wait(ctx); err != errBoom {
		t.Errorf("cause lost: %v", err)
	}
	if err := taken.Wait(ctx); err != context.Canceled {
		t.Errorf("Cancel gave %v", err)
	}
	short, cancel = context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := l.Do(short, k1, nop); err != syncqueue.ErrExpired {
		t.Errorf("ctx's deadline while pending gave %v", err)
	}
	release()
	running := l.Go(ctx, k1, obey)
	synctest.Wait()
	running.Cancel()
	if err := running.Wait(ctx); err != context.Canceled {
		t.Errorf("Cancel while running gave %v", err)
	}
	checkEmpty(t, &l)
}

func testSetLevel(t *testing.T) {
	var l syncqueue.Local
	releases := []func(){block(t, &l, k1)}
	started := 0
	var gates []chan struct{}
	for range 4 {
		gate := make(chan struct{})
		gates = append(gates, gate)
		l.Go(t.Context(), k1, func(context.Context) error { started++; <-gate; return nil })
	}
	l.SetLevel(k1, 2)
	if s := l.Stats()[0]; s.Running != 2 || s.Pending != 3 || s.Level != 2 { // in the call
		t.Errorf("after SetLevel(2): %+v", s)
	}
	synctest.Wait()
	l.SetLevel(k1, 1)
	synctest.Wait()
	if started != 1 || l.Stats()[0].Running != 2 {
		t.Errorf("SetLevel(1) ended one: %+v", l.Stats())
	}
	releases[0]()
	synctest.Wait()
	if started != 1 {
		t.Errorf("%d started while one of two still runs", started)
	}
	for i, gate := range gates {
		close(gate)
		synctest.Wait()
		if want := min(i+2, 4); started != want || i < 3 && l.Stats()[0].Running != 1 {
			t.Errorf("%d started after %d, want %d", started, i+1, want)
		}
	}
	checkEmpty(t, &l)
}

func testReentry(t *testing.T) {
	var l syncqueue.Local
	start := time.Now()
	err := l.Do(t.Context(), k1, func(ctx context.Context) error {
		if err := l.Do(ctx, k1, nop); !errors.Is(err, syncqueue.ErrReentrant) || !strings.Contains(err.Error(), "vm/1") {
			t.Errorf("Do inside Do gave %v", err)
		}
		ran := 0
		count := func(context.Context) error { ran++; return errBoom }
		if err := l.Do(ctx, k1, count, syncqueue.AllowReentrant()); err != errBoom {
			t.Errorf("AllowReentrant gave %v", err)
		}
		if err := l.Go(ctx, k1, count, syncqueue.AllowReentrant()).Wait(ctx); err != errBoom || ran != 2 {
			t.Errorf("Go with AllowReentrant gave %v, %d runs", err, ran)
		}
		h := l.Go(ctx, k1, nop)
		if err := h.Wait(ctx); !errors.Is(err, syncqueue.ErrReentrant) {
			t.Errorf("Wait for the own key gave %v", err)
		}
		if _, err := syncqueue.Single(ctx, &l, k1, func(context.Context) (int, error) { return 1, nil }); err != nil {
			t.Errorf("Single has its own name space: %v", err)
		}
		return l.Do(ctx, k2, func(ctx context.Context) error {
			if err := l.Do(ctx, k1, nop); !errors.Is(err, syncqueue.ErrReentrant) {
				t.Errorf("Do(1) in Do(2) in Do(1) gave %v", err)
			}
			var other syncqueue.Local
			return other.Do(ctx, k1, nop)
		})
	})
	if err != nil || time.Since(start) != 0 {
		t.Errorf("Do gave %v after %v", err, time.Since(start))
	}
	_, err = syncqueue.Single(t.Context(), &l, k1, func(ctx context.Context) (int, error) {
		return syncqueue.Single(ctx, &l, k1, func(context.Context) (int, error) { return 1, nil })
	})
	if !errors.Is(err, syncqueue.ErrReentrant) {
		t.Errorf("Single inside Single gave %v", err)
	}
	var kept context.Context
	_ = l.Do(t.Context(), k1, func(ctx context.Context) error { kept = ctx; return nil })
	if err := l.Do(kept, k1, nop); err != nil {
		t.Errorf("a turn that is over still counts: %v", err)
	}
	synctest.Wait()
	checkEmpty(t, &l)
}

func testTotalAndDrain(t *testing.T) {
	l := &syncqueue.Local{MaxTotal: 10}
	var releases []func()
	for i := range 5 {
		k := syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i)}
		releases = append(releases, block(t, l, k))
		l.Go(t.Context(), k, nop)
	}
	if err := l.Do(t.Context(), k1, nop); !errors.Is(err, syncqueue.ErrFull) {
		t.Errorf("the 11th got %v", err)
	}
	if _, err := syncqueue.Single(t.Context(), l, k1, func(context.Context) (int, error) { return 0, nil }); !errors.Is(err, syncqueue.ErrFull) {
		t.Errorf("Single as the 11th got %v", err)
	}
	releases[0]()
	synctest.Wait()
	if err := l.Do(t.Context(), k2, nop, syncqueue.Deadline(1, 0)); !errors.Is(err, syncqueue.ErrExpired) {
		t.Errorf("the 9th got %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := l.Drain(short)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "vm/1, vm/2, vm/3, vm/4") || strings.Contains(err.Error(), "vm/0") {
		t.Errorf("Drain gave %v", err)
	}
	for _, k := range []syncqueue.Key{k1, {}} {
		if err := l.Go(t.Context(), k, nop).Wait(t.Context()); !errors.Is(err, syncqueue.ErrClosed) {
			t.Errorf("a call while draining got %v", err)
		}
	}
	drained := false
	go func() { drained = l.Drain(t.Context()) == nil }()
	for _, release := range releases[1:] {
		if synctest.Wait(); drained {
			t.Error("drained too early")
		}
		release()
	}
	if synctest.Wait(); !drained {
		t.Error("not drained")
	}
	checkEmpty(t, l)
}

func testBadInput(t *testing.T) {
	var l syncqueue.Local
	never := func(context.Context) error { t.Error("ran"); return nil }
	long := strings.Repeat("x", 129)
	for name, c := range map[string]struct {
		k    syncqueue.Key
		f    func(context.Context) error
		opts []syncqueue.Option
		text string
	}{
		"nil f":            {k1, nil, nil, "function is nil"},
		"negative pending": {k1, never, []syncqueue.Option{syncqueue.Deadline(-1, 0)}, "Deadline"},
		"negative running": {k1, never, []syncqueue.Option{syncqueue.Deadline(0, -1)}, "Deadline"},
		"negative max":     {k1, never, []syncqueue.Option{syncqueue.MaxPending(-1, "")}, "MaxPending"},
		"long kind":        {syncqueue.Key{Kind: long, ID: "1"}, never, nil, "kind"},
		"long id":          {syncqueue.Key{Kind: "vm", ID: long}, never, nil, "id"},
		"no kind":          {syncqueue.Key{ID: "1"}, never, nil, "kind is empty"},
		"control":          {syncqueue.Key{Kind: "vm", ID: "a\nb"}, never, nil, "control"},
		"C1 control":       {syncqueue.Key{Kind: "vm", ID: "a\u0085b"}, never, nil, "control"},
	} {
		for _, err := range []error{l.Do(t.Context(), c.k, c.f, c.opts...), l.Go(t.Context(), c.k, c.f, c.opts...).Wait(t.Context())} {
			if !errors.Is(err, syncqueue.ErrInvalid) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
	if err := l.Do(t.Context(), syncqueue.Key{Kind: "vm", ID: "ünï"}, nop); err != nil {
		t.Errorf("unicode key: %v", err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	if err := l.Do(gone, k1, never); err != errBoom {
		t.Errorf("ctx done: Do gave %v", err)
	}
	if err := l.Go(gone, syncqueue.Key{}, never).Wait(t.Context()); err != errBoom {
		t.Errorf("ctx done: Go gave %v", err)
	}
	ran := 0
	var zero syncqueue.Key
	one := func(ctx context.Context) error {
		ran++
		if len(l.Stats()) != 0 {
			t.Error("the zero Key is listed")
		}
		return l.Do(ctx, zero, func(context.Context) error { ran++; return nil })
	}
	if err := errors.Join(l.Do(t.Context(), zero, one), l.Go(t.Context(), zero, one).Wait(t.Context())); err != nil || ran != 4 {
		t.Errorf("zero Key: %v, %d runs", err, ran)
	}
	checkEmpty(t, &l)
}
