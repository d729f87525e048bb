package drivertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

// ear listens to a driver's events.
type ear struct {
	mu     sync.Mutex
	events []hypervisor.Event
	news   chan struct{}
	stop   func()
	ended  chan error
}

// hear listens until the test ends; each, if there is one, is called in the listener.
func hear(t testing.TB, d hypervisor.Eventer, each func(hypervisor.Event)) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e := &ear{news: make(chan struct{}, 1), stop: cancel, ended: make(chan error, 1)}
	go func() {
		e.ended <- d.Events(ctx, func(v hypervisor.Event) {
			e.mu.Lock()
			e.events = append(e.events, v)
			e.mu.Unlock()
			select {
			case e.news <- struct{}{}:
			default:
			}
			if each != nil {
				each(v)
			}
		})
		close(e.ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-e.ended
	})
	return e
}

func (e *ear) all() []hypervisor.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events)
}

// until waits for what ok wants of the events so far.
func (e *ear) until(t testing.TB, what string, ok func([]hypervisor.Event) bool) []hypervisor.Event {
	t.Helper()
	for late := time.After(30 * time.Second); ; {
		if all := e.all(); ok(all) {
			return all
		}
		select {
		case <-e.news:
		case err := <-e.ended:
			t.Fatalf("events ended: %v", err)
		case <-late:
			t.Fatalf("no %s: %+v", what, e.all())
		}
	}
}

func has(kind hypervisor.EventKind) func([]hypervisor.Event) bool {
	return func(all []hypervisor.Event) bool {
		return slices.ContainsFunc(all, func(v hypervisor.Event) bool { return v.Kind == kind })
	}
}

func eventer(t *testing.T, d hypervisor.Driver) hypervisor.Eventer {
	e, able := d.(hypervisor.Eventer)
	if !able {
		t.Skip("this driver tells no events")
	}
	return e
}

func hypEvents(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	broken := false
	e := hear(t, eventer(t, d), func(v hypervisor.Event) {
		if v.Kind == hypervisor.EventStarted && !broken {
			broken = true
			panic("a listener's own affair")
		}
	})
	e.until(t, "synced", has(hypervisor.EventSynced))
	define(t, d, spec(vmA, "a"))
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{}))
	want := []hypervisor.EventKind{hypervisor.EventSynced, hypervisor.EventDefined, hypervisor.EventStarted}
	if p, able := d.(hypervisor.Pauser); able {
		ok(t, p.Pause(ctx, vmA))
		ok(t, p.Resume(ctx, vmA))
		want = append(want, hypervisor.EventPaused, hypervisor.EventResumed)
	}
	ok(t, d.Stop(ctx, vmA, hypervisor.StopOptions{}))
	ok(t, d.Undefine(ctx, vmA))
	want = append(want, hypervisor.EventStopped, hypervisor.EventUndefined)
	all := e.until(t, "undefined", has(hypervisor.EventUndefined))
	var kinds []hypervisor.EventKind
	for i, v := range all {
		if v.Seq != int64(i+1) || v.Kind != hypervisor.EventSynced && v.VM.ID != vmA {
			t.Errorf("event %d: %+v", i, v)
		}
		kinds = append(kinds, v.Kind)
	}
	if !slices.Equal(kinds, want) {
		t.Fatalf("events %v, want %v", kinds, want)
	}
	e.stop()
	if err := <-e.ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	define(t, d, spec(vmB, "b"))
	if more := e.all(); len(more) != len(all) {
		t.Errorf("told after its end: %+v", more[len(all):])
	}
	second := hear(t, d.(hypervisor.Eventer), nil)
	all = second.until(t, "synced", has(hypervisor.EventSynced))
	if len(all) != 2 || all[0].Kind != hypervisor.EventSync || all[0].VM.ID != vmB {
		t.Errorf("a second listener heard %+v", all)
	}
}

// hypSlow: what a slow consumer misses is replaced by the present, and nobody else notices.
func hypSlow(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	p, able := d.(hypervisor.Pauser)
	if !able {
		t.Skip("this driver does not pause")
	}
	held, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	open := func() { once.Do(func() { close(gate) }) }
	e := hear(t, eventer(t, d), func(v hypervisor.Event) {
		if v.Kind == hypervisor.EventStarted {
			close(held)
			<-gate
		}
	})
	t.Cleanup(open)
	e.until(t, "synced", has(hypervisor.EventSynced))
	define(t, d, spec(vmA, "a"))
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{}))
	<-held
	for range 530 { // more than the 1024 that are buffered
		ok(t, p.Pause(ctx, vmA))
		ok(t, p.Resume(ctx, vmA))
	}
	open()
	all := e.until(t, "resync and what follows", func(all []hypervisor.Event) bool {
		at := slices.IndexFunc(all, func(v hypervisor.Event) bool { return v.Kind == hypervisor.EventResync })
		return at >= 0 && has(hypervisor.EventSynced)(all[at:])
	})
	at := slices.IndexFunc(all, func(v hypervisor.Event) bool { return v.Kind == hypervisor.EventResync })
	if after := all[at+1:]; after[0].Kind != hypervisor.EventSync || after[0].VM.ID != vmA || after[0].VM.Power != hypervisor.On {
		t.Errorf("after the resync: %+v", after)
	}
}

// hypClose: calls in flight end with the driver.
func hypClose(t *testing.T, d hypervisor.Driver) {
	c, able := d.(interface{ Close() error })
	if !able {
		t.Skip("this driver is not closed")
	}
	define(t, d, spec(vmA, "a"))
	answers, under := make(chan error, 20), make(chan struct{}, 20)
	for i := range 20 {
		go func() {
			var err error
			for n := 0; err == nil; n++ {
				if n == 1 {
					under <- struct{}{}
				}
				if i%2 == 0 {
					err = d.Stop(context.Background(), vmA, hypervisor.StopOptions{})
				} else {
					_, err = d.Get(context.Background(), vmA)
				}
			}
			answers <- err
		}()
	}
	for range 20 {
		<-under
	}
	ok(t, c.Close())
	for range 20 {
		select {
		case err := <-answers:
			is(t, err, hypervisor.ErrClosed)
		case <-time.After(10 * time.Second):
			t.Fatal("a call outlives the driver")
		}
	}
	ok(t, c.Close())
	is(t, d.Start(t.Context(), vmA, hypervisor.StartOptions{}), hypervisor.ErrClosed)
}
