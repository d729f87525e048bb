package libvirt

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

var _ hypervisor.Snapshotter = (*Driver)(nil)

// CreateSnapshot keeps the state of a VM, with its memory if it runs. The disks hold it: they must be qcow2.
func (d *Driver) CreateSnapshot(ctx context.Context, id string, s hypervisor.SnapshotSpec) error {
	if err := s.Validate(); err != nil {
		return (&call{d: d, op: "snapshot", vm: id}).name(err)
	}
	return d.alter(ctx, "snapshot", id, hypervisor.SaveLimit, func(c *call) error {
		_, dom, _, err := c.get()
		if err != nil {
			return err
		}
		if _, err := c.snapshot(dom, s.Name); err == nil {
			return c.error(hypervisor.ErrExists, "snapshot "+s.Name)
		} else if !errors.Is(err, hypervisor.ErrNotFound) {
			return err
		}
		if err := c.hasDisk(dom); err != nil {
			return err
		}
		doc, err := (&libvirtxml.DomainSnapshot{Name: s.Name, Description: s.Description}).Marshal()
		if err != nil {
			return err
		}
		err = c.lasting(rpc.DomainSnapshotCreateXML, rpc.Args{}.Dom(dom).Str(doc).U32(0), func(hypervisor.VM) bool { return false })
		if err != nil {
			if _, there := c.snapshot(dom, s.Name); there == nil && !errors.Is(err, hypervisor.ErrOutcomeUnknown) {
				return c.error(hypervisor.ErrExists, "snapshot "+s.Name)
			}
		}
		return err
	})
}

// hasDisk is ErrUnsupported for a VM of QEMU that has nothing to keep a snapshot in.
func (c *call) hasDisk(dom rpc.Domain) error {
	h, err := c.met()
	if err != nil || h.kind == "test" {
		return err
	}
	r, err := c.ask(rpc.DomainGetXMLDesc, rpc.Args{}.Dom(dom).U32(0))
	if err != nil {
		return err
	}
	var doc libvirtxml.Domain
	if err := doc.Unmarshal(r.Str()); err != nil || r.Err() != nil {
		return errors.Join(err, r.Err())
	}
	if doc.Devices == nil || !slices.ContainsFunc(doc.Devices.Disks, func(d libvirtxml.DomainDisk) bool { return d.Device == "disk" }) {
		return c.error(hypervisor.ErrUnsupported, "has no disk")
	}
	return nil
}

// snapshot finds one by its name.
func (c *call) snapshot(dom rpc.Domain, name string) (rpc.Domain, error) {
	r, err := c.ask(rpc.DomainSnapshotLookupByName, rpc.Args{}.Dom(dom).Str(name).U32(0))
	if err != nil {
		return dom, err
	}
	r.Str()
	return r.Dom(), r.Err()
}

// RevertSnapshot takes a VM back to what it was. The epoch that was recorded since stays.
func (d *Driver) RevertSnapshot(ctx context.Context, id, name string) error {
	return d.alter(ctx, "revert", id, hypervisor.SaveLimit, func(c *call) error {
		if err := hypervisor.ValidName(name); err != nil {
			return err
		}
		_, dom, rec, err := c.get()
		if err != nil {
			return err
		}
		if _, err := c.snapshot(dom, name); err != nil {
			return err
		}
		err = c.lasting(rpc.DomainRevertToSnapshot, rpc.Args{}.Str(name).Dom(dom).U32(0), func(hypervisor.VM) bool { return false })
		if err != nil || rec == (record{}) {
			return err
		}
		vm, dom, now, err := c.get()
		if err != nil || now == rec {
			return err
		}
		affects := uint32(affectConfig)
		if vm.HasProcess() {
			affects = c.everywhere(vm)
		}
		return c.record(dom, rec, affects)
	})
}

// DeleteSnapshot forgets a snapshot.
func (d *Driver) DeleteSnapshot(ctx context.Context, id, name string) error {
	return d.alter(ctx, "unsnapshot", id, hypervisor.SaveLimit, func(c *call) error {
		if err := hypervisor.ValidName(name); err != nil {
			return err
		}
		_, dom, _, err := c.get()
		if err != nil {
			return err
		}
		if _, err := c.snapshot(dom, name); errors.Is(err, hypervisor.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		_, err = c.do(rpc.DomainSnapshotDelete, rpc.Args{}.Str(name).Dom(dom).U32(0))
		return err
	})
}

// Snapshots lists them by name.
func (d *Driver) Snapshots(ctx context.Context, id string) (list []hypervisor.Snapshot, err error) {
	err = d.read(ctx, "snapshots", id, hypervisor.BulkLimit, func(c *call) error {
		dom, err := c.lookup()
		if err != nil {
			return err
		}
		r, err := c.ask(rpc.DomainListAllSnapshots, rpc.Args{}.Dom(dom).I32(1).U32(0))
		if err != nil {
			return err
		}
		for range r.Count(rpc.MaxDomains, 28) {
			name, of := r.Str(), r.Dom()
			if r.Err() != nil {
				break
			}
			s, err := c.described(name, of)
			if errors.Is(err, hypervisor.ErrNotFound) { // deleted since
				continue
			}
			if err != nil {
				return err
			}
			list = append(list, s)
		}
		slices.SortFunc(list, func(a, b hypervisor.Snapshot) int { return strings.Compare(a.Name, b.Name) })
		return r.Err()
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// snapshotPowers are libvirt's words for the state that a snapshot goes back to.
var snapshotPowers = map[string]hypervisor.Power{
	"running": hypervisor.On, "paused": hypervisor.Paused, "shutoff": hypervisor.Off, "crashed": hypervisor.Crashed, "disk-snapshot": hypervisor.Off,
}

func (c *call) described(name string, of rpc.Domain) (s hypervisor.Snapshot, err error) {
	r, err := c.ask(rpc.DomainSnapshotGetXMLDesc, rpc.Args{}.Str(name).Dom(of).U32(0))
	if err != nil {
		return s, err
	}
	var doc libvirtxml.DomainSnapshot
	if err := doc.Unmarshal(r.Str()); err != nil || r.Err() != nil {
		return s, errors.Join(err, r.Err())
	}
	s = hypervisor.Snapshot{Name: doc.Name, Description: doc.Description, Power: snapshotPowers[doc.State]}
	if doc.Parent != nil {
		s.Parent = doc.Parent.Name
	}
	if at, err := strconv.ParseInt(doc.CreationTime, 10, 64); err == nil {
		s.At = time.Unix(at, 0).UTC()
	}
	return s, nil
}
