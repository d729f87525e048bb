package rpc_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// FuzzReply is virt-23: a decoder on arbitrary bytes neither panics nor takes memory by a count that cannot be.
func FuzzReply(f *testing.F) {
	f.Add([]byte(rpc.Args{}.U32(1).Dom(rpc.Domain{Name: "vm"})), uint8(0))
	f.Add([]byte(rpc.Args{}.Params(rpc.Param{"state", rpc.Uint64(1)}, rpc.Param{"name", rpc.String("x")})), uint8(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		r := rpc.NewReply(b)
		size := 0
		switch kind % 5 {
		case 0:
			size = 24 * len(r.Doms())
		case 1:
			r.Params(func(field []byte, v rpc.Value) { size += len(field) + len(v.Str) + 8; v.Int() })
		case 2:
			size = len(r.Str()) + len(r.Bytes())
		case 3:
			size = len(r.Chars(32))
		case 4:
			r.Dom()
			r.U64()
		}
		if size > len(b) {
			t.Errorf("%d bytes made of %d", size, len(b))
		}
		if err := r.Err(); err != nil && !errors.Is(err, rpc.ErrMalformed) {
			t.Error(err)
		}
	})
}

// FuzzConn is virt-23 for packets: a daemon that lies about lengths loses the connection, and nothing else happens.
func FuzzConn(f *testing.F) {
	f.Add([]byte{0, 0, 0, 28, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1})
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff})
	f.Add([]byte{0x01, 0xff, 0xff, 0xff, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1})
	f.Fuzz(checkConn)
}

// checkConn is a call on a connection whose daemon says b and hangs up.
func checkConn(t *testing.T, b []byte) {
	near, far := net.Pipe()
	c := rpc.New(rpc.Config{Env: drover.Env{}.Defaults(), Name: "fuzz", Limit: 1}, near)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Call(t.Context(), rpc.ConnectGetHostname, nil)
		answered <- err
	}()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	_ = far.SetWriteDeadline(time.Now().Add(time.Minute))
	_, _ = far.Write(b) // refused once the connection is lost
	_ = far.Close()
	<-c.Done()
	var ce *rpc.CallError
	var re *rpc.RemoteError
	if err := <-answered; err != nil && !errors.As(err, &ce) && !errors.As(err, &re) {
		t.Error(err)
	}
	c.Close(net.ErrClosed)
}

func TestNonsense(t *testing.T) {
	t.Run("virt-23 a daemon that lies", func(t *testing.T) {
		draw := rand.New(rand.NewPCG(23, 23))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for n := range 500 {
			b := rpc.Args{}.U32(uint32(draw.IntN(1 << (4 + n%28)))).U32(0x20008086).U32(1).U32(uint32(draw.IntN(400))).U32(uint32(n % 4)).U32(uint32(n % 3)).U32(uint32(n % 2))
			for range draw.IntN(64) {
				b = append(b, byte(draw.Uint32()>>draw.IntN(8)))
			}
			checkConn(t, b[draw.IntN(2)*draw.IntN(28):])
			r := rpc.NewReply(b)
			r.Params(func([]byte, rpc.Value) {})
			r = rpc.NewReply(b[draw.IntN(28):])
			if doms := r.Doms(); len(doms)*24 > len(b) {
				t.Error(len(doms), "domains in", len(b), "bytes")
			}
		}
		runtime.ReadMemStats(&after)
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 1024 { // in all of the 500: connections have buffers, and a length may claim 1 MiB at once
			t.Errorf("%d MiB were taken", mib)
		}
	})
}
