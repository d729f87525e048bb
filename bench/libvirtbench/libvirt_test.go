// Package libvirtbench compares bulk statistics of a thousand defined machines with another client on the same daemon (P24).
package libvirtbench

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/internal/testkit"
)

const machines = 1000

// masks of libvirt's groups: state and processor; and memory, processors, interfaces and disks besides.
const stateMask, allMask, noWait = 1 | 2, 1 | 2 | 4 | 8 | 16 | 32, 1 << 29

func BenchmarkP24(b *testing.B) {
	d := testkit.StartLibvirtd(b, testkit.LibvirtdOptions{})
	v, err := libvirt.New(libvirt.Config{URI: "qemu:///session", Socket: d.Socket})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = v.Close() })
	for n := range machines {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
		if _, err := v.Define(b.Context(), hypervisor.Spec{ID: id, Name: fmt.Sprint("vm-", n), VCPU: 1, MemoryMiB: 32}); err != nil {
			b.Fatal(err)
		}
	}
	other := golibvirt.NewWithDialer(dialer{d.Socket})
	if err := other.ConnectToURI("qemu:///session"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = other.Disconnect() })
	// what a round trip takes of itself
	measure(b, "drover/ping", func() (int, error) { return machines, v.Ping(b.Context()) })
	measure(b, "go-libvirt/ping", func() (int, error) {
		_, err := other.ConnectGetLibVersion()
		return machines, err
	})
	for _, c := range []struct {
		name string
		q    hypervisor.StatsQuery
		mask uint32
	}{
		{"state", hypervisor.StatsQuery{}, stateMask},
		{"all", hypervisor.StatsQuery{Memory: true, VCPUs: true, Disks: true, NICs: true}, allMask},
	} {
		measure(b, "drover/"+c.name, func() (int, error) {
			s, err := v.Stats(b.Context(), c.q)
			return len(s), err
		})
		measure(b, "go-libvirt/"+c.name, func() (int, error) {
			s, err := other.ConnectGetAllDomainStats(nil, c.mask, noWait)
			return len(s), err
		})
	}
}

// measure reports this process's processor time, which is the client's.
func measure(b *testing.B, name string, f func() (int, error)) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		before := cpu(b)
		for b.Loop() {
			if n, err := f(); err != nil || n != machines {
				b.Fatal(n, err)
			}
		}
		b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us")
	})
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type dialer struct{ socket string }

func (d dialer) Dial() (net.Conn, error) { return net.Dial("unix", d.socket) }
