package conductor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// bump changes job a once, and says what the client was told.
func (n *net) bump(c *client, p int) error {
	return c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		if _, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{"a"}}); err != nil {
			return err
		}
		done, err := c.Jobs().Move(ctx, tx, []job.Move{{ID: "a", From: job.Ready, To: job.Ready, Priority: &p}})
		if err == nil && !done[0] {
			n.Error("refused")
		}
		return err
	})
}

// bumped checks that what was told is what has happened.
func (n *net) bumped(before int64, err error) {
	n.Helper()
	grown := n.get("a").Rev - before
	switch {
	case err == nil && grown == 1:
	case errors.Is(err, conductor.ErrUnknown) && grown <= 1:
	case errors.Is(err, conductor.ErrNoConductor) && grown == 0:
	default:
		n.Fatalf("%d effects; told %v", grown, err)
	}
}

func TestLoss(t *testing.T) {
	t.Run("conductor-06 loss at every message", func(t *testing.T) {
		for seed := range uint64(200) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				s1, s2, c := n.server("s1", all), n.server("s2", all), n.client("h1", nil)
				n.insert(row("a", "q"))
				rnd := rand.New(rand.NewPCG(seed, 6))
				drop := func(m *bus.Message) bool {
					k := m.Wire.Kind
					return (k == bus.KindCall || k == bus.KindReply) && rnd.IntN(3) == 0
				}
				for _, w := range []*wire{s1.wire, s2.wire, c.wire} {
					w.bend(drop)
				}
				for i := range 8 {
					before := n.get("a").Rev
					err := n.bump(c, i)
					time.Sleep(20 * time.Second) // what was sent late has ended
					n.bumped(before, err)
				}
			})
		}
	})
	t.Run("conductor-24 a server dies at any step", func(t *testing.T) {
		for step := 1; step <= 9; step++ {
			synctest.Test(t, func(t *testing.T) { dies(newNet(t), step) })
		}
	})
}

// dies: a server that ends at a step is not heard of again; another one does what is left.
func dies(n *net, step int) {
	b := n.node("s1")
	mortal := &dying{net: n, at: step, death: func() { b.wire.bend(func(*bus.Message) bool { return true }) }}
	n.serverOn(b, "s1", func(c *conductor.ServerConfig) {
		all(c)
		c.Tx, c.Commits, c.Stores = mortal, mortal, n.db
	})
	c := n.client("h1", nil)
	n.insert(row("a", "q"))
	b2 := n.node("s2")
	srv := n.newServer(b2, "s2", all)
	before := n.get("a").Rev
	started := make(chan struct{})
	go func() { // the other one is there once the first has gone
		defer close(started)
		for range 100 {
			if time.Sleep(100 * time.Millisecond); mortal.gone() {
				break
			}
		}
		n.run(srv)
	}()
	mortal.arm()
	err := n.bump(c, 1)
	if !mortal.gone() {
		n.Fatalf("step %d was not reached", step)
	}
	<-started
	time.Sleep(20 * time.Second)
	n.bumped(before, err)
	if err != nil && !errors.Is(err, conductor.ErrUnknown) {
		n.Fatal(err)
	}
}

// dying is a store whose server dies at a step of its commit.
type dying struct {
	*net
	at    int
	death func()

	mu          sync.Mutex
	step        int
	armed, dead bool
}

func (d *dying) arm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = true
}

func (d *dying) gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

var errDead = errors.New("dead")

// point is a step; in a read nobody dies.
func (d *dying) point() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.armed || d.dead {
		return nil
	}
	if d.step++; d.step == d.at {
		d.dead = true
		d.death()
		return errDead
	}
	return nil
}

func (d *dying) InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	err := d.net.db.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := d.point(); err != nil { // begun
			return err
		}
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return d.point() // all done, not committed
	})
	return errors.Join(err, d.point()) // committed, not answered
}

func (d *dying) Get(ctx context.Context, tx store.Tx, id string) (conductor.Commit, error) {
	c, err := d.net.db.Commits().Get(ctx, tx, id)
	if dead := d.point(); dead != nil {
		return c, dead
	}
	return c, err
}

func (d *dying) Put(ctx context.Context, tx store.Tx, c conductor.Commit) error {
	if err := d.point(); err != nil {
		return err
	}
	return errors.Join(d.net.db.Commits().Put(ctx, tx, c), d.point())
}

func (d *dying) Purge(ctx context.Context, tx store.Tx, age time.Duration, most int) (int, error) {
	return d.net.db.Commits().Purge(ctx, tx, age, most)
}

func TestDrain(t *testing.T) {
	bubble(t, "conductor-29 drain under load", func(n *net) {
		slow := &slowly{net: n, by: 50 * time.Millisecond}
		s1 := n.server("s1", func(c *conductor.ServerConfig) { all(c); c.Tx, c.Commits, c.Stores = slow, n.db.Commits(), n.db })
		n.server("s2", func(c *conductor.ServerConfig) { all(c); c.Tx, c.Commits, c.Stores = slow, n.db.Commits(), n.db })
		c := n.client("h1", nil)
		failed := make(chan error, 40)
		for i := range 40 {
			go func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				failed <- c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
					_, err := c.Jobs().Insert(ctx, tx, []job.Row{row(fmt.Sprint("d", i), "q")})
					return err
				})
			}()
		}
		time.Sleep(205 * time.Millisecond)
		if err := s1.Server.Drain(context.Background()); err != nil {
			n.Error(err)
		}
		for range 40 {
			if err := <-failed; err != nil {
				n.Error(err)
			}
		}
		for i := range 40 {
			if n.get(fmt.Sprint("d", i)).Rev != 1 {
				n.Errorf("job %d is not there", i)
			}
		}
	})
}

// slowly takes its time for each transaction.
type slowly struct {
	*net
	by time.Duration
}

func (s *slowly) Commits() conductor.Store { return s.net.db.Commits() }

func (s *slowly) InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	time.Sleep(s.by)
	return s.net.db.InTx(ctx, fn)
}
