package libvirt

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// Flags of libvirt's calls, by its names.
const (
	statsState, statsCPU, statsBalloon, statsVCPU, statsNIC, statsBlock = 1, 2, 4, 8, 16, 32 // VIR_DOMAIN_STATS_

	statsMonitor = statsCPU | statsBalloon | statsVCPU | statsBlock // groups that ask the guest's process
	statsShown   = statsBalloon | statsBlock                        // and where it shows that it answered
	statsNoWait  = 1 << 29

	listPersistent, listManagedSave, listAutostart = 1 << 2, 1 << 8, 1 << 10 // VIR_CONNECT_LIST_DOMAINS_
)

// List gives the VMs that match f, sorted by ID. Their Epoch is left out: it takes a request for each, see Get.
func (d *Driver) List(ctx context.Context, f hypervisor.Filter) (vms []hypervisor.VM, err error) {
	err = d.read(ctx, "list", "", hypervisor.BulkLimit, func(c *call) error {
		all, err := c.list()
		if err != nil {
			return err
		}
		if err := c.mark(all); err != nil {
			return err
		}
		vms = slices.DeleteFunc(all, func(vm hypervisor.VM) bool { return !f.Matches(vm) })
		slices.SortFunc(vms, func(a, b hypervisor.VM) int { return strings.Compare(a.ID, b.ID) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return vms, nil
}

// list reads all VMs, as bulk statistics tell.
func (c *call) list() ([]hypervisor.VM, error) {
	r, err := c.bulk(nil, statsState|statsCPU|statsBalloon|statsVCPU)
	if err != nil {
		return nil, err
	}
	return c.vms(&r)
}

// Get reads one VM.
func (d *Driver) Get(ctx context.Context, id string) (vm hypervisor.VM, err error) {
	err = d.read(ctx, "get", id, hypervisor.QueryLimit, func(c *call) error {
		vm, _, _, err = c.get()
		return err
	})
	return vm, err
}

// get reads the call's VM, and what was recorded of it. It asks nothing that a hung guest would hold up.
func (c *call) get() (hypervisor.VM, rpc.Domain, record, error) {
	var rec record
	dom, err := c.lookup()
	if err != nil {
		return hypervisor.VM{}, dom, rec, err
	}
	r, err := c.ask(rpc.ConnectGetAllDomainStats, rpc.Args{}.U32(1).Dom(dom).U32(statsState).U32(statsNoWait))
	if err != nil {
		return hypervisor.VM{}, dom, rec, err
	}
	vms, err := c.vms(&r)
	if err == nil && len(vms) != 1 {
		err = c.error(hypervisor.ErrNotFound, "")
	}
	if err != nil {
		return hypervisor.VM{}, dom, rec, err
	}
	vm := vms[0]
	dom.ID = int32(vm.Incarnation)
	if vm.Persistent, err = c.is(rpc.DomainIsPersistent, rpc.Args{}.Dom(dom)); err == nil {
		rec, err = c.recorded(dom, vm.Persistent)
	}
	if vm.Epoch = rec.Epoch; err == nil {
		vm.Saved, err = c.is(rpc.DomainHasManagedSaveImage, rpc.Args{}.Dom(dom).U32(0))
	}
	if err == nil {
		vm.Autostart, err = c.is(rpc.DomainGetAutostart, rpc.Args{}.Dom(dom))
	}
	return vm, dom, rec, err
}

// is asks a question of yes and no. A host that does not know of the matter says no.
func (c *call) is(p rpc.Proc, args rpc.Args) (bool, error) {
	r, err := c.ask(p, args)
	if errors.Is(err, hypervisor.ErrUnsupported) {
		return false, nil
	}
	return r.I32() == 1, errors.Join(err, r.Err())
}

// lookup finds the domain of the call's VM.
func (c *call) lookup() (rpc.Domain, error) {
	r, err := c.ask(rpc.DomainLookupByUUID, rpc.Args{}.UUID(binaryID(c.vm)))
	if err != nil {
		return rpc.Domain{}, err
	}
	return r.Dom(), r.Err()
}

// vms decodes bulk statistics. What they leave out of a VM is asked for.
func (c *call) vms(r *rpc.Reply) ([]hypervisor.VM, error) {
	vms := make([]hypervisor.VM, 0, r.Count(rpc.MaxDomains, 28))
	for range cap(vms) {
		dom, s := r.Dom(), figures{}
		r.Params(s.take)
		if r.Err() == nil && !s.hasVCPU {
			if err := c.info(dom, &s); err != nil {
				return nil, err
			}
		}
		vms = append(vms, s.vm(dom))
	}
	return vms, r.Err()
}

func (c *call) info(dom rpc.Domain, s *figures) error {
	r, err := c.ask(rpc.DomainGetInfo, rpc.Args{}.Dom(dom))
	if errors.Is(err, hypervisor.ErrNotFound) { // gone since
		return nil
	}
	if err != nil {
		return err
	}
	r.U32()
	s.maxMemory, s.memory, s.vcpus, s.cpu = int64(r.U64()), int64(r.U64()), int64(r.U32()), int64(r.U64())
	s.hasMem = true
	return r.Err()
}

// figures are what bulk statistics say of a domain.
type figures struct {
	of                        *hypervisor.Stats // what only Stats tells goes there, nil: nowhere
	state, reason             int64
	cpu                       int64 // ns
	memory, maxMemory         int64 // KiB
	vcpus                     int64
	hasState, hasMem, hasVCPU bool
	answered                  bool // by the guest's process
}

func (s *figures) take(field []byte, v rpc.Value) {
	switch string(field) {
	case "state.state":
		s.state, s.hasState = v.Int(), true
	case "state.reason":
		s.reason = v.Int()
	case "cpu.time":
		s.cpu = v.Int()
	case "balloon.current":
		s.memory, s.hasMem = v.Int(), true
	case "balloon.maximum":
		s.maxMemory = v.Int()
	case "vcpu.current":
		s.vcpus, s.hasVCPU = v.Int(), true
	case "balloon.rss":
		if s.answered = true; s.of != nil {
			s.of.ResidentMiB = v.Int() >> 10
		}
	default:
		if s.of != nil && len(field) > 0 && (field[0] == 'b' || field[0] == 'n') {
			s.more(field, v)
		}
	}
}

func (s *figures) vm(dom rpc.Domain) hypervisor.VM {
	vm := hypervisor.VM{
		ID: textID(dom.UUID), Name: dom.Name, Incarnation: int64(dom.ID), VCPUs: int(s.vcpus), CPUTime: time.Duration(s.cpu),
		MemoryMiB: s.memory >> 10, MaxMemoryMiB: s.maxMemory >> 10,
	}
	if vm.Incarnation < 0 {
		vm.CPUTime = 0 // the test driver counts on
	}
	if s.hasState {
		vm.Power = hypervisor.PowerOf(int(s.state), int(s.reason))
		vm.Reason = reasonOf(int(s.state), int(s.reason))
	}
	if !s.hasMem {
		vm.MemoryMiB = vm.MaxMemoryMiB
	}
	return vm
}

// mark fills in what only lists tell: one request for each question, not one for each VM.
func (c *call) mark(vms []hypervisor.VM) error {
	at := make(map[string]int, len(vms))
	for i, vm := range vms {
		at[vm.ID] = i
	}
	for _, q := range []struct {
		flag uint32
		set  func(vm *hypervisor.VM)
	}{
		{listPersistent, func(vm *hypervisor.VM) { vm.Persistent = true }},
		{listManagedSave, func(vm *hypervisor.VM) { vm.Saved = true }},
		{listAutostart, func(vm *hypervisor.VM) { vm.Autostart = true }},
	} {
		r, err := c.ask(rpc.ConnectListAllDomains, rpc.Args{}.I32(1).U32(q.flag))
		if err != nil {
			return err
		}
		for _, dom := range r.Doms() {
			if i, ok := at[textID(dom.UUID)]; ok {
				q.set(&vms[i])
			}
		}
		if err := r.Err(); err != nil {
			return err
		}
	}
	return nil
}

// reasons are libvirt's words, by state.
var reasons = map[int][]string{
	1: {"", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration cancelled", "save cancelled", "wakeup", "crashed", "post-copy", "post-copy failed"},
	3: {"", "by user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot", "shutting down", "snapshotting", "crashed", "starting up", "post-copy", "post-copy failed", "API error"},
	4: {"", "by user"},
	5: {"", "shut down", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon"},
	6: {"", "panicked"},
}

func reasonOf(state, reason int) string {
	if r := reasons[state]; reason >= 0 && reason < len(r) {
		return r[reason]
	}
	return ""
}

func binaryID(id string) (u [16]byte) {
	_, _ = hex.Decode(u[:], []byte(strings.ReplaceAll(id, "-", ""))) // ValidID has seen it
	return u
}

// idLen is the length of a UUID as text.
const idLen = 36

func textID(u [16]byte) string { return string(appendID(make([]byte, 0, idLen), u)) }

func appendID(to []byte, u [16]byte) []byte {
	var b [idLen]byte
	hex.Encode(b[:8], u[:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return append(to, b[:]...)
}
