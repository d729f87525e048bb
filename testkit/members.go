package testkit

import (
	"context"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/internal/testkit/sched"
	"github.com/drover-cloud/drover/servicegroup"
)

// Members is the world's membership driver: every call is a scheduling point, and meets the faults of the store.
func (s *stores) Members() servicegroup.Driver { return members{s} }

type members struct{ s *stores }

// driver has all optional abilities.
type driver interface {
	servicegroup.Driver
	servicegroup.Watcher
	servicegroup.Marker
	servicegroup.Forgetter
}

// reach is one operation on the world's driver.
func reach[R any](m members, ctx context.Context, op, key string, f func(d driver) (R, error)) (r R, err error) {
	d, ok := m.s.life.node.w.db.Members().(driver)
	if !ok {
		return r, errors.New("testkit: membership driver without all abilities")
	}
	return outside(m.s, ctx, op, key, func() (R, error) { return f(d) })
}

// outside is one operation outside of transactions.
func outside[R any](s *stores, ctx context.Context, op, key string, f func() (R, error)) (r R, err error) {
	w, p := s.life.node.w, s.life.p
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	g := w.s.Self(p)
	v := p.Yield(g, ctx, op, key, false)
	if v.Kind == sched.Fail {
		return r, v.Err
	}
	r, err = f()
	if v.Kind == sched.DieAfter {
		s.die(op)
		return r, ErrCrashed
	}
	if v.Kind == sched.FailAfter {
		err = v.Err
	}
	w.s.Result(g, "", err)
	switch { // the node hears of it when it can
	case s.life.node.cut.any():
		if lost := p.Held(g, ctx, heldStore); lost != nil {
			return r, lost
		}
	case p.Frozen():
		err = errors.Join(err, p.Held(g, nil, heldStore))
	}
	if err != nil {
		var none R
		return none, err
	}
	return r, nil
}

func (m members) Join(ctx context.Context, x servicegroup.Member) (servicegroup.Member, error) {
	return reach(m, ctx, opMembers+"join", x.ID, func(d driver) (servicegroup.Member, error) { return d.Join(ctx, x) })
}

// act is an operation that answers nothing.
func (m members) act(ctx context.Context, op, key string, f func(d driver) error) error {
	_, err := reach(m, ctx, op, key, func(d driver) (struct{}, error) { return struct{}{}, f(d) })
	return err
}

func (m members) Beat(ctx context.Context, x servicegroup.Member) error {
	return m.act(ctx, opMembers+"beat", x.ID, func(d driver) error { return d.Beat(ctx, x) })
}

func (m members) Leave(ctx context.Context, x servicegroup.Member) error {
	return m.act(ctx, opMembers+"leave", x.ID, func(d driver) error { return d.Leave(ctx, x) })
}

func (m members) Members(ctx context.Context, group string) ([]servicegroup.Member, error) {
	return reach(m, ctx, opMembers+"list", group, func(d driver) ([]servicegroup.Member, error) { return d.Members(ctx, group) })
}

func (m members) Mark(ctx context.Context, group, id string, x servicegroup.Mark) error {
	return m.act(ctx, opMembers+"mark", id, func(d driver) error { return d.Mark(ctx, group, id, x) })
}

func (m members) Forget(ctx context.Context, group, id string, ban bool) error {
	return m.act(ctx, opMembers+"forget", fmt.Sprintf("%s ban=%v", id, ban), func(d driver) error { return d.Forget(ctx, group, id, ban) })
}
