package libvirt

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

const undefineManagedSave, undefineSnapshots, undefineNVRAM = 1, 2, 4 // VIR_DOMAIN_UNDEFINE_

// Define stores s; see hypervisor.Driver. What was recorded of epochs stays.
func (d *Driver) Define(ctx context.Context, s hypervisor.Spec) (vm hypervisor.VM, err error) {
	if err := s.Validate(hypervisor.Rules{DiskRoots: d.cfg.DiskRoots, AllowRaw: d.cfg.AllowRaw}); err != nil {
		return vm, (&call{d: d, op: "define", vm: s.ID}).name(err)
	}
	err = d.alter(ctx, "define", s.ID, hypervisor.ChangeLimit, func(c *call) error {
		h, err := c.met()
		if err != nil {
			return err
		}
		var rec record
		dom, err := c.lookup()
		if err == nil {
			rec, err = c.recorded(dom, true)
		}
		if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			return err
		}
		doc, err := describe(s, h, rec, d.cfg.ConsoleDir)
		if err != nil {
			return err
		}
		if _, err = c.do(rpc.DomainDefineXMLFlags, rpc.Args{}.Str(doc).U32(0)); err != nil {
			return c.holder(s, err)
		}
		vm, _, _, err = c.get()
		return err
	})
	if err != nil {
		return hypervisor.VM{}, err
	}
	return vm, nil
}

// holder looks whether err, of a definition, means that another VM has the name.
func (c *call) holder(s hypervisor.Spec, err error) error {
	e := classify(err, true)
	if e.Code != codeOperationFailed && !errors.Is(e, hypervisor.ErrExists) {
		return err
	}
	r, lookup := c.ask(rpc.DomainLookupByName, rpc.Args{}.Str(s.Name))
	if other := textID(r.Dom().UUID); lookup == nil && r.Err() == nil && other != s.ID {
		e.Class, e.Message = hypervisor.ErrExists, "name "+s.Name+" is held by "+other
		return e
	}
	return err
}

// describe is the domain's XML; consoles is where guests' consoles are logged.
func describe(s hypervisor.Spec, h *host, rec record, consoles string) (string, error) {
	dom := &libvirtxml.Domain{}
	if len(s.Raw) > 0 {
		var err error
		if dom, err = rawDomain(s); err != nil {
			return "", err
		}
	} else {
		generated(dom, s, h, consoles)
	}
	if rec != (record{}) {
		doc, err := xml.Marshal(rec)
		if err != nil {
			return "", err
		}
		dom.Metadata = &libvirtxml.DomainMetadata{XML: string(doc)}
	}
	return dom.Marshal()
}

func generated(dom *libvirtxml.Domain, s hypervisor.Spec, h *host, consoles string) {
	dom.Type, dom.Name, dom.UUID = h.kind, s.Name, s.ID
	dom.Memory = &libvirtxml.DomainMemory{Value: uint(s.MemoryMiB), Unit: "MiB"}
	dom.VCPU = &libvirtxml.DomainVCPU{Value: uint(s.VCPU)}
	dom.OS = &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Type: h.osType, Arch: h.arch}}
	if h.arch == "x86_64" && h.kind != "test" {
		dom.Features = &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}}
	}
	dom.Devices = &libvirtxml.DomainDeviceList{}
	for i, disk := range s.Disks {
		dom.Devices.Disks = append(dom.Devices.Disks, libvirtxml.DomainDisk{
			Device: "disk",
			Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: disk.Format},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: disk.Path}},
			Target: &libvirtxml.DomainDiskTarget{Dev: "vd" + letters(i), Bus: cmp.Or(disk.Bus, "virtio")},
		})
	}
	for _, nic := range s.NICs {
		dom.Devices.Interfaces = append(dom.Devices.Interfaces, libvirtxml.DomainInterface{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: nic.MAC},
			Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: nic.Bridge}},
			Model:  &libvirtxml.DomainInterfaceModel{Type: cmp.Or(nic.Model, "virtio")},
		})
	}
	if s.Console {
		pty := &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}
		serial := libvirtxml.DomainSerial{Source: pty}
		if consoles != "" {
			serial.Log = &libvirtxml.DomainChardevLog{File: consoleLog(consoles, s.ID), Append: "on"}
		}
		dom.Devices.Serials = []libvirtxml.DomainSerial{serial}
		dom.Devices.Consoles = []libvirtxml.DomainConsole{{Source: pty}}
	}
	if s.Agent {
		dom.Devices.Channels = []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
		}}
	}
}

// letters is a, b, … z, aa, …: the names of disks.
func letters(n int) string {
	s := ""
	for ; n >= 0; n = n/26 - 1 {
		s = string(rune('a'+n%26)) + s
	}
	return s
}

// Undefine forgets a VM that is Off or Crashed.
func (d *Driver) Undefine(ctx context.Context, id string) error {
	return d.alter(ctx, "undefine", id, hypervisor.ChangeLimit, func(c *call) error {
		vm, dom, _, err := c.get()
		if errors.Is(err, hypervisor.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if vm.HasProcess() {
			return c.state(vm)
		}
		h, err := c.met()
		if err != nil {
			return err
		}
		flags := uint32(undefineManagedSave | undefineSnapshots)
		if h.kind != "test" {
			flags |= undefineNVRAM
		}
		_, err = c.do(rpc.DomainUndefineFlags, rpc.Args{}.Dom(dom).U32(flags))
		if errors.Is(asRead(err), hypervisor.ErrNotFound) {
			return nil
		}
		return err
	})
}

// state is ErrState, with the state.
func (c *call) state(vm hypervisor.VM) error {
	return c.error(hypervisor.ErrState, fmt.Sprintf("is %s", cmp.Or(string(vm.Power), "in an unknown state")))
}
