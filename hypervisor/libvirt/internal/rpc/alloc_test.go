package rpc_test

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// TestLookupAllocations: finding a domain is the most frequent call.
func TestLookupAllocations(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		body := rpc.Args{}.Dom(rpc.Domain{Name: "guest-1"})
		reply := append(rpc.Args{}.U32(uint32(28+len(body))).U32(remote).U32(1).U32(uint32(rpc.DomainLookupByUUID)).U32(1).U32(0).U32(0), body...)
		ask := make([]byte, 28+16)
		for {
			if _, err := io.ReadFull(nc, ask); err != nil {
				return
			}
			binary.BigEndian.PutUint32(reply[20:], binary.BigEndian.Uint32(ask[20:]))
			if _, err := nc.Write(reply); err != nil {
				return
			}
		}
	}()
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := rpc.New(rpc.Config{Env: drover.Env{}.Defaults(), Name: "test", Limit: 4}, nc)
	defer c.Close(net.ErrClosed)
	n := testing.AllocsPerRun(200, func() {
		r, err := c.Call(t.Context(), rpc.DomainLookupByUUID, rpc.Args{}.UUID([16]byte{1}))
		if dom := r.Dom(); err != nil || dom.Name != "guest-1" {
			t.Error(dom, err)
		}
	})
	if n > 8 && !race { // its pools forget on purpose
		t.Errorf("%.0f allocations", n)
	}
}
