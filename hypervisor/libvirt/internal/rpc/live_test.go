package rpc_test

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
	"github.com/drover-cloud/drover/internal/testkit"
)

// TestProcedures is virt-09: a daemon knows each procedure by the number that it has here, with arguments of that shape.
func TestProcedures(t *testing.T) {
	d := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
	for _, uri := range []string{"test:///default", "qemu:///session"} {
		dom := rpc.Domain{Name: "none", UUID: [16]byte{1}, ID: -1}
		snap := rpc.Args{}.Str("none").Dom(dom)
		ofDom := rpc.Args{}.Dom(dom)
		flagged := rpc.Args{}.Dom(dom).U32(0)
		for p, args := range map[rpc.Proc]rpc.Args{
			rpc.ConnectSupportsFeature: rpc.Args{}.I32(10), rpc.ConnectGetLibVersion: nil, rpc.ConnectGetHostname: nil,
			rpc.ConnectGetCapabilities: nil, rpc.NodeGetInfo: nil, rpc.NodeGetFreeMemory: nil,
			rpc.NodeGetCPUStats: rpc.Args{}.I32(-1).I32(0).U32(0), rpc.NodeGetMemoryStats: rpc.Args{}.I32(0).I32(-1).U32(0),
			rpc.StoragePoolLookupByName: rpc.Args{}.Str("none"), rpc.StoragePoolGetInfo: rpc.Args{}.Str("none").UUID([16]byte{1}),
			rpc.ConnectListAllDomains:    rpc.Args{}.I32(1).U32(0),
			rpc.ConnectGetAllDomainStats: rpc.Args{}.U32(0).U32(1).U32(0),
			rpc.DomainLookupByName:       rpc.Args{}.Str("none"), rpc.DomainLookupByUUID: rpc.Args{}.UUID([16]byte{1}),
			rpc.DomainGetState: flagged, rpc.DomainGetInfo: ofDom, rpc.DomainGetXMLDesc: flagged, rpc.DomainIsPersistent: ofDom,
			rpc.DomainDefineXMLFlags: rpc.Args{}.Str("<domain/>").U32(0), rpc.DomainUndefineFlags: flagged, rpc.DomainGetAutostart: ofDom,
			rpc.DomainSetAutostart:    rpc.Args{}.Dom(dom).I32(0),
			rpc.DomainGetMetadata:     rpc.Args{}.Dom(dom).I32(2).Opt("x").U32(0),
			rpc.DomainSetMetadata:     rpc.Args{}.Dom(dom).I32(2).Opt("<x/>").Opt("k").Opt("u").U32(0),
			rpc.DomainCreateWithFlags: flagged, rpc.DomainShutdownFlags: flagged, rpc.DomainDestroyFlags: flagged, rpc.DomainReboot: flagged,
			rpc.DomainReset: flagged, rpc.DomainSuspend: ofDom, rpc.DomainResume: ofDom, rpc.DomainGetTime: flagged,
			rpc.DomainManagedSave: flagged, rpc.DomainHasManagedSaveImage: flagged, rpc.DomainManagedSaveRemove: flagged,
			rpc.DomainSnapshotCreateXML:    rpc.Args{}.Dom(dom).Str("<domainsnapshot/>").U32(0),
			rpc.DomainListAllSnapshots:     rpc.Args{}.Dom(dom).I32(1).U32(0),
			rpc.DomainSnapshotLookupByName: rpc.Args{}.Dom(dom).Str("x").U32(0), rpc.DomainSnapshotGetXMLDesc: slices.Clip(snap).U32(0),
			rpc.DomainRevertToSnapshot: slices.Clip(snap).U32(0), rpc.DomainSnapshotDelete: slices.Clip(snap).U32(0),
			rpc.DomainMigratePerform3Params: rpc.Args{}.Dom(dom).Opt("qemu:///x").Params().Bytes(nil).U32(3),
			rpc.DomainGetJobStats:           flagged, rpc.DomainAbortJob: ofDom,
			rpc.DomainMigrateSetMaxDowntime: rpc.Args{}.Dom(dom).U64(1).U32(0), rpc.DomainMigrateSetMaxSpeed: rpc.Args{}.Dom(dom).U64(1).U32(0),
			rpc.DomainMigrateStartPostCopy:            flagged,
			rpc.ConnectDomainEventCallbackRegisterAny: rpc.Args{}.I32(0).U32(0), rpc.ConnectDomainEventCallbackDeregisterAny: rpc.Args{}.I32(99),
		} {
			if p == rpc.StoragePoolGetInfo && uri == "qemu:///session" {
				continue // libvirt 9.0 dies of it where it has no storage driver; StoragePoolLookupByName is refused before
			}
			t.Run("virt-09 "+uri+" "+p.String(), func(t *testing.T) {
				c := connect(t, d.Socket, uri)
				_, err := c.Call(t.Context(), p, args)
				const unknownOrMalformed = 39 // VIR_ERR_RPC
				var remote *rpc.RemoteError
				if err != nil && (!errors.As(err, &remote) || remote.Code == unknownOrMalformed) {
					t.Error(err)
				}
			})
		}
	}
}

func connect(t *testing.T, socket, uri string) *rpc.Conn {
	t.Helper()
	nc, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	c := rpc.New(rpc.Config{Env: drover.Env{}.Defaults(), Name: "test", Limit: 5}, nc)
	t.Cleanup(func() { c.Close(net.ErrClosed) })
	if _, err := c.Call(t.Context(), rpc.AuthList, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(t.Context(), rpc.ConnectOpen, rpc.Args{}.Opt(uri).U32(0)); err != nil {
		t.Fatal(err)
	}
	return c
}
