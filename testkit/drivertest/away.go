package drivertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/drover-cloud/drover/servicegroup"
)

// quick makes a call that must end with its context, whatever the server does.
func (r *rig) quick(op string, f func(ctx context.Context) error) error {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 500*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := f(ctx)
	if took := time.Since(begin); took > 5*time.Second {
		r.Errorf("%s took %v", op, took)
	}
	return err
}

// unanswered: every call of a joined member is an error, in time, and no answer.
func (r *rig) unanswered(m servicegroup.Member) {
	r.Helper()
	for end := time.Now().Add(r.Settle); ; { // a driver may answer from what it has, but not for long
		err := r.quick("list", func(ctx context.Context) error {
			all, err := r.d.Members(ctx, testGroup)
			if m, ok := find(all, "n1"); err == nil && (!ok || !present(m)) {
				r.Errorf("a server that cannot answer says %+v", all)
			}
			return err
		})
		if err != nil {
			break
		}
		if time.Now().After(end) {
			r.Fatal("list: no error")
		}
	}
	for op, f := range map[string]func(ctx context.Context) error{
		"beat": func(ctx context.Context) error { return r.d.Beat(ctx, m) },
		"join": func(ctx context.Context) error { _, err := r.d.Join(ctx, record("n9", "i9")); return err },
	} {
		err := r.quick(op, f)
		if err == nil || errors.Is(err, servicegroup.ErrFenced) || errors.Is(err, servicegroup.ErrGone) {
			r.Errorf("%s: %v", op, err)
		}
	}
}

// recovered: the member is in the group again by itself, or by the join that ErrGone asks for.
func (r *rig) recovered(m servicegroup.Member) {
	r.Helper()
	for end := time.Now().Add(r.Settle + 10*time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := r.quick("beat", func(ctx context.Context) error { return r.d.Beat(ctx, m) })
		if errors.Is(err, servicegroup.ErrGone) {
			m, err = r.d.Join(r.ctx(), m)
		}
		if err == nil {
			break
		}
		if errors.Is(err, servicegroup.ErrFenced) || time.Now().After(end) {
			r.Fatalf("after the server is back: %v", err)
		}
	}
	r.Settle += 10 * time.Second
	r.here(r.d, "n1")
}

func serverAway(r *rig)  { r.without(r.Down, "stopped") }
func serverHangs(r *rig) { r.without(r.Hang, "made to hang") }

// without takes the server away from a member, and gives it back.
func (r *rig) without(fault func(t testing.TB), what string) {
	if fault == nil {
		r.Skip("this server cannot be " + what)
	}
	m := r.join("n1", "i1")
	r.here(r.d, "n1")
	fault(r)
	r.unanswered(m)
	r.Back(r)
	r.recovered(m)
}
