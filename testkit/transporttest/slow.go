package transporttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/bus"
)

// slowConsumer: a node that takes its time delays nobody else, and is never given more than it has room for; what was accepted for it
// runs once, or is counted where the transport drops it.
func slowConsumer(r *rig) {
	const casts, events = 300, 3000
	release := make(chan struct{})
	var ran tally
	slow := r.start("slow", func(c *bus.Config) { c.Workers, c.Queue = 2, 8 }, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
		<-release
		ran.add(string(m.Body))
		return nil, nil
	}))
	var told, missed atomic.Int64
	last := make(chan struct{})
	slow.Subscribe("ev", func(_ context.Context, e bus.Event) {
		<-release
		told.Add(1)
		missed.Add(e.Missed)
		if string(e.Data) == fmt.Sprint(events-1) {
			close(last)
		}
	})
	var heard atomic.Int64
	ok := r.start("ok", nil, serving("other", echo))
	ok.Subscribe("ev", func(_ context.Context, e bus.Event) { heard.Add(1 + e.Missed) })
	r.ok(slow.Ready(context.Background()))
	r.ok(ok.Ready(context.Background()))
	a := r.start("a", nil)

	accepted := 0
	worst := time.Duration(0)
	for i := range casts {
		began := time.Now()
		err := a.Cast(context.Background(), &bus.Message{Topic: "svc", Node: "slow", Body: []byte(fmt.Sprint(i))})
		worst = max(worst, time.Since(began))
		if err == nil {
			accepted++
		} else if !errors.Is(err, bus.ErrBusy) {
			r.Fatalf("cast %d: %v", i, err)
		}
	}
	for i := range events {
		r.ok(a.Publish(context.Background(), nil, bus.Event{Subject: "ev", Data: []byte(fmt.Sprint(i))}))
		if i%500 == 0 {
			r.call(a, msg("other", "x"), "x", bus.Timeout(5*time.Second)) // in time, whoever else is slow
		}
	}
	r.eventually(20*time.Second, "a listener that keeps up hears all", func() bool { return heard.Load() == events })
	if s := slow.Stats(); s.Queue > 8 || s.Running > 2 {
		r.Errorf("the slow node holds more than it has room for: %+v", s)
	}
	if r.virtual && worst > 0 {
		r.Errorf("a sender waited %v", worst)
	}
	close(release)
	<-last
	if n := told.Load() + missed.Load(); n != events || missed.Load() == 0 {
		r.Errorf("the slow listener heard %d and missed %d of %d", told.Load(), missed.Load(), events)
	}
	r.eventually(30*time.Second, "what was accepted is run, or counted as dropped", func() bool {
		return ran.total()+int(slow.Stats().Rejected) >= accepted
	})
	r.settle()
	if n := ran.total(); r.virtual && n != accepted {
		r.Errorf("%d of %d accepted casts ran", n, accepted)
	}
	for i := range casts {
		if n := ran.of(fmt.Sprint(i)); n > 1 {
			r.Errorf("cast %d ran %d times", i, n)
		}
	}
	r.call(a, &bus.Message{Topic: "svc", Node: "slow", Body: []byte("at last")}, "", bus.Retry(quick), bus.Timeout(20*time.Second))
}

// flood keeps calling as long as the check lasts.
func (r *rig) flood(a *node, topic string, callers int) (stop func() (good int64)) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	var good atomic.Int64
	for w := range callers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if _, err := a.Call(context.Background(), msg(topic, fmt.Sprint(w, " ", i)), bus.Timeout(2*time.Second)); err == nil {
					good.Add(1)
				}
			}
		})
	}
	return func() int64 {
		close(end)
		wg.Wait()
		return good.Load()
	}
}
