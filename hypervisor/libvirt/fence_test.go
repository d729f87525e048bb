package libvirt_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
)

func TestFence(t *testing.T) {
	t.Parallel()
	t.Run("hyp-27 an empty host is proven so", func(t *testing.T) {
		v := open(t, daemon(t), qemu)
		id := guest(t, v, 1)
		guarded := []hypervisor.Guarded{{ID: id, Epoch: 5}, {ID: liveID(9), Epoch: 5}}
		_, err := hypervisor.ProveEmpty(t.Context(), v, guarded)
		is(t, err, hypervisor.ErrState)
		ok(t, v.Pause(t.Context(), id))
		_, err = hypervisor.ProveEmpty(t.Context(), v, guarded)
		is(t, err, hypervisor.ErrState)
		ok(t, v.Stop(t.Context(), id, hypervisor.StopOptions{}))
		e, err := hypervisor.ProveEmpty(t.Context(), v, guarded)
		ok(t, err)
		if e.Epochs[id] != 5 || e.Host == "" {
			t.Errorf("%+v", e)
		}
		is(t, v.Start(t.Context(), id, hypervisor.StartOptions{Epoch: 5}), hypervisor.ErrStaleEpoch)
		ok(t, v.Start(t.Context(), id, hypervisor.StartOptions{Epoch: 6}))
	})
	t.Run("hyp-27 a fenced guest is started by a higher epoch only", func(t *testing.T) {
		v := open(t, daemon(t), qemu)
		id := guest(t, v, 1)
		is(t, v.Fence(t.Context(), id, 5), hypervisor.ErrState)
		ok(t, v.Stop(t.Context(), id, hypervisor.StopOptions{}))
		is(t, v.Fence(t.Context(), id, 0), hypervisor.ErrStaleEpoch)
		ok(t, v.Fence(t.Context(), id, 5))
		ok(t, v.Fence(t.Context(), liveID(9), 5))
		for _, epoch := range []int64{1, 5} {
			is(t, v.Start(t.Context(), id, hypervisor.StartOptions{Epoch: epoch}), hypervisor.ErrStaleEpoch)
		}
		ok(t, v.Start(t.Context(), id, hypervisor.StartOptions{Epoch: 6}))
	})
}

func TestProbe(t *testing.T) {
	t.Parallel()
	d := daemon(t)
	v := open(t, d, testDriver)
	ok(t, v.Ping(t.Context()))
	never := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	refuses := func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", "127.0.0.1:1")
	}
	for _, c := range []struct {
		name   string
		d      *libvirt.Driver
		before func() error
		answer hypervisor.Answer
		host   hypervisor.Verdict
	}{
		{"answers", v, nil, hypervisor.Answering, hypervisor.Alive},
		{"another host", openWith(t, libvirt.Config{URI: testDriver, Socket: d.Socket, HostID: uuidA}), nil, hypervisor.WrongHost, hypervisor.Undecided},
		{"no answer to the dial", openWith(t, libvirt.Config{URI: testDriver, Dial: never}), nil, hypervisor.HostSilent, hypervisor.Undecided},
		{"tcp refused", openWith(t, libvirt.Config{URI: testDriver, Dial: refuses}), nil, hypervisor.DaemonDown, hypervisor.Undecided},
		{"stopped", v, d.Freeze, hypervisor.DaemonStuck, hypervisor.Alive},
		{"killed", v, d.Kill, hypervisor.DaemonDown, hypervisor.Alive},
	} {
		t.Run("hyp-26 "+c.name, func(t *testing.T) {
			if c.before != nil {
				ok(t, c.before())
			}
			if r := hypervisor.Probe(t.Context(), c.d, []string{liveID(1)}); r.Answer != c.answer || r.Host != c.host ||
				(r.VMs[liveID(1)].Verdict == hypervisor.GuestGone) != (c.answer == hypervisor.Answering) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestRandomOperations(t *testing.T) {
	t.Parallel()
	t.Run("hyp-20 everything at once", func(t *testing.T) {
		v := open(t, daemon(t), testDriver)
		lasts := time.Second
		if os.Getenv("DROVER_LONG") != "" {
			lasts = 10 * time.Second
		}
		for _, err := range each(50, func(worker int) error {
			draw := rand.New(rand.NewPCG(20, uint64(worker)))
			for end := time.Now().Add(lasts); time.Now().Before(end); {
				id, epoch := liveID(draw.IntN(20)), draw.Int64N(5)
				var err error
				switch draw.IntN(9) {
				case 0, 1:
					_, err = v.Define(t.Context(), hypervisor.Spec{ID: id, Name: "n" + id[30:], VCPU: 1, MemoryMiB: 32})
				case 2:
					err = v.Undefine(t.Context(), id)
				case 3:
					err = v.Start(t.Context(), id, hypervisor.StartOptions{Epoch: epoch})
				case 4:
					err = v.Stop(t.Context(), id, hypervisor.StopOptions{Epoch: epoch})
				case 5:
					err = v.Pause(t.Context(), id)
				case 6:
					err = v.Resume(t.Context(), id)
				case 7:
					_, err = v.List(t.Context(), hypervisor.Filter{IDs: []string{id}})
				case 8:
					err = v.Save(t.Context(), id)
				}
				var e *hypervisor.Error
				if err != nil && (!errors.As(err, &e) || e.Class == nil || e.Op == "" || errors.Is(err, hypervisor.ErrGone) || errors.Is(err, hypervisor.ErrInternal) && e.Code == 0) {
					return err
				}
			}
			return nil
		}) {
			ok(t, err)
		}
	})
}
