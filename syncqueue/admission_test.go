package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/syncqueue"
)

func TestSpecLocalDeadline(t *testing.T) {
	bubble(t, "queue-11 pending", func(t *testing.T) {
		var l syncqueue.Local
		never := func(context.Context) error { t.Error("ran"); return nil }
		start := time.Now()
		l.Go(t.Context(), k1, sleep(5*time.Second))
		shared := l.Go(t.Context(), k1, never, syncqueue.Deadline(time.Second, 0), syncqueue.Coalesce("c"))
		joined := l.Go(t.Context(), k1, never, syncqueue.Deadline(time.Second, 0), syncqueue.Coalesce("c"))
		h := l.Go(t.Context(), k1, never, syncqueue.Deadline(time.Second, 0))
		err := l.Do(t.Context(), k1, never, syncqueue.Deadline(time.Second, 0))
		for _, err := range []error{err, h.Wait(t.Context()), shared.Wait(t.Context()), joined.Wait(t.Context())} {
			if err != syncqueue.ErrExpired || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("expired after %v", d)
		}
		if s := l.Stats()[0]; s.Pending != 0 || s.Running != 1 {
			t.Errorf("stats %+v", s)
		}
		time.Sleep(5 * time.Second)
		checkEmpty(t, &l)
	})
	bubble(t, "queue-12 running, obedient", func(t *testing.T) {
		var l syncqueue.Local
		start := time.Now()
		obey := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		err := l.Do(t.Context(), k1, obey, syncqueue.Deadline(0, time.Second))
		err2 := l.Go(t.Context(), k1, obey, syncqueue.Deadline(0, time.Second)).Wait(t.Context())
		if err != context.DeadlineExceeded || err2 != err || time.Since(start) != 2*time.Second {
			t.Errorf("%v and %v after %v", err, err2, time.Since(start))
		}
		checkEmpty(t, &l)
	})
	bubble(t, "queue-12 running, disobedient", func(t *testing.T) {
		l, log := local()
		for range 2 { // the alarm is armed again after an idle time
			had := len(log.lines("stuck"))
			h := l.Go(t.Context(), k1, sleep(35*time.Minute), syncqueue.Deadline(0, time.Second), syncqueue.Name("deaf"))
			for i := range 4 {
				time.Sleep(9*time.Minute + 59*time.Second)
				if got := log.lines("stuck"); i < 3 && len(got) != had+i {
					t.Errorf("%d warnings after %d0 min: %q", len(got)-had, i+1, got)
				}
				if i < 3 && !l.Running(k1) {
					t.Error("the turn was lost")
				}
				time.Sleep(time.Second)
			}
			if err := h.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			for _, line := range log.lines("stuck") {
				if !strings.Contains(line, "key=vm/1") || !strings.Contains(line, "name=deaf") || !strings.Contains(line, "since=") {
					t.Errorf("warning %q", line)
				}
			}
		}
		if got := log.lines("stuck"); len(got) != 6 {
			t.Errorf("%d warnings, want 6", len(got))
		}
	})
	bubble(t, "queue-12 two tasks that wait for each other are both named", func(t *testing.T) {
		l, log := local()
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Minute)
		defer cancel()
		nest := func(a, b syncqueue.Key) *syncqueue.Handle {
			return l.Go(ctx, a, func(ctx context.Context) error {
				time.Sleep(time.Second)
				return l.Do(ctx, b, nop)
			})
		}
		h := nest(k1, k2)
		nest(k2, k1)
		if err := h.Wait(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		got := strings.Join(log.lines("stuck"), "\n")
		if !strings.Contains(got, "key=vm/1") || !strings.Contains(got, "waits_for=vm/2") || !strings.Contains(got, "waits_for=vm/1") {
			t.Errorf("warnings %s", got)
		}
		checkEmpty(t, l)
	})
}

func TestSpecLocalAdmission(t *testing.T) {
	bubble(t, "queue-13 MaxPending", func(t *testing.T) {
		for try := range 100 {
			var l syncqueue.Local
			var handles []*syncqueue.Handle
			var wg sync.WaitGroup
			gate := make(chan struct{})
			f := func(context.Context) error { <-gate; return nil }
			var mu sync.Mutex
			for range 4 {
				wg.Go(func() {
					h := l.Go(t.Context(), k1, f, syncqueue.MaxPending(2, "d"))
					mu.Lock()
					defer mu.Unlock()
					handles = append(handles, h)
				})
			}
			wg.Wait()
			if s := l.Stats()[0]; s.Running != 1 || s.Pending != 2 {
				t.Fatalf("try %d: stats %+v", try, s)
			}
			close(gate)
			full := 0
			for _, h := range handles {
				if err := h.Wait(t.Context()); errors.Is(err, syncqueue.ErrFull) {
					full++
				} else if err != nil {
					t.Error(err)
				}
			}
			if full != 1 {
				t.Fatalf("try %d: %d refused", try, full)
			}
			if err := l.Do(t.Context(), k1, nop, syncqueue.MaxPending(2, "d")); err != nil {
				t.Fatalf("try %d: later: %v", try, err)
			}
			checkEmpty(t, &l)
		}
	})
	bubble(t, "queue-14 MaxPending 0", func(t *testing.T) {
		var l syncqueue.Local
		gate := make(chan struct{})
		f := func(context.Context) error { <-gate; return nil }
		one := func(d string) *syncqueue.Handle { return l.Go(t.Context(), k1, f, syncqueue.MaxPending(0, d)) }
		first, second := one("a"), one("b")
		for _, d := range []string{"a", "b", "a"} {
			if err := one(d).Wait(t.Context()); !errors.Is(err, syncqueue.ErrFull) {
				t.Errorf("another of %s got %v", d, err)
			}
		}
		close(gate)
		if err := errors.Join(first.Wait(t.Context()), second.Wait(t.Context()), one("a").Wait(t.Context())); err != nil {
			t.Error(err)
		}
		checkEmpty(t, &l)
	})
	bubble(t, "queue-15 Coalesce", testCoalesce)
	bubble(t, "queue-15 joined callers leave one by one", testCoalesceLeave)
	bubble(t, "queue-17 backlog", testBacklog)
}

func testCoalesce(t *testing.T) {
	var l syncqueue.Local
	runs := 0
	gate := make(chan struct{})
	refresh := func(context.Context) error {
		runs++
		<-gate
		return fmt.Errorf("run %d", runs)
	}
	first := l.Go(t.Context(), k1, refresh, syncqueue.Coalesce("r"))
	synctest.Wait()
	errs := make([]error, 100)
	for i := range errs {
		if i%2 == 0 {
			h := l.Go(t.Context(), k1, refresh, syncqueue.Coalesce("r"))
			go func() { errs[i] = h.Wait(t.Context()) }()
			continue
		}
		go func() { errs[i] = l.Do(t.Context(), k1, refresh, syncqueue.Coalesce("r")) }()
		synctest.Wait()
	}
	synctest.Wait()
	if s := l.Stats()[0]; s.Running != 1 || s.Pending != 1 {
		t.Errorf("stats %+v", s)
	}
	close(gate)
	synctest.Wait()
	if err := first.Wait(t.Context()); err == nil || err.Error() != "run 1" || runs != 2 {
		t.Errorf("%d runs, first got %v", runs, err)
	}
	for i, err := range errs {
		if err == nil || err.Error() != "run 2" || err != errs[0] {
			t.Errorf("caller %d got %v", i, err)
		}
	}
	checkEmpty(t, &l)
}

func testCoalesceLeave(t *testing.T) {
	for _, running := range []bool{false, true} {
		var l syncqueue.Local
		release := func() {}
		if !running {
			release = block(t, &l, k1)
		}
		ran, cause := false, error(nil)
		f := func(ctx context.Context) error {
			ran = true
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}
		var cancels []context.CancelCauseFunc
		var left atomic.Int32
		pendingBefore := block(t, &l, k2)
		for i := range 4 { // ways to leave: ctx of Do, ctx of Go, Cancel
			ctx, cancel := context.WithCancelCause(t.Context())
			k := k1
			if running {
				k = k2 // behind a blocker until all have joined
			}
			if i == 0 {
				go func() {
					if err := l.Do(ctx, k, f, syncqueue.Coalesce("c")); err == errBoom {
						left.Add(1)
					}
				}()
			} else {
				h := l.Go(ctx, k, f, syncqueue.Coalesce("c"))
				if i == 3 {
					cancel = func(error) { h.Cancel() }
				}
				go func() {
					if err := h.Wait(t.Context()); err == errBoom || i == 3 && err == context.Canceled {
						left.Add(1)
					}
				}()
			}
			cancels = append(cancels, cancel)
			synctest.Wait()
		}
		pendingBefore()
		synctest.Wait()
		for i, cancel := range cancels {
			if ran != running || cause != nil {
				t.Errorf("before leave %d: ran %v, cause %v", i, ran, cause)
			}
			cancel(errBoom)
			synctest.Wait()
			if n := left.Load(); int(n) != i+1 {
				t.Errorf("after leave %d: %d callers returned", i, n)
			}
		}
		if running != (cause != nil) {
			t.Errorf("the last has left: cause %v", cause)
		}
		if len(l.Tasks(k1)) > 1 || len(l.Tasks(k2)) != 0 {
			t.Errorf("tasks left: %+v %+v", l.Tasks(k1), l.Tasks(k2))
		}
		release()
		if ran != running {
			t.Error("a dropped task ran")
		}
		checkEmpty(t, &l)
	}
}

func testBacklog(t *testing.T) {
	l, log := local()
	fill := func(n int) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { l.Go(t.Context(), k1, nop) })
		}
		wg.Wait()
	}
	for round := range 2 {
		release := block(t, l, k1)
		fill(60)
		if s, w := l.Stats()[0], log.lines("backlog"); s.Pending != 60 || len(w) != 2*round+1 || !strings.Contains(w[len(w)-1], "pending=50") {
			t.Errorf("pending %d, warnings %q", s.Pending, w)
		}
		fill(190)
		if w := log.lines("backlog"); len(w) != 2*round+2 || !strings.Contains(w[len(w)-1], "pending=250") || !strings.Contains(w[0], "key=vm/1") {
			t.Errorf("warnings %q", w)
		}
		release()
		synctest.Wait()
		checkEmpty(t, l)
	}
	release := block(t, l, k1) // drained below half without going idle
	ctx, cancel := context.WithCancel(t.Context())
	for range 50 {
		l.Go(ctx, k1, nop)
	}
	cancel()
	synctest.Wait()
	fill(50)
	if w := log.lines("backlog"); len(w) != 6 {
		t.Errorf("warnings %q", w)
	}
	release()
}

func TestSpecSingle(t *testing.T) {
	bubble(t, "queue-18 100 callers, one run", func(t *testing.T) {
		var l syncqueue.Local
		var answers atomic.Int32
		runs := 0
		for range 100 {
			go func() {
				r, err := syncqueue.Single(t.Context(), &l, k1, func(context.Context) (*int, error) {
					runs++
					time.Sleep(time.Second)
					return &runs, errBoom
				})
				if r == &runs && err == errBoom {
					answers.Add(1)
				}
			}()
		}
		time.Sleep(time.Second / 2)
		synctest.Wait()
		if _, err := syncqueue.Single(t.Context(), &l, k1, func(context.Context) (string, error) { return "", nil }); !errors.Is(err, syncqueue.ErrInvalid) {
			t.Errorf("another result type got %v", err)
		}
		synctest.Wait()
		if runs != 1 || answers.Load() != 100 {
			t.Errorf("%d runs, %d equal answers", runs, answers.Load())
		}
		checkEmpty(t, &l)
	})
	bubble(t, "queue-20 panic and exit", func(t *testing.T) { testSingleEnds(t) })
	bubble(t, "queue-21 callers leave", testSingleLeave)
}

func testSingleLeave(t *testing.T) {
	var l syncqueue.Local
	type seen struct{}
	var runs []error
	f := func(ctx context.Context) (int, error) {
		if ctx.Value(seen{}) == nil {
			t.Error("the first caller's values are missing")
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			time.Sleep(time.Second) // slow to end
		}
		runs = append(runs, context.Cause(ctx))
		return len(runs), ctx.Err()
	}
	call := func(ctx context.Context) (int, error) {
		return syncqueue.Single(context.WithValue(ctx, seen{}, 1), &l, k1, f)
	}
	first, cancel := context.WithTimeoutCause(t.Context(), time.Second, errBoom)
	defer cancel()
	go func() {
		if _, err := call(first); !errors.Is(err, errBoom) {
			t.Errorf("the first caller got %v", err)
		}
	}()
	synctest.Wait()
	if n, err := call(t.Context()); n != 1 || err != nil {
		t.Errorf("the second caller got %d, %v", n, err)
	}
	brief, leave := context.WithCancelCause(t.Context())
	for range 3 {
		go func() {
			if _, err := call(brief); err != errBoom {
				t.Errorf("a leaving caller got %v", err)
			}
		}()
	}
	time.Sleep(time.Second)
	leave(errBoom)
	synctest.Wait()
	if n, err := call(t.Context()); n != 3 || err != nil || len(runs) != 3 || runs[1] != errBoom {
		t.Errorf("after all have left: %d, %v, runs %v", n, err, runs)
	}
	checkEmpty(t, &l)
}
