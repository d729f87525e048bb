package agent_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/drover-cloud/drover/agent"
)

// gauge is how much of something there is at once.
type gauge struct{ now, most int }

func (g *gauge) add(d int) {
	g.now += d
	g.most = max(g.most, g.now)
}

func blackHole(l *lab) {
	const hosts, calls, rtt = 50, 8, 10 * time.Millisecond
	n := l.node("n1", nil)
	var mu sync.Mutex
	total, per := gauge{}, map[string]*gauge{}
	dead := ""
	l.break_(func(r *http.Request) error {
		if r.URL.Host == "n1" {
			return nil
		}
		mu.Lock()
		if per[r.URL.Host] == nil {
			per[r.URL.Host] = &gauge{}
		}
		total.add(1)
		per[r.URL.Host].add(1)
		hole := r.URL.Host == dead
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			total.add(-1)
			per[r.URL.Host].add(-1)
		}()
		if hole {
			return hang(r)
		}
		time.Sleep(rtt)
		return nil
	})
	for i := range hosts {
		l.host(fmt.Sprint("h", i), nil, echo)
	}
	// Each host gets three times as many calls as it has slots, all at once.
	slowest := func() (most time.Duration) {
		var wg sync.WaitGroup
		for i := range hosts {
			for range 3 * calls {
				wg.Go(func() {
					began := time.Now()
					_, err := agent.Call[int](bg, n.Client, fmt.Sprintf("http://h%d/echo", i), 1, agent.Timeout(20*time.Second))
					mu.Lock()
					hole := fmt.Sprint("h", i) == dead
					mu.Unlock()
					if hole {
						if !errors.Is(err, agent.ErrTimeout) && !errors.Is(err, agent.ErrNotSent) {
							l.Errorf("the dead host: %v", err)
						}
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if most = max(most, time.Since(began)); err != nil {
						l.Error(err)
					}
				})
			}
		}
		wg.Wait()
		return most
	}
	baseline := slowest()
	mu.Lock()
	dead = "h7"
	mu.Unlock()
	if with := slowest(); with > baseline*12/10 {
		l.Errorf("the slowest call to another host took %v, %v without a dead one", with, baseline)
	}
	mu.Lock()
	for h, g := range per {
		if g.most > 8 {
			l.Errorf("%d exchanges with %s at once", g.most, h)
		}
	}
	if total.most > 512 || total.most < 300 {
		l.Errorf("%d exchanges at once", total.most)
	}
	mu.Unlock()
	time.Sleep(time.Minute) // cancels that go nowhere
	// The total binds when it is the smaller one, and hosts take turns.
	m := l.node("n2", func(c *agent.Config) { c.Total, c.Callback = 10, "http://n1" })
	mu.Lock()
	total, dead = gauge{}, ""
	mu.Unlock()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, err := agent.Post[int](bg, m.Client, fmt.Sprintf("http://h%d/echo", i%hosts), 1)
			if err != nil {
				l.Error(err)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if total.most != 10 {
		l.Errorf("%d exchanges at once, want 10", total.most)
	}
}
