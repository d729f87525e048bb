package servicegroup_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

func TestSpecExclusive(t *testing.T) {
	alone := func(addr string) func(*servicegroup.Config) {
		return func(c *servicegroup.Config) { c.Exclusive, c.Addr = true, addr }
	}
	bubble(t, "servicegroup-24 a live member has the ID", func(t *testing.T) {
		d := newFake()
		a := start(t, d, "Node-1", func(c *servicegroup.Config) { c.Version = "7.1" })
		advance(5 * time.Second)
		begin := time.Now()
		b := start(t, d, "nODE-1", alone("elsewhere:1"))
		<-b.done
		if took := time.Since(begin); took != 15*time.Second {
			t.Errorf("after %v", took)
		}
		if !errors.Is(b.err, servicegroup.ErrTaken) || !drover.IsPermanent(b.err) {
			t.Fatal(b.err)
		}
		for _, what := range []string{"ID", "Node-1:7000", "age", "7.1"} {
			if !strings.Contains(b.err.Error(), what) {
				t.Errorf("no %s in %v", what, b.err)
			}
		}
		a.is(t, "node-1", servicegroup.Up, servicegroup.Beat)
		if a.Self().Incarnation != 1 || d.count("join") != 1 {
			t.Fatal("joined")
		}
	})
	bubble(t, "servicegroup-24 a dead one had the ID", func(t *testing.T) {
		d := newFake()
		a := start(t, d, "n1")
		advance(5 * time.Second)
		d.on("leave", refuse)
		_ = a.stop()
		b := start(t, d, "n1", alone("elsewhere:1"))
		advance(14 * time.Second)
		if b.Self().Incarnation != 0 {
			t.Fatal("joined before it had watched")
		}
		advance(2 * time.Second)
		if b.Self().Incarnation != 2 {
			t.Fatal(b.log)
		}
	})
	bubble(t, "servicegroup-24 the address", func(t *testing.T) {
		d := newFake()
		start(t, d, "a", func(c *servicegroup.Config) { c.Addr = " Host:7000 " })
		start(t, d, "b", func(c *servicegroup.Config) { c.Addr = "" })
		advance(5 * time.Second)
		c := start(t, d, "c", alone("host:7000"))
		<-c.done
		if !errors.Is(c.err, servicegroup.ErrTaken) || !strings.Contains(c.err.Error(), "Addr by a") {
			t.Fatal(c.err)
		}
		e := start(t, d, "A", alone("HOST:7000")) // both: the ID is told
		<-e.done
		if !errors.Is(e.err, servicegroup.ErrTaken) || !strings.Contains(e.err.Error(), "ID by a") {
			t.Fatal(e.err)
		}
		f := start(t, d, "f", alone(""))
		advance(time.Second)
		if f.Self().Incarnation != 1 {
			t.Fatal("an empty address stands in the way of another")
		}
	})
	bubble(t, "servicegroup-24 the driver cannot be asked", func(t *testing.T) {
		d := newFake()
		d.on("list", refuse)
		a := start(t, d, "a", alone("x:1"))
		advance(30 * time.Second)
		if a.Self().Incarnation != 0 || d.count("join") != 0 || !errors.Is(a.Health().Err, errDown) || a.log.count("msg=disconnected") != 1 {
			t.Fatal(a.Health(), a.log)
		}
		d.on("list", nil)
		advance(10 * time.Second)
		if a.Self().Incarnation != 1 {
			t.Fatal(a.log)
		}
	})
}
