package libvirt

import (
	"fmt"
	"testing"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// thousand is a daemon's answer about a thousand domains: their state, or all there is.
func thousand(all bool) rpc.Args {
	a := rpc.Args{}.U32(1000)
	for n := range 1000 {
		dom := rpc.Domain{Name: fmt.Sprint("guest-", n), ID: -1}
		dom.UUID[14], dom.UUID[15] = byte(n>>8), byte(n)
		params := []rpc.Param{{Field: "state.state", Value: rpc.Int32(1)}, {Field: "state.reason", Value: rpc.Int32(1)}, {Field: "cpu.time", Value: rpc.Uint64(1)}}
		if all {
			for _, f := range []string{"balloon.current", "balloon.maximum", "balloon.rss", "vcpu.current", "vcpu.maximum", "net.count", "net.0.rx.bytes",
				"net.0.rx.pkts", "net.0.rx.errs", "net.0.rx.drop", "net.0.tx.bytes", "block.count", "block.0.rd.reqs", "block.0.rd.bytes", "block.0.wr.reqs"} {
				params = append(params, rpc.Param{Field: f, Value: rpc.Uint64(1)})
			}
			params = append(params, rpc.Param{Field: "net.0.name", Value: rpc.String("vnet0")}, rpc.Param{Field: "block.0.name", Value: rpc.String("vda")},
				rpc.Param{Field: "block.0.path", Value: rpc.String("/var/lib/images/disk.qcow2")})
		}
		a = a.Dom(dom).Params(params...)
	}
	return a
}

func TestBulkAllocations(t *testing.T) {
	for _, c := range []struct {
		name string
		all  bool
		most float64
	}{{"virt-28 state of a thousand", false, 5000}, {"virt-28 all of a thousand", true, 20000}} {
		t.Run(c.name, func(t *testing.T) {
			body := thousand(c.all)
			var stats []hypervisor.Stats
			n := testing.AllocsPerRun(3, func() {
				r := rpc.NewReply(body)
				var err error
				if stats, err = decodeStats(&r, ^uint32(0)); err != nil {
					t.Fatal(err)
				}
			})
			if len(stats) != 1000 || n > c.most {
				t.Errorf("%d domains, %.0f allocations", len(stats), n)
			}
			t.Logf("%.0f allocations", n)
		})
	}
}
