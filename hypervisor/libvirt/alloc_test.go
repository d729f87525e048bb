package libvirt

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

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

func TestDecodeStats(t *testing.T) {
	body := rpc.Args{}.U32(50)
	for _, n := range rand.New(rand.NewPCG(1, 2)).Perm(50) {
		dom := rpc.Domain{Name: fmt.Sprint("guest-", n), ID: int32(n)}
		dom.UUID[3], dom.UUID[15] = byte(n/7), byte(n)
		u := func(field string, v int) rpc.Param { return rpc.Param{Field: field, Value: rpc.Uint64(uint64(v))} }
		body = body.Dom(dom).Params(
			rpc.Param{Field: "state.state", Value: rpc.Int32(1)}, u("cpu.time", n), u("vcpu.current", 2), u("balloon.current", n<<10), u("balloon.maximum", 64<<10),
			u("balloon.rss", 7<<10), u("block.count", 2), rpc.Param{Field: "block.1.name", Value: rpc.String("vdb")}, u("block.1.rd.reqs", 3), u("block.1.rd.bytes", 4),
			u("block.1.wr.reqs", 5), u("block.1.wr.bytes", 6), u("block.1.capacity", 8), u("block.2000.rd.reqs", 1), u("block.", 1), u("net.0.rx.pkts", 9), u("", 1),
		)
	}
	r := rpc.NewReply(body)
	all, err := decodeStats(&r, statsBlock)
	if err != nil || len(all) != 50 {
		t.Fatal(len(all), err)
	}
	for n, s := range all {
		id := [16]byte{3: byte(n / 7), 15: byte(n)}
		want := hypervisor.Stats{
			ID: textID(id), Name: fmt.Sprint("guest-", n), Power: hypervisor.On, Incarnation: int64(n), CPUTime: time.Duration(n), VCPUs: 2,
			MemoryMiB: int64(n), MaxMemoryMiB: 64, ResidentMiB: 7, NICs: []hypervisor.NICStats{{ReceivedPackets: 9}},
			Disks: []hypervisor.DiskStats{{}, {Name: "vdb", Reads: 3, ReadBytes: 4, Writes: 5, WrittenBytes: 6, Capacity: 8}},
		}
		if !reflect.DeepEqual(s, want) {
			t.Fatalf("%d: %+v, want %+v", n, s, want)
		}
	}
}
