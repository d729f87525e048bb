package rpc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// daemon is the other end, played by the test.
type daemon struct {
	t  *testing.T
	nc net.Conn
}

// dial gives a connection and its other end, both gone at the end of the test.
func dial(t *testing.T, cfg rpc.Config) (*rpc.Conn, *daemon) {
	t.Helper()
	near, far := net.Pipe()
	cfg.Env, cfg.Name = drover.Env{}.Defaults(), "test"
	if cfg.Limit == 0 {
		cfg.Limit = 5
	}
	c := rpc.New(cfg, near)
	t.Cleanup(func() {
		c.Close(net.ErrClosed)
		_ = far.Close()
	})
	return c, &daemon{t, far}
}

// packet is what the daemon got: words of the header after the length, and the body.
type packet struct {
	head [6]uint32
	body []byte
}

func (d *daemon) read() packet {
	d.t.Helper()
	p, err := d.tryRead()
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

func (d *daemon) tryRead() (p packet, err error) {
	var b [28]byte
	if _, err := io.ReadFull(d.nc, b[:]); err != nil {
		return p, err
	}
	for i := range p.head {
		p.head[i] = binary.BigEndian.Uint32(b[4+4*i:])
	}
	p.body = make([]byte, binary.BigEndian.Uint32(b[:])-28)
	_, err = io.ReadFull(d.nc, p.body)
	return p, err
}

// write sends a packet: kind 1 reply, 2 event.
func (d *daemon) write(program, procedure, kind, serial, status uint32, body rpc.Args) {
	d.t.Helper()
	if err := d.tryWrite(program, procedure, kind, serial, status, body); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) tryWrite(program, procedure, kind, serial, status uint32, body rpc.Args) error {
	p := rpc.Args{}.U32(uint32(28 + len(body))).U32(program).U32(1).U32(procedure).U32(kind).U32(serial).U32(status)
	_, err := d.nc.Write(append(p, body...))
	return err
}

const remote, alive = 0x20008086, 0x6b656570

func (d *daemon) reply(to packet, body rpc.Args) { d.write(remote, to.head[2], 1, to.head[4], 0, body) }

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

type outcome struct {
	n   uint32
	err error
}

// call runs a call that takes and gives a number.
func call(ctx context.Context, c *rpc.Conn, n uint32) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		r, err := c.Call(ctx, rpc.DomainReboot, rpc.Args{}.U32(n))
		out <- outcome{r.U32(), err}
	}()
	return out
}

func TestCall(t *testing.T) {
	bubble(t, "virt-24 replies in any order, unknown serials, duplicates, events before the registration's reply", func(t *testing.T) {
		var events []uint32
		c, d := dial(t, rpc.Config{Event: func(p rpc.Proc, r rpc.Reply) { events = append(events, uint32(p), r.U32()) }})
		var outs []<-chan outcome
		var got []packet
		for n := range uint32(5) {
			outs = append(outs, call(t.Context(), c, n))
			got = append(got, d.read())
		}
		d.write(remote, 318, 2, 0, 0, rpc.Args{}.U32(77))
		d.write(remote, 27, 1, 999, 0, nil)
		d.write(0x12345678, 27, 1, got[0].head[4], 0, nil) // another program
		slices.Reverse(got)
		for _, p := range got {
			d.reply(p, rpc.Args(p.body))
			d.reply(p, rpc.Args{}.U32(1000))
		}
		for n, out := range outs {
			if o := <-out; o.err != nil || o.n != uint32(n) {
				t.Errorf("call %d: %d, %v", n, o.n, o.err)
			}
		}
		synctest.Wait()
		if !slices.Equal(events, []uint32{318, 77}) {
			t.Error(events)
		}
	})
	bubble(t, "an answer that is an error has code and domain", func(t *testing.T) {
		c, d := dial(t, rpc.Config{})
		out := call(t.Context(), c, 1)
		p := d.read()
		d.write(remote, p.head[2], 1, p.head[4], 1, rpc.Args{}.I32(42).I32(10).U32(1).Str("no domain").I32(2))
		var e *rpc.RemoteError
		if o := <-out; !errors.As(o.err, &e) || *e != (rpc.RemoteError{42, 10, "no domain"}) {
			t.Error(o.err)
		}
	})
	bubble(t, "a deadline ends a call; its place is taken until the late reply", func(t *testing.T) {
		late := 0
		c, d := dial(t, rpc.Config{Limit: 1, Late: func() { late++ }})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		first := call(ctx, c, 1)
		p := d.read()
		var ce *rpc.CallError
		if o := <-first; !errors.Is(o.err, context.DeadlineExceeded) || !errors.As(o.err, &ce) || !ce.Sent || time.Since(start) != 300*time.Millisecond {
			t.Error(o.err, time.Since(start))
		}
		short, cancel2 := context.WithTimeout(t.Context(), time.Second)
		defer cancel2()
		if o := <-call(short, c, 2); !errors.As(o.err, &ce) || ce.Sent {
			t.Error("a second request went out:", o.err)
		}
		third := call(t.Context(), c, 3)
		synctest.Wait()
		d.reply(p, nil)
		d.reply(d.read(), rpc.Args{}.U32(3))
		if o := <-third; o.err != nil || o.n != 3 || late != 1 || c.InFlight() != 0 {
			t.Error(o, late, c.InFlight())
		}
	})
	bubble(t, "a full socket: not sent, and sent in part", func(t *testing.T) {
		c, d := dial(t, rpc.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var ce *rpc.CallError
		if o := <-call(ctx, c, 1); !errors.As(o.err, &ce) || ce.Sent || c.Err() != nil || c.InFlight() != 0 {
			t.Error(o.err, c.Err())
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		out := call(ctx, c, 2)
		if _, err := io.ReadFull(d.nc, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if o := <-out; !errors.As(o.err, &ce) || !ce.Sent || !errors.Is(c.Err(), rpc.ErrLost) {
			t.Error(o.err, c.Err())
		}
	})
	bubble(t, "a lost connection ends all calls at once", func(t *testing.T) {
		c, d := dial(t, rpc.Config{Limit: 3})
		var outs []<-chan outcome
		for n := range uint32(5) { // two of them wait for a place
			outs = append(outs, call(t.Context(), c, n))
			if n < 3 {
				d.read()
			}
		}
		synctest.Wait()
		start, sent := time.Now(), 0
		_ = d.nc.Close()
		for _, out := range outs {
			var ce *rpc.CallError
			if o := <-out; !errors.Is(o.err, rpc.ErrLost) || !errors.As(o.err, &ce) {
				t.Error(o.err)
			} else if ce.Sent {
				sent++
			}
		}
		if time.Since(start) != 0 || sent != 3 {
			t.Error(time.Since(start), sent)
		}
	})
}

func TestKeepalive(t *testing.T) {
	k := rpc.Keepalive{Every: 600 * time.Millisecond, Silent: 1800 * time.Millisecond, Lost: 15 * time.Second}
	bubble(t, "silent, heard again, lost", func(t *testing.T) {
		start := time.Now()
		var said []string
		c, d := dial(t, rpc.Config{Keepalive: k, Silent: func(s bool) { said = append(said, fmt.Sprint(s, time.Since(start))) }})
		go func() {
			for {
				if _, err := d.tryRead(); err != nil {
					return
				}
			}
		}()
		time.Sleep(5 * time.Second)
		d.write(alive, 2, 2, 0, 0, nil)
		<-c.Done()
		lost := time.Since(start)
		if len(said) < 3 || said[0] != "true 1.8s" || said[1] > "false 5.6" || lost < 20*time.Second || lost > 20200*time.Millisecond {
			t.Error(said, lost, c.Err())
		}
	})
	bubble(t, "a quiet daemon is asked each interval, and gets its answer", func(t *testing.T) {
		start := time.Now()
		_, d := dial(t, rpc.Config{Keepalive: k})
		for n := 1; n <= 3; n++ {
			p := d.read()
			if p.head[0] != alive || p.head[2] != 1 || time.Since(start) != time.Duration(n)*k.Every {
				t.Fatal(p, time.Since(start))
			}
		}
		d.write(alive, 1, 2, 0, 0, nil)
		if p := d.read(); p.head[0] != alive || p.head[2] != 2 {
			t.Error(p)
		}
	})
	bubble(t, "an answering daemon is never silent", func(t *testing.T) {
		c, d := dial(t, rpc.Config{Keepalive: k, Silent: func(bool) { t.Error("silent") }})
		go func() {
			for {
				if _, err := d.tryRead(); err != nil {
					return
				}
				if d.tryWrite(alive, 2, 2, 0, 0, nil) != nil { // the test ends
					return
				}
			}
		}()
		time.Sleep(time.Minute)
		if c.Err() != nil {
			t.Error(c.Err())
		}
	})
}
