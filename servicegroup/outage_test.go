package servicegroup_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/servicegroup"
)

func TestSpecOutage(t *testing.T) {
	bubble(t, "servicegroup-13 driver unreachable for ten minutes", func(t *testing.T) {
		d := newFake()
		n, dead := start(t, d, "n1"), start(t, d, "n2")
		advance(30 * time.Second)
		d.on("leave", refuse)
		begin := time.Now()
		d.on("*", refuse)
		advance(30 * time.Second)
		_ = dead.stop() // dies meanwhile
		advance(10 * time.Second)
		n.is(t, "n2", servicegroup.Up, servicegroup.Beat)
		if !n.View().Self {
			t.Fatal("self ended too early")
		}
		for n.View().Self {
			advance(time.Second)
		}
		if out := time.Since(begin); out < 40*time.Second || out > 51*time.Second {
			t.Fatalf("self ended after %v", out)
		}
		advance(61*time.Second - time.Since(begin))
		n.is(t, "n2", servicegroup.Unknown, servicegroup.DriverError)
		n.is(t, "n1", servicegroup.Unknown, servicegroup.DriverError)
		advance(10*time.Minute - time.Since(begin))
		if n.told("down") != 0 {
			t.Fatal(n.trace())
		}
		d.on("*", nil)
		back := time.Now()
		advance(11 * time.Second)
		n.is(t, "n1", servicegroup.Up, servicegroup.Beat)
		n.is(t, "n2", servicegroup.Up, servicegroup.Beat)
		for st, _ := n.State("n2"); st == servicegroup.Up; st, _ = n.State("n2") {
			advance(time.Second)
		}
		n.is(t, "n2", servicegroup.Down, servicegroup.Late)
		if took := time.Since(back); took < 50*time.Second || took > 71*time.Second {
			t.Fatalf("down %v after the driver's return", took)
		}
		if n.told("down n1") != 0 || n.told("isolated") != 1 || n.told("rejoined") != 1 {
			t.Fatal(n.trace())
		}
	})
	bubble(t, "servicegroup-13 a watcher that starts in an outage", func(t *testing.T) {
		d := newFake()
		start(t, d, "n1")
		dead := start(t, d, "n2")
		advance(30 * time.Second)
		d.on("*", refuse)
		_ = dead.stop()
		advance(20 * time.Minute)
		o := start(t, d, "o", observer)
		advance(25 * time.Second)
		o.is(t, "n1", servicegroup.Unknown, servicegroup.DriverError)
		d.on("*", nil)
		advance(31 * time.Second)
		o.is(t, "n1", servicegroup.Up, servicegroup.Beat)
		o.is(t, "n2", servicegroup.Unknown, servicegroup.WarmUp)
		advance(40 * time.Second)
		o.is(t, "n2", servicegroup.Down, servicegroup.Late)
		if o.told("down n1") != 0 {
			t.Fatal(o.trace())
		}
	})
	bubble(t, "servicegroup-14 watcher frozen for five minutes", func(t *testing.T) {
		d := newFake()
		n := start(t, d, "n1")
		clk := &stopped{}
		o := start(t, d, "n2", func(c *servicegroup.Config) { c.Env.Clock = clk })
		advance(30 * time.Second)
		clk.freeze(5 * time.Minute)
		d.on("list", func(ctx context.Context) error { return nil })
		advance(7 * time.Minute)
		o.is(t, "n1", servicegroup.Up, servicegroup.Beat)
		if o.told("down") != 0 || n.told("down n1") != 0 {
			t.Fatal(o.trace())
		}
		if n.told("down n2") != 1 { // it did not beat
			t.Fatal(n.trace())
		}
	})
	bubble(t, "servicegroup-23 leave and crash", func(t *testing.T) {
		d := newFake()
		a, b, o := start(t, d, "a"), start(t, d, "b"), start(t, d, "o")
		advance(25 * time.Second)
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		advance(100 * time.Millisecond)
		o.is(t, "a", servicegroup.Down, servicegroup.Left)
		if o.told("left a") != 1 {
			t.Fatal(o.trace())
		}
		d.on("leave", hang)
		begin := time.Now()
		_ = b.stop()
		if took := time.Since(begin); took != 2*time.Second {
			t.Fatalf("a hung leave took %v", took)
		}
		d.on("leave", nil)
		for st, _ := o.State("b"); st == servicegroup.Up; st, _ = o.State("b") {
			advance(100 * time.Millisecond)
		}
		if took := time.Since(begin); took < 50*time.Second || took > 70*time.Second {
			t.Fatalf("a crash was seen after %v", took)
		}
		o.is(t, "b", servicegroup.Down, servicegroup.Late)
		o.is(t, "o", servicegroup.Up, servicegroup.Beat)
	})
	bubble(t, "servicegroup-23 a driver without hints", func(t *testing.T) {
		d := newFake()
		d.deaf = true
		a, o := start(t, d, "a"), start(t, d, "o")
		advance(25 * time.Second)
		_ = a.stop()
		advance(10 * time.Second)
		o.is(t, "a", servicegroup.Down, servicegroup.Left)
	})
	bubble(t, "servicegroup-32 seeds of beat phases", func(t *testing.T) {
		for seed := range uint64(200) {
			d := newFake()
			set := func(i int) func(*servicegroup.Config) {
				return func(c *servicegroup.Config) { c.Env.Rand = rand.NewPCG(seed, uint64(i)) }
			}
			var nodes []*node
			for i := range 10 {
				nodes = append(nodes, start(t, d, fmt.Sprintf("n%d", i), set(i)))
			}
			advance(45 * time.Second)
			d.on("leave", refuse)
			for _, n := range nodes[4:] {
				_ = n.stop()
			}
			d.on("leave", nil)
			advance(75 * time.Second)
			for _, n := range nodes[:4] {
				if v := n.View(); !v.Frozen || len(v.Unknown) != 6 || n.told("mass-down") != 1 || n.told("down") != 0 {
					t.Fatalf("seed %d: %s", seed, n.trace())
				}
				_ = n.stop()
			}
		}
	})
	bubble(t, "servicegroup-58 soak", func(t *testing.T) {
		nodes, hours := 24, 2
		if testing.Short() {
			nodes, hours = 12, 1
		}
		if long {
			nodes, hours = 200, 24
		}
		soak(t, nodes, time.Duration(hours)*time.Hour)
	})
}

// stopped is a clock whose goroutines stand still while it is frozen.
type stopped struct{ until atomic.Int64 } // ns

func (c *stopped) freeze(d time.Duration) { c.until.Store(time.Now().Add(d).UnixNano()) }
func (c *stopped) Now() time.Time         { return time.Now() }
func (c *stopped) After(d time.Duration) <-chan time.Time {
	ch := make(chan time.Time, 1)
	time.AfterFunc(d, func() {
		if wait := time.Until(time.Unix(0, c.until.Load())); wait > 0 {
			time.AfterFunc(wait, func() { ch <- time.Now() })
			return
		}
		ch <- time.Now()
	})
	return ch
}

// soak: 1 % of beats lost, a pause of up to 30 s per node and hour, and some real crashes.
func soak(t *testing.T, count int, d time.Duration) {
	r := rand.New(rand.NewPCG(58, 1))
	f := newFake()
	var mu sync.Mutex
	f.on("beat", func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(100) == 0 {
			return errDown
		}
		return nil
	})
	pause := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(r.Int64N(int64(30 * time.Second)))
	}
	clocks := make([]*stopped, count)
	nodes := make([]*node, count)
	for i := range count {
		clocks[i] = &stopped{}
		nodes[i] = start(t, f, fmt.Sprintf("n%03d", i), func(c *servicegroup.Config) {
			c.Env.Clock, c.Env.Rand, c.BeatOnly = clocks[i], rand.NewPCG(58, uint64(i)), i > 1
		})
	}
	observer := start(t, f, "observer", func(c *servicegroup.Config) { c.Interval = -1 })
	alive := count
	for hour := range int(d / time.Hour) {
		begin := time.Now()
		for minute := range 60 {
			for i := range clocks {
				if (i*7+hour)%60 == minute && i < alive {
					clocks[i].freeze(pause())
				}
			}
			advance(time.Minute)
		}
		if observer.told("down") != count-alive {
			t.Fatalf("hour %d: %s", hour, observer.trace())
		}
		if alive < count-3 {
			continue
		}
		alive-- // a real crash
		f.on("leave", refuse)
		_ = nodes[alive].stop()
		f.on("leave", nil)
		last := lastBeat(t, f, fmt.Sprintf("n%03d", alive))
		died := time.Now()
		for st, _ := observer.State(fmt.Sprintf("n%03d", alive)); st != servicegroup.Down; st, _ = observer.State(fmt.Sprintf("n%03d", alive)) {
			advance(time.Second)
			if time.Since(died) > 2*time.Minute {
				t.Fatal(observer.trace())
			}
		}
		if took := time.Since(last); took < 60*time.Second || took > 71*time.Second {
			t.Fatalf("crash seen %v after the last beat", took)
		}
		_ = begin
	}
	synctest.Wait()
}
