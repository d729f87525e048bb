package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// ear is a listener to a driver's events.
type ear struct {
	mu     sync.Mutex
	events []hypervisor.Event
	news   chan struct{}
	stop   context.CancelFunc
	done   chan error
	each   func(hypervisor.Event)
}

// hear listens until the test ends.
func hear(t testing.TB, d hypervisor.Eventer, each func(hypervisor.Event)) *ear {
	ctx, cancel := context.WithCancel(t.Context())
	e := &ear{news: make(chan struct{}, 1), stop: cancel, done: make(chan error, 1), each: each}
	go func() { e.done <- d.Events(ctx, e.take) }()
	return e
}

func (e *ear) take(v hypervisor.Event) {
	e.mu.Lock()
	e.events = append(e.events, v)
	e.mu.Unlock()
	select {
	case e.news <- struct{}{}:
	default:
	}
	if e.each != nil {
		e.each(v)
	}
}

// heard is what came, as "kind name".
func (e *ear) heard() (list []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, v := range e.events {
		if v.Seq != int64(i+1) {
			list = append(list, fmt.Sprintf("seq %d", v.Seq))
		}
		s := string(v.Kind)
		if v.VM.Name != "" {
			s += " " + v.VM.Name
		}
		list = append(list, s)
	}
	return list
}

// fresh is what came since it was last asked, after all has come to rest.
func (e *ear) fresh() []string {
	synctest.Wait()
	list := e.heard()
	e.mu.Lock()
	e.events = nil
	e.mu.Unlock()
	for i, s := range list { // Seq goes on
		if len(s) > 4 && s[:4] == "seq " {
			list[i] = ""
		}
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

const (
	defined   = 0
	undefined = 1
	started   = 2
	suspended = 3
	resumed   = 4
	stopped   = 5
)

var (
	on      = fakeDomain{uuid: 1, state: 1, reason: 1, id: 7}
	off     = fakeDomain{uuid: 1, state: 5, reason: 1, id: -1}
	onAgain = fakeDomain{uuid: 1, state: 1, reason: 1, id: 8}
)

func TestDebounce(t *testing.T) {
	begin := func(t *testing.T, f *fake, d *libvirt.Driver) *ear {
		f.set("a", on)
		e := hear(t, d, nil)
		same(t, e.fresh(), "sync a", "synced")
		f.set("a", off)
		f.says("a", stopped, 0)
		same(t, e.fresh())
		return e
	}
	bubble(t, "virt-13 a stop is told after 15 s", func(t *testing.T, f *fake, d *libvirt.Driver) {
		e := begin(t, f, d)
		time.Sleep(14900 * time.Millisecond)
		same(t, e.fresh())
		time.Sleep(100 * time.Millisecond)
		same(t, e.fresh(), "stopped a")
		e.stop()
		if err := <-e.done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	bubble(t, "virt-13 started again after 14.9 s", func(t *testing.T, f *fake, d *libvirt.Driver) {
		e := begin(t, f, d)
		time.Sleep(14900 * time.Millisecond)
		f.set("a", onAgain)
		f.says("a", resumed, 0)
		f.says("a", started, 0)
		same(t, e.fresh(), "rebooted a")
		time.Sleep(time.Minute)
		same(t, e.fresh())
	})
	bubble(t, "virt-13 closed after 5 s", func(t *testing.T, f *fake, d *libvirt.Driver) {
		e := begin(t, f, d)
		time.Sleep(5 * time.Second)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := <-e.done; !errors.Is(err, hypervisor.ErrClosed) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		same(t, e.fresh())
	})
	bubble(t, "virt-13 on again unseen", func(t *testing.T, f *fake, d *libvirt.Driver) {
		e := begin(t, f, d)
		time.Sleep(5 * time.Second)
		f.set("a", onAgain)
		time.Sleep(time.Minute)
		same(t, e.fresh())
	})
	bubble(t, "a stop that this driver made is not held back", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		e := hear(t, d, nil)
		e.fresh()
		f.on(rpc.DomainDestroyFlags, func(rpc.Reply) (rpc.Args, error) {
			f.domains["a"] = off
			return nil, nil
		})
		if err := d.Stop(t.Context(), fakeID(1), hypervisor.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		f.says("a", stopped, 1)
		f.says("a", undefined, 0)
		same(t, e.fresh(), "stopped a", "undefined a")
	})
}

func TestEventRepairs(t *testing.T) {
	for _, c := range []struct {
		name   string
		before fakeDomain
		say    func(f *fake)
		want   []string
	}{
		{"a start says Resumed first", off, func(f *fake) { f.set("a", on); f.says("a", resumed, 0); f.says("a", started, 0) }, []string{"started a"}},
		{"a start that pauses first", off, func(f *fake) {
			f.set("a", on)
			f.says("a", started, 0)
			f.says("a", suspended, 0)
			f.says("a", resumed, 0)
		}, []string{"started a"}},
		{"paused and resumed", on, func(f *fake) { f.says("a", suspended, 0); f.says("a", resumed, 0) }, []string{"paused a", "resumed a"}},
		{"crashed", on, func(f *fake) { f.set("a", off); f.says("a", stopped, 5) }, []string{"crashed a"}},
		{"saved", on, func(f *fake) { f.set("a", off); f.says("a", stopped, 4) }, []string{"saved a"}},
		{"moved out", on, func(f *fake) {
			f.says("a", suspended, 1)
			f.set("a", off)
			f.says("a", stopped, 3)
			f.says("a", undefined, 0)
		}, []string{"moved-out a", "undefined a"}},
		{"a move out that failed", on, func(f *fake) { f.says("a", suspended, 1); f.says("a", resumed, 1) }, nil},
		{"moved in", off, func(f *fake) { f.set("a", on); f.says("a", started, 1); f.says("a", resumed, 1) }, []string{"moved-in a"}},
		{"a move in that failed", off, func(f *fake) { f.set("a", on); f.says("a", started, 1); f.set("a", off); f.says("a", stopped, 5) }, []string{"stopped a"}},
		{"a reset is said three times", on, func(f *fake) { f.saysReboot("a"); f.saysReboot("a"); f.saysReboot("a") }, []string{"rebooted a"}},
		{"defined again", on, func(f *fake) { f.says("a", defined, 1) }, []string{"defined a"}},
	} {
		bubble(t, "virt-14 "+c.name, func(t *testing.T, f *fake, d *libvirt.Driver) {
			f.set("a", c.before)
			e := hear(t, d, nil)
			same(t, e.fresh(), "sync a", "synced")
			c.say(f)
			same(t, e.fresh(), c.want...)
		})
	}
	bubble(t, "a start that stays paused is told in the end", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", off)
		e := hear(t, d, nil)
		e.fresh()
		f.set("a", on)
		f.says("a", started, 0)
		f.says("a", suspended, 0)
		same(t, e.fresh(), "started a")
		time.Sleep(5 * time.Second)
		same(t, e.fresh(), "paused a")
	})
}

func TestEventsOutage(t *testing.T) {
	bubble(t, "virt-10 the first dial fails", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.refuses(true)
		e := hear(t, d, nil)
		time.Sleep(time.Minute)
		same(t, e.fresh(), "lost")
		f.refuses(false)
		time.Sleep(10 * time.Second)
		same(t, e.fresh(), "back", "synced")
	})
	bubble(t, "virt-11 what happened meanwhile is found", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		f.set("b", fakeDomain{uuid: 2, state: 5, id: -1})
		f.set("c", fakeDomain{uuid: 3, state: 5, id: -1})
		e := hear(t, d, nil)
		e.fresh()
		f.refuses(true)
		same(t, e.fresh(), "lost")
		f.set("a", fakeDomain{uuid: 1, state: 5, reason: 3, id: -1})
		f.set("b", fakeDomain{uuid: 2, state: 1, id: 9})
		f.mu.Lock()
		delete(f.domains, "c")
		f.mu.Unlock()
		f.refuses(false)
		time.Sleep(10 * time.Second)
		same(t, e.fresh(), "back", "crashed a", "started b", "undefined c", "synced")
	})
	bubble(t, "virt-10 registration refused: the listing is polled", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.on(rpc.ConnectDomainEventCallbackRegisterAny, func(rpc.Reply) (rpc.Args, error) { return nil, &rpc.RemoteError{Code: 3, Domain: 10} })
		f.set("a", on)
		e := hear(t, d, nil)
		same(t, e.fresh(), "sync a", "synced")
		f.set("a", fakeDomain{uuid: 1, state: 3, id: 7})
		time.Sleep(10 * time.Second)
		same(t, e.fresh(), "paused a")
		time.Sleep(time.Minute)
		same(t, e.fresh())
	})
	bubble(t, "virt-03 silent, heard again; silent, lost, back", func(t *testing.T, f *fake, d *libvirt.Driver) {
		e := hear(t, d, nil)
		same(t, e.fresh(), "synced")
		f.deafen(true)
		time.Sleep(2 * time.Second)
		same(t, e.fresh(), "silent")
		if s := d.Status(); s.State != libvirt.Silent {
			t.Error(s.State)
		}
		time.Sleep(3 * time.Second)
		f.deafen(false)
		time.Sleep(time.Second)
		same(t, e.fresh(), "back")
		f.deafen(true)
		time.Sleep(15200 * time.Millisecond)
		same(t, e.fresh(), "silent", "lost")
		f.deafen(false)
		time.Sleep(10 * time.Second)
		same(t, e.fresh(), "back", "synced")
	})
	bubble(t, "hyp-23 a consumer that is slow gets the present", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		gate := make(chan struct{})
		e := hear(t, d, func(v hypervisor.Event) {
			if v.Kind == hypervisor.EventPaused {
				<-gate
			}
		})
		same(t, e.fresh(), "sync a", "synced")
		for range 2500 {
			f.says("a", suspended, 0)
			f.says("a", resumed, 0)
		}
		if err := d.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		same(t, e.fresh(), "paused a")
		close(gate)
		same(t, e.fresh(), "resync", "sync a", "synced")
		f.says("a", defined, 1)
		same(t, e.fresh(), "defined a")
	})
	bubble(t, "a panic of a listener is its own", func(t *testing.T, f *fake, d *libvirt.Driver) {
		f.set("a", on)
		once := false
		e := hear(t, d, func(hypervisor.Event) {
			if !once {
				once = true
				panic("a listener's")
			}
		})
		same(t, e.fresh(), "sync a", "synced")
	})
}
