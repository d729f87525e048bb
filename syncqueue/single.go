package syncqueue

import (
	"context"
	"fmt"
)

// Single runs f once for all callers of k that come while it runs, and gives all of them its result and error, so R should
// not be changed by who gets it. The run has the values of the first caller's ctx and is cancelled when all callers have
// left; a panic, or the end of its goroutine, is everybody's *drover.PanicError. Its keys are apart from Do's. Callers of
// one key must agree on R, else ErrInvalid. The other errors are Do's.
func Single[R any](ctx context.Context, l *Local, k Key, f func(context.Context) (R, error)) (r R, err error) {
	if _, err := l.admit(ctx, k, f != nil, nil); err != nil {
		return r, err
	}
	if k == (Key{}) {
		return f(ctx)
	}
	held := heldBy(ctx)
	if held.holds(l, k, true) {
		return r, fmt.Errorf("%w: %s", ErrReentrant, k)
	}
	for {
		box := new(R)
		t := &task{l: l, key: k, held: held, own: true, single: true, shared: true, x: &extra{box: box}, w: &watched{waiters: 1}}
		t.f = func(ctx context.Context) (err error) {
			*box, err = f(ctx)
			return err
		}
		h, joined, err := l.fly(ctx, t)
		if err != nil {
			return r, err
		}
		if !joined { // abandoned by all: wait for its end, then run anew
			if ended, err := h.wait(ctx); !ended {
				return r, err
			}
			continue
		}
		ended, err := h.waitOrLeave(ctx)
		if !ended {
			return r, err
		}
		got, ok := h.t.x.box.(*R)
		if !ok {
			return r, fmt.Errorf("%w: Single of %s gives %T, not %T", ErrInvalid, k, h.t.x.box, box)
		}
		return *got, err
	}
}

// fly joins the run of t's key, or starts t as a new one. Not joined: the run was cancelled and is still ending.
func (l *Local) fly(ctx context.Context, t *task) (h *Handle, joined bool, err error) {
	t.since = l.env.Clock.Now()
	t.parent = context.WithoutCancel(ctx)
	t.state = running
	sh := l.shard(t.key)
	sh.mu.Lock()
	if run := sh.singles[t.key]; run != nil {
		joined = run.w.waiters > 0
		if joined {
			run.w.waiters++
		}
		sh.mu.Unlock()
		return &Handle{t: run, part: new(part)}, joined, nil
	}
	if err := l.take(); err != nil {
		sh.mu.Unlock()
		return nil, false, l.refuse(t.key, err)
	}
	if sh.singles == nil {
		sh.singles = map[Key]*task{}
	}
	sh.singles[t.key] = t
	sh.mu.Unlock()
	l.entered(t.key, true, 0)
	t.handle.t, t.handle.part = t, new(part)
	l.spawn(t)
	return &t.handle, true, nil
}
