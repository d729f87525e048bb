package libvirt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// fake is a daemon inside the test: it knows some domains, answers as it is told to, and counts.
type fake struct {
	mu      sync.Mutex
	refuse  bool // connections
	deaf    bool // what comes is swallowed
	dials   int
	asked   map[rpc.Proc]int
	answers map[rpc.Proc]func(r rpc.Reply) (rpc.Args, error)
	domains map[string]fakeDomain // by name
	conns   []*fakeConn
}

type fakeDomain struct {
	uuid          byte // the last
	state, reason int32
	id            int32
}

type fakeConn struct {
	net.Conn
	mu sync.Mutex // of who writes
}

var errNoReply, errLate = errors.New("no reply"), errors.New("in a second")

const (
	fakeHost = "11111111-1111-4111-8111-111111111111"
	fakeCaps = `<capabilities><host><uuid>` + fakeHost + `</uuid><cpu><arch>x86_64</arch></cpu></host>` +
		`<guest><os_type>hvm</os_type><arch name="x86_64"><domain type="qemu"/></arch></guest></capabilities>`
	procRemote = 0x20008086
)

func newFake() *fake {
	f := &fake{asked: map[rpc.Proc]int{}, domains: map[string]fakeDomain{}}
	ok := func(a rpc.Args) func(rpc.Reply) (rpc.Args, error) {
		return func(rpc.Reply) (rpc.Args, error) { return a, nil }
	}
	f.answers = map[rpc.Proc]func(rpc.Reply) (rpc.Args, error){
		rpc.AuthList:                              ok(rpc.Args{}.U32(1).U32(0)),
		rpc.ConnectOpen:                           ok(nil),
		rpc.ConnectGetCapabilities:                ok(rpc.Args{}.Str(fakeCaps)),
		rpc.ConnectGetLibVersion:                  ok(rpc.Args{}.U64(9_000_000)),
		rpc.ConnectDomainEventCallbackRegisterAny: ok(rpc.Args{}.I32(0)),
		rpc.ConnectGetAllDomainStats:              f.stats,
		rpc.ConnectListAllDomains:                 f.list,
		rpc.DomainLookupByUUID:                    f.lookup,
		rpc.DomainIsPersistent:                    ok(rpc.Args{}.I32(1)),
		rpc.DomainHasManagedSaveImage:             ok(rpc.Args{}.I32(0)),
		rpc.DomainGetAutostart:                    ok(rpc.Args{}.I32(0)),
		rpc.DomainGetInfo:                         ok(rpc.Args{}.U32(1).U64(32 << 10).U64(32 << 10).U32(1).U64(0)),
		rpc.DomainGetMetadata:                     func(rpc.Reply) (rpc.Args, error) { return nil, &rpc.RemoteError{Code: 80, Domain: 10} },
		rpc.DomainDestroyFlags:                    ok(nil),
		rpc.DomainSuspend:                         ok(nil),
		rpc.DomainResume:                          ok(nil),
	}
	return f
}

func (d fakeDomain) dom(name string) rpc.Domain {
	dom := rpc.Domain{Name: name, ID: d.id}
	dom.UUID[15] = d.uuid
	return dom
}

func fakeID(n byte) string {
	return "00000000-0000-0000-0000-0000000000" + string("0123456789abcdef"[n>>4]) + string("0123456789abcdef"[n&15])
}

// set changes a domain; the answers are as of then.
func (f *fake) set(name string, d fakeDomain) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.domains[name] = d
}

func (f *fake) names() []string { return slices.Sorted(maps.Keys(f.domains)) }

func (f *fake) stats(r rpc.Reply) (rpc.Args, error) {
	want := map[[16]byte]bool{}
	for _, d := range r.Doms() {
		want[d.UUID] = true
	}
	n, body := uint32(0), rpc.Args{}
	for _, name := range f.names() {
		d := f.domains[name]
		if dom := d.dom(name); len(want) == 0 || want[dom.UUID] {
			n++
			body = body.Dom(dom).Params(rpc.Param{Field: "state.state", Value: rpc.Int32(d.state)}, rpc.Param{Field: "state.reason", Value: rpc.Int32(d.reason)},
				rpc.Param{Field: "vcpu.current", Value: rpc.Int32(1)}, rpc.Param{Field: "balloon.current", Value: rpc.Uint64(32 << 10)})
		}
	}
	return append(rpc.Args{}.U32(n), body...), nil
}

func (f *fake) list(r rpc.Reply) (rpc.Args, error) {
	r.I32()
	persistent := r.U32()&(1<<2) != 0
	n, body := uint32(0), rpc.Args{}
	for _, name := range f.names() {
		if persistent {
			n++
			body = body.Dom(f.domains[name].dom(name))
		}
	}
	return append(rpc.Args{}.U32(n), body...).U32(n), nil
}

func (f *fake) lookup(r rpc.Reply) (rpc.Args, error) {
	uuid := r.UUID()
	for _, name := range f.names() {
		if dom := f.domains[name].dom(name); dom.UUID == uuid {
			return rpc.Args{}.Dom(dom), nil
		}
	}
	return nil, &rpc.RemoteError{Code: 42, Domain: 10, Message: "no domain"}
}

// dial is Config.Dial.
func (f *fake) dial(context.Context) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials++
	if f.refuse {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	c := &fakeConn{Conn: far}
	f.conns = append(f.conns, c)
	go f.serve(c)
	return near, nil
}

func (f *fake) serve(c *fakeConn) {
	for {
		var head [28]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		word := func(i int) uint32 { return binary.BigEndian.Uint32(head[4*i:]) }
		body := make([]byte, word(0)-28)
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		f.mu.Lock()
		deaf := f.deaf
		f.mu.Unlock()
		switch {
		case deaf:
		case word(1) != procRemote:
			c.send(word(1), 2, 2, 0, 0, nil) // to a ping
		default:
			f.answer(c, rpc.Proc(word(3)), word(5), rpc.NewReply(body))
		}
	}
}

func (f *fake) answer(c *fakeConn, p rpc.Proc, serial uint32, r rpc.Reply) {
	f.mu.Lock()
	f.asked[p]++
	body, err := rpc.Args(nil), error(&rpc.RemoteError{Code: 3, Domain: 10, Message: p.String()})
	if g := f.answers[p]; g != nil {
		body, err = g(r)
	}
	f.mu.Unlock()
	var remote *rpc.RemoteError
	switch {
	case errors.Is(err, errNoReply):
	case errors.Is(err, errLate):
		go func() {
			time.Sleep(time.Second)
			c.send(procRemote, uint32(p), 1, serial, 0, body)
		}()
	case errors.As(err, &remote):
		c.send(procRemote, uint32(p), 1, serial, 1, rpc.Args{}.I32(remote.Code).I32(remote.Domain).U32(1).Str(remote.Message).I32(2))
	default:
		c.send(procRemote, uint32(p), 1, serial, 0, body)
	}
}

func (c *fakeConn) send(program, procedure, kind, serial, status uint32, body rpc.Args) {
	p := rpc.Args{}.U32(uint32(28 + len(body))).U32(program).U32(1).U32(procedure).U32(kind).U32(serial).U32(status)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Write(append(p, body...)) // a client that left
}

// says sends an event of a domain's life to all connections that are open.
func (f *fake) says(name string, event, detail int32) {
	f.mu.Lock()
	dom, conns := f.domains[name].dom(name), slices.Clone(f.conns)
	f.mu.Unlock()
	for _, c := range conns[:min(1, len(conns))] { // the query connection comes first
		c.send(procRemote, uint32(rpc.DomainEventCallbackLifecycle), 2, 0, 0, rpc.Args{}.I32(0).Dom(dom).I32(event).I32(detail))
	}
}

func (f *fake) saysReboot(name string) {
	f.mu.Lock()
	dom, c := f.domains[name].dom(name), f.conns[0]
	f.mu.Unlock()
	c.send(procRemote, uint32(rpc.DomainEventCallbackReboot), 2, 0, 0, rpc.Args{}.I32(1).Dom(dom))
}

// refuses makes the daemon go away, or come back.
func (f *fake) refuses(gone bool) {
	f.mu.Lock()
	f.refuse = gone
	conns := f.conns
	if gone {
		f.conns = nil
	}
	f.mu.Unlock()
	for _, c := range conns {
		if gone {
			_ = c.Close()
		}
	}
}

func (f *fake) deafen(deaf bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = deaf
}

func (f *fake) on(p rpc.Proc, g func(rpc.Reply) (rpc.Args, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[p] = g
}

func (f *fake) count(p rpc.Proc) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[p]
}

func (f *fake) dialled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dials
}

// bubble runs g in virtual time on a driver of a fake daemon; that no goroutine is left is checked by the bubble.
func bubble(t *testing.T, name string, g func(t *testing.T, f *fake, d *libvirt.Driver)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			d, err := libvirt.New(libvirt.Config{URI: "qemu:///session", Dial: f.dial})
			if err != nil {
				t.Fatal(err)
			}
			defer f.refuses(true)
			defer func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}()
			g(t, f, d)
		})
	})
}
