package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// boxed is a configuration with db as outbox; hinted also listens.
func boxed(db *memory.Store, hinted bool) func(*bus.Config) {
	return func(c *bus.Config) {
		c.Tx, c.Outbox = db, db.Outbox()
		if hinted {
			c.Notify = db.Notifier()
		}
	}
}

var errRollback = errors.New("rolled back")

// publish publishes in a transaction of its own, which ends as keep says.
func publish(t testing.TB, db *memory.Store, b *node, keep bool, es ...bus.Event) {
	t.Helper()
	err := db.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		for _, e := range es {
			if err := b.Publish(ctx, tx, e); err != nil {
				return err
			}
		}
		if !keep {
			return errRollback
		}
		return nil
	})
	if keep && err != nil || !keep && !errors.Is(err, errRollback) {
		t.Fatal(err)
	}
}

// ear collects what a subscription hears.
type ear struct {
	mu    sync.Mutex
	es    []bus.Event
	first time.Time
}

func listen(b *bus.Bus, subject string) *ear {
	x := &ear{}
	b.Subscribe(subject, func(_ context.Context, e bus.Event) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.es = append(x.es, e); x.first.IsZero() {
			x.first = time.Now()
		}
	})
	return x
}

func (x *ear) all() []bus.Event { x.mu.Lock(); defer x.mu.Unlock(); return slices.Clone(x.es) }

func TestOutbox(t *testing.T) {
	bubble(t, "bus-60 commit and rollback", func(c *cluster) {
		for _, hinted := range []bool{false, true} {
			db := &memory.Store{}
			name := fmt.Sprint(hinted)
			a := c.start("a"+name, boxed(db, hinted))
			b := c.start("b"+name, nil)
			far, near := listen(b.Bus, "vm"), listen(a.Bus, "vm")
			if err := errors.Join(b.Ready(context.Background()), a.Ready(context.Background())); err != nil {
				c.Fatal(err)
			}
			publish(c, db, a, false, bus.Event{Subject: "vm.rolled"})
			publish(c, db, a, true, bus.Event{Subject: "vm." + name, Data: []byte("x"), Order: "o"})
			began := time.Now()
			sleep(3 * time.Second)
			far.mu.Lock()
			if d := far.first.Sub(began); d < 0 || d > time.Second || hinted && d > 50*time.Millisecond {
				c.Errorf("hinted %v: sent after %v", hinted, d)
			}
			far.mu.Unlock()
			for _, x := range []*ear{far, near} {
				if es := x.all(); len(es) != 1 || es[0].Subject != "vm."+name || es[0].Node != "a"+name || es[0].Order != "o" {
					c.Errorf("heard %+v", es)
				}
			}
		}
	})
	bubble(t, "bus-62 failures and errors", outboxFailures)
	bubble(t, "bus-63 a transport that is away", func(c *cluster) {
		const keys = 7
		rows := 10_000
		if testing.Short() {
			rows = 1000
		}
		db := &memory.Store{}
		box := &countedOutbox{Outbox: db.Outbox()}
		a := c.start("a", func(cfg *bus.Config) { boxed(db, false)(cfg); cfg.Outbox = box })
		b := c.start("b", nil)
		got := listen(b.Bus, "s")
		if err := b.Ready(context.Background()); err != nil {
			c.Fatal(err)
		}
		var sends atomic.Int64
		a.wire.set(func(_ context.Context, m *bus.Message, _ func(context.Context, *bus.Message) error) error {
			if m.Wire.Kind == bus.KindEvent {
				sends.Add(1)
			}
			return bus.ErrNotSent
		})
		for i := range rows {
			publish(c, db, a, true, bus.Event{Subject: fmt.Sprint("s.", i%keys), Data: []byte(fmt.Sprint(i))})
		}
		for range 10 {
			sleep(time.Minute)
			if s := a.Stats(); s.Waiters > 1 || s.Queue > 0 || box.most.Load() > 100 {
				c.Errorf("held in memory: %+v; %d rows in one claim", s, box.most.Load())
			}
			for _, p := range a.Peers() {
				if p.Depth > 1 {
					c.Errorf("%d wait in the lane %s", p.Depth, p.To)
				}
			}
		}
		// 1 s, 2 s, 4 s … 5 min for each key; a look per second.
		if n := sends.Load(); n > keys*12 || box.claims.Load() > 10*60+keys*12+10 {
			c.Errorf("%d sends and %d claims while the transport was away", n, box.claims.Load())
		}
		a.wire.set(nil)
		sleep(6 * time.Minute)
		es := got.all()
		if len(es) != rows {
			c.Errorf("%d of %d arrived", len(es), rows)
		}
		inOrder(c, es)
	})
	bubble(t, "bus-61 relays are killed", relays)
}

// countedOutbox counts claims, and the most rows that one gave.
type countedOutbox struct {
	bus.Outbox
	claims, most atomic.Int64
}

// Claim counts.
func (o *countedOutbox) Claim(ctx context.Context, tx store.Tx, c bus.OutboxClaim) (bus.OutboxClaimed, error) {
	got, err := o.Outbox.Claim(ctx, tx, c)
	o.claims.Add(1)
	o.most.Store(max(o.most.Load(), int64(len(got.Rows))))
	return got, err
}

// inOrder fails unless the numbers in es rise within each subject.
func inOrder(c *cluster, es []bus.Event) {
	last := map[string]int{}
	for _, e := range es {
		var i int
		_, _ = fmt.Sscan(string(e.Data), &i)
		if was, ok := last[e.Subject]; ok && i <= was {
			c.Fatalf("%s: %d after %d", e.Subject, i, was)
		}
		last[e.Subject] = i
	}
}

func outboxFailures(c *cluster) {
	db, foreign := &memory.Store{}, &memory.Store{}
	a := c.start("a", boxed(db, true))
	b := c.start("b", nil)
	got := listen(b.Bus, "")
	if err := b.Ready(context.Background()); err != nil {
		c.Fatal(err)
	}
	err := foreign.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error { return a.Publish(ctx, tx, bus.Event{Subject: "x"}) })
	if !errors.Is(err, store.ErrForeign) {
		c.Errorf("a foreign transaction: %v", err)
	}
	err = db.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error { return b.Publish(ctx, tx, bus.Event{Subject: "x"}) })
	if !errors.Is(err, bus.ErrInvalid) {
		c.Errorf("no outbox: %v", err)
	}
	err = db.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		return a.CastTx(ctx, tx, &bus.Message{ID: "cast", Topic: "nobody"})
	})
	if err != nil {
		c.Fatal(err)
	}
	publish(c, db, a, true, bus.Event{Subject: "fine"})
	sleep(time.Second)
	if es := got.all(); len(es) != 1 || es[0].Subject != "fine" {
		c.Errorf("behind a failing key: %+v", es)
	}
	sleep(25 * time.Hour)
	dead, err := a.OutboxRows(context.Background(), true, 0, 10)
	if err != nil || len(dead) != 1 || dead[0].ID != "cast" || !strings.Contains(dead[0].Text, "no receiver") {
		c.Fatalf("dead rows %+v, %v", dead, err)
	}
	ran := make(chan string, 1)
	d := c.start("d", nil, serving("nobody", func(_ context.Context, m *bus.Message) ([]byte, error) {
		ran <- m.ID
		return nil, nil
	}))
	_ = d
	if err := a.Redo(context.Background(), "never"); !errors.Is(err, store.ErrNotFound) {
		c.Errorf("Redo of nothing: %v", err)
	}
	if err := a.Redo(context.Background(), "cast"); err != nil {
		c.Fatal(err)
	}
	if id := <-ran; id != "cast" {
		c.Errorf("%s ran", id)
	}
}

// relays: many transactions, half of them rolled back, while the node that relays is killed again and again. What was committed
// is heard, in order of its subject; what was rolled back never is.
func relays(c *cluster) {
	const kills = 20
	total := 10_000
	if testing.Short() {
		total = 1000
	}
	db := &memory.Store{}
	listener := c.start("l", nil)
	got := listen(listener.Bus, "s")
	if err := listener.Ready(context.Background()); err != nil {
		c.Fatal(err)
	}
	writer := c.start("w", func(cfg *bus.Config) { boxed(db, true)(cfg); cfg.NoRelay = true })
	life := 0
	relay := func() *node {
		life++
		return c.start(fmt.Sprint("r", life), boxed(db, true))
	}
	now := relay()
	n := 0
	for k := range kills {
		for range total / kills {
			publish(c, db, writer, n%2 == 0, bus.Event{Subject: fmt.Sprint("s.", n/2%10), Data: []byte(fmt.Sprint(n))})
			n++
		}
		sleep(time.Duration(k%4) * time.Millisecond)
		died := now
		died.wire.set(func(ctx context.Context, m *bus.Message, next func(context.Context, *bus.Message) error) error {
			if k%2 == 0 { // sent, but the relay never hears so
				_ = next(ctx, m)
			}
			return bus.ErrNodeLost
		})
		go func() { _ = died.Stop() }()
		now = relay()
	}
	sleep(10 * time.Minute)
	synctest.Wait()
	seen := map[string]bool{}
	inOrder(c, got.all())
	for _, e := range got.all() {
		var i int
		_, _ = fmt.Sscan(string(e.Data), &i)
		if i%2 != 0 {
			c.Fatalf("%d was rolled back", i)
		}
		if seen[string(e.Data)] {
			c.Fatalf("%d came twice under one ID", i)
		}
		seen[string(e.Data)] = true
	}
	if len(seen) != total/2 {
		c.Errorf("%d of %d committed events came", len(seen), total/2)
	}
}
