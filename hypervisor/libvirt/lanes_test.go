package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// each runs f a number of times at once and gives the errors, in no order.
func each(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	return errs
}

func TestConnections(t *testing.T) {
	bubble(t, "virt-07 a hundred first calls", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		for _, err := range each(100, func(i int) error {
			if i%2 == 0 {
				return d.Pause(t.Context(), fakeID(1))
			}
			_, err := d.Get(t.Context(), fakeID(1))
			return err
		}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if f.dialled() != 2 || f.count(rpc.ConnectDomainEventCallbackRegisterAny) != 2 || f.count(rpc.ConnectGetCapabilities) != 1 ||
			f.count(rpc.ConnectGetLibVersion) > 2 {
			t.Errorf("dials %d, asked %v", f.dialled(), f.asked)
		}
	})
	bubble(t, "virt-07 a daemon that is down for ten seconds", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.refuses(true)
		for range 1000 {
			if err := d.Ping(t.Context()); !errors.Is(err, hypervisor.ErrGone) || errors.Is(err, hypervisor.ErrOutcomeUnknown) {
				t.Fatal(err)
			}
			_ = d.Pause(t.Context(), fakeID(1))
			time.Sleep(10 * time.Millisecond)
		}
		if n := f.dialled(); n > 12 || n < 5 {
			t.Errorf("%d dials", n)
		}
		if s := d.Status(); s.State != libvirt.Lost || s.Cause == "" {
			t.Errorf("%+v", s)
		}
	})
	bubble(t, "virt-04 a spare connection behind slow changes", func(t *testing.T, f *fake, d *libvirt.Driver) {
		for i := range byte(9) {
			f.set(fmt.Sprint("vm", i), fakeDomain{uuid: i, state: 1, id: int32(i)})
		}
		f.on(rpc.DomainSuspend, func(r rpc.Reply) (rpc.Args, error) {
			if dom := r.Dom(); dom.UUID[15] < 4 {
				return nil, errNoReply // a hung guest
			}
			return nil, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var hung sync.WaitGroup
		for i := range byte(4) {
			hung.Go(func() { _ = d.Pause(ctx, fakeID(i)) })
		}
		synctest.Wait()
		start := time.Now()
		short, done := context.WithTimeout(t.Context(), time.Second)
		if err := d.Pause(short, fakeID(5)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, hypervisor.ErrOutcomeUnknown) || time.Since(start) != time.Second {
			t.Error("one that waits leaves with its context:", err, time.Since(start))
		}
		done()
		if err := d.Pause(t.Context(), fakeID(6)); err != nil || time.Since(start) > 2100*time.Millisecond {
			t.Error(err, time.Since(start))
		}
		if _, err := d.Get(t.Context(), fakeID(0)); err != nil {
			t.Error(err)
		}
		if n := f.dialled(); n != 3 {
			t.Errorf("%d dials", n)
		}
		if s := d.Status(); len(s.Calls) != 4 || len(s.Connections) != 3 || s.Calls[0].Op != "pause" {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Minute)
		if s := d.Status(); len(s.Connections) != 2 {
			t.Errorf("an idle spare connection stays: %+v", s)
		}
		cancel()
		hung.Wait()
	})
	bubble(t, "hyp-24 close with calls in flight", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		if err := d.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.deafen(true)
		answers := make(chan []error, 1)
		go func() {
			answers <- each(20, func(i int) error {
				if i%2 == 0 {
					return d.Pause(t.Context(), fakeID(1))
				}
				_, err := d.List(t.Context(), hypervisor.Filter{})
				return err
			})
		}()
		synctest.Wait()
		start := time.Now()
		if err := errors.Join(d.Close(), d.Close()); err != nil {
			t.Error(err)
		}
		for _, err := range <-answers {
			if !errors.Is(err, hypervisor.ErrClosed) {
				t.Error(err)
			}
		}
		if err := d.Ping(t.Context()); !errors.Is(err, hypervisor.ErrClosed) || time.Since(start) > time.Second {
			t.Error(err, time.Since(start))
		}
	})
	bubble(t, "virt-22 a change is sent once, a read twice", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		if _, err := d.Get(t.Context(), fakeID(1)); err != nil {
			t.Fatal(err)
		}
		cut := func(rpc.Reply) (rpc.Args, error) {
			for _, c := range f.conns {
				_ = c.Close()
			}
			f.conns = nil
			return nil, errNoReply
		}
		f.on(rpc.DomainSuspend, cut)
		if err := d.Pause(t.Context(), fakeID(1)); !errors.Is(err, hypervisor.ErrGone) || !errors.Is(err, hypervisor.ErrOutcomeUnknown) {
			t.Error(err)
		}
		if n := f.count(rpc.DomainSuspend); n != 1 {
			t.Errorf("sent %d times", n)
		}
		synctest.Wait()
		first := true
		f.on(rpc.ConnectGetLibVersion, func(r rpc.Reply) (rpc.Args, error) {
			if first {
				first = false
				return cut(r)
			}
			return rpc.Args{}.U64(1), nil
		})
		if err := d.Ping(t.Context()); err != nil || f.count(rpc.ConnectGetLibVersion) != 2 {
			t.Error(err, f.count(rpc.ConnectGetLibVersion))
		}
	})
	bubble(t, "virt-01 a change that is not answered in time", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		f.on(rpc.DomainSuspend, func(rpc.Reply) (rpc.Args, error) { return nil, errLate })
		start := time.Now()
		err := d.Pause(within(t, 300*time.Millisecond), fakeID(1))
		if !errors.Is(err, hypervisor.ErrTimeout) || !errors.Is(err, hypervisor.ErrOutcomeUnknown) || time.Since(start) != 300*time.Millisecond {
			t.Error(err, time.Since(start))
		}
		time.Sleep(2 * time.Second)
		if err := d.Resume(t.Context(), fakeID(1)); err != nil {
			t.Error(err)
		}
		if s := d.Status(); s.Late != 1 || f.dialled() != 2 {
			t.Errorf("%d dials, %+v", f.dialled(), s)
		}
	})
	bubble(t, "hyp-21 a listing that fails half-way is none", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		f.on(rpc.ConnectListAllDomains, func(rpc.Reply) (rpc.Args, error) {
			if f.asked[rpc.ConnectListAllDomains] < 2 {
				return rpc.Args{}.U32(0).U32(0), nil
			}
			return nil, &rpc.RemoteError{Code: 1, Domain: 10}
		})
		if vms, err := d.List(t.Context(), hypervisor.Filter{}); vms != nil || !errors.Is(err, hypervisor.ErrInternal) {
			t.Error(vms, err)
		}
	})
	bubble(t, "another host answers", func(t *testing.T, f *fake, _ *libvirt.Driver) {
		d, err := libvirt.New(libvirt.Config{URI: "qemu:///session", Dial: f.dial, HostID: fakeID(1)})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Ping(t.Context()); !errors.Is(err, hypervisor.ErrWrongHost) || !errors.Is(err, hypervisor.ErrGone) {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestErrors(t *testing.T) {
	const rpcDomain, remoteDomain, qemuDomain, testDomain = 7, 13, 10, 12
	everywhere := []int32{rpcDomain, remoteDomain, qemuDomain, testDomain}
	type row struct {
		class   error
		domains []int32
		codes   []int32
	}
	for _, r := range []row{
		{hypervisor.ErrNotFound, everywhere, []int32{42, 43, 49, 50, 53, 62, 66, 72, 80, 99, 101, 103, 104, 107, 108}},
		{hypervisor.ErrExists, everywhere, []int32{28, 37, 76, 90, 106}},
		{hypervisor.ErrState, everywhere, []int32{55, 77, 109}},
		{hypervisor.ErrBusy, everywhere, []int32{83, 87, 68}},
		{hypervisor.ErrTimeout, everywhere, []int32{86}},
		{hypervisor.ErrAborted, everywhere, []int32{78}},
		{hypervisor.ErrGone, everywhere, []int32{4, 5, 6, 40, 85, 95, 98}},
		{hypervisor.ErrGone, []int32{rpcDomain, remoteDomain}, []int32{1, 38, 39}},
		{hypervisor.ErrUnsupported, everywhere, []int32{3, 26, 67, 74, 84, 91}},
		{hypervisor.ErrIncompatible, everywhere, []int32{91}},
		{hypervisor.ErrInvalid, everywhere, []int32{7, 8, 16, 17, 18, 19, 20, 21, 22, 23, 27, 35, 44, 82, 92}},
		{hypervisor.ErrDenied, everywhere, []int32{29, 45, 79, 88, 94}},
		{hypervisor.ErrMigration, everywhere, []int32{69, 81, 93}},
		{hypervisor.ErrNoResources, everywhere, []int32{2}},
		{hypervisor.ErrInternal, []int32{qemuDomain}, []int32{1, 9, 38, 39, 999}},
	} {
		bubble(t, "virt-08 "+r.class.Error(), func(t *testing.T, f *fake, d *libvirt.Driver) {
			f.set("a", on)
			for _, domain := range r.domains {
				for _, code := range r.codes {
					f.on(rpc.DomainSuspend, func(rpc.Reply) (rpc.Args, error) {
						return nil, &rpc.RemoteError{Code: code, Domain: domain, Message: "x"}
					})
					err := d.Pause(t.Context(), fakeID(1))
					var e *hypervisor.Error
					if !errors.Is(err, r.class) || !errors.As(err, &e) || e.Code != int(code) || e.Domain != int(domain) || e.Op != "pause" || e.VM != fakeID(1) || e.Host != fakeHost {
						t.Errorf("code %d of domain %d: %#v", code, domain, err)
					}
					if errors.Is(err, hypervisor.ErrOutcomeUnknown) || r.class != hypervisor.ErrGone && errors.Is(err, hypervisor.ErrGone) {
						t.Errorf("code %d of domain %d: %v", code, domain, err)
					}
				}
			}
		})
	}
	bubble(t, "virt-08 a read that finds the job locked is out of time", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.on(rpc.DomainLookupByUUID, func(rpc.Reply) (rpc.Args, error) { return nil, &rpc.RemoteError{Code: 68, Domain: qemuDomain} })
		if _, err := d.Get(t.Context(), fakeID(1)); !errors.Is(err, hypervisor.ErrTimeout) {
			t.Error(err)
		}
	})
}
