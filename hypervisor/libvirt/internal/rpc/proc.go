package rpc

import "strconv"

// Proc is the number of a procedure, from libvirt's remote_protocol.x. Numbers never change.
type Proc uint32

// The procedures that drover calls, and the three events that it reads.
const (
	ConnectOpen             Proc = 1
	ConnectClose            Proc = 2
	NodeGetInfo             Proc = 6
	ConnectGetCapabilities  Proc = 7
	ConnectGetHostname      Proc = 59
	ConnectSupportsFeature  Proc = 60
	AuthList                Proc = 66
	NodeGetFreeMemory       Proc = 102
	ConnectGetLibVersion    Proc = 157
	NodeGetCPUStats         Proc = 227
	NodeGetMemoryStats      Proc = 228
	StoragePoolLookupByName Proc = 84
	StoragePoolGetInfo      Proc = 87

	ConnectListAllDomains    Proc = 273
	ConnectGetAllDomainStats Proc = 344
	DomainLookupByName       Proc = 23
	DomainLookupByUUID       Proc = 24
	DomainGetState           Proc = 212
	DomainGetInfo            Proc = 16
	DomainGetXMLDesc         Proc = 14
	DomainIsPersistent       Proc = 151

	DomainDefineXMLFlags Proc = 350
	DomainUndefineFlags  Proc = 231
	DomainGetAutostart   Proc = 15
	DomainSetAutostart   Proc = 29
	DomainGetMetadata    Proc = 265
	DomainSetMetadata    Proc = 264

	DomainCreateWithFlags Proc = 196
	DomainShutdownFlags   Proc = 258
	DomainDestroyFlags    Proc = 234
	DomainReboot          Proc = 27
	DomainReset           Proc = 245
	DomainSuspend         Proc = 34
	DomainResume          Proc = 28

	DomainGetTime Proc = 337 // asked of the agent inside the guest

	DomainManagedSave         Proc = 182
	DomainHasManagedSaveImage Proc = 183
	DomainManagedSaveRemove   Proc = 184

	DomainSnapshotCreateXML    Proc = 185
	DomainSnapshotGetXMLDesc   Proc = 186
	DomainListAllSnapshots     Proc = 274
	DomainSnapshotLookupByName Proc = 189
	DomainRevertToSnapshot     Proc = 192
	DomainSnapshotDelete       Proc = 193

	DomainMigratePerform3Params Proc = 305
	DomainGetJobStats           Proc = 298
	DomainAbortJob              Proc = 164
	DomainMigrateSetMaxDowntime Proc = 166
	DomainMigrateSetMaxSpeed    Proc = 207
	DomainMigrateStartPostCopy  Proc = 364

	ConnectDomainEventCallbackRegisterAny   Proc = 316
	ConnectDomainEventCallbackDeregisterAny Proc = 317
	DomainEventCallbackLifecycle            Proc = 318
	DomainEventCallbackReboot               Proc = 319
	DomainEventCallbackJobCompleted         Proc = 363
)

// names are libvirt's own, for spans and logs.
var names = map[Proc]string{
	ConnectOpen:                             "CONNECT_OPEN",
	ConnectClose:                            "CONNECT_CLOSE",
	NodeGetInfo:                             "NODE_GET_INFO",
	ConnectGetCapabilities:                  "CONNECT_GET_CAPABILITIES",
	ConnectGetHostname:                      "CONNECT_GET_HOSTNAME",
	ConnectSupportsFeature:                  "CONNECT_SUPPORTS_FEATURE",
	AuthList:                                "AUTH_LIST",
	NodeGetFreeMemory:                       "NODE_GET_FREE_MEMORY",
	ConnectGetLibVersion:                    "CONNECT_GET_LIB_VERSION",
	NodeGetCPUStats:                         "NODE_GET_CPU_STATS",
	NodeGetMemoryStats:                      "NODE_GET_MEMORY_STATS",
	StoragePoolLookupByName:                 "STORAGE_POOL_LOOKUP_BY_NAME",
	StoragePoolGetInfo:                      "STORAGE_POOL_GET_INFO",
	ConnectListAllDomains:                   "CONNECT_LIST_ALL_DOMAINS",
	ConnectGetAllDomainStats:                "CONNECT_GET_ALL_DOMAIN_STATS",
	DomainLookupByName:                      "DOMAIN_LOOKUP_BY_NAME",
	DomainLookupByUUID:                      "DOMAIN_LOOKUP_BY_UUID",
	DomainGetState:                          "DOMAIN_GET_STATE",
	DomainGetInfo:                           "DOMAIN_GET_INFO",
	DomainGetXMLDesc:                        "DOMAIN_GET_XML_DESC",
	DomainIsPersistent:                      "DOMAIN_IS_PERSISTENT",
	DomainDefineXMLFlags:                    "DOMAIN_DEFINE_XML_FLAGS",
	DomainUndefineFlags:                     "DOMAIN_UNDEFINE_FLAGS",
	DomainGetAutostart:                      "DOMAIN_GET_AUTOSTART",
	DomainSetAutostart:                      "DOMAIN_SET_AUTOSTART",
	DomainGetMetadata:                       "DOMAIN_GET_METADATA",
	DomainSetMetadata:                       "DOMAIN_SET_METADATA",
	DomainCreateWithFlags:                   "DOMAIN_CREATE_WITH_FLAGS",
	DomainShutdownFlags:                     "DOMAIN_SHUTDOWN_FLAGS",
	DomainDestroyFlags:                      "DOMAIN_DESTROY_FLAGS",
	DomainReboot:                            "DOMAIN_REBOOT",
	DomainReset:                             "DOMAIN_RESET",
	DomainSuspend:                           "DOMAIN_SUSPEND",
	DomainResume:                            "DOMAIN_RESUME",
	DomainManagedSave:                       "DOMAIN_MANAGED_SAVE",
	DomainHasManagedSaveImage:               "DOMAIN_HAS_MANAGED_SAVE_IMAGE",
	DomainManagedSaveRemove:                 "DOMAIN_MANAGED_SAVE_REMOVE",
	DomainSnapshotCreateXML:                 "DOMAIN_SNAPSHOT_CREATE_XML",
	DomainSnapshotGetXMLDesc:                "DOMAIN_SNAPSHOT_GET_XML_DESC",
	DomainGetTime:                           "DOMAIN_GET_TIME",
	DomainListAllSnapshots:                  "DOMAIN_LIST_ALL_SNAPSHOTS",
	DomainSnapshotLookupByName:              "DOMAIN_SNAPSHOT_LOOKUP_BY_NAME",
	DomainRevertToSnapshot:                  "DOMAIN_REVERT_TO_SNAPSHOT",
	DomainSnapshotDelete:                    "DOMAIN_SNAPSHOT_DELETE",
	DomainMigratePerform3Params:             "DOMAIN_MIGRATE_PERFORM3_PARAMS",
	DomainGetJobStats:                       "DOMAIN_GET_JOB_STATS",
	DomainAbortJob:                          "DOMAIN_ABORT_JOB",
	DomainMigrateSetMaxDowntime:             "DOMAIN_MIGRATE_SET_MAX_DOWNTIME",
	DomainMigrateSetMaxSpeed:                "DOMAIN_MIGRATE_SET_MAX_SPEED",
	DomainMigrateStartPostCopy:              "DOMAIN_MIGRATE_START_POST_COPY",
	ConnectDomainEventCallbackRegisterAny:   "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY",
	ConnectDomainEventCallbackDeregisterAny: "CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY",
	DomainEventCallbackLifecycle:            "DOMAIN_EVENT_CALLBACK_LIFECYCLE",
	DomainEventCallbackReboot:               "DOMAIN_EVENT_CALLBACK_REBOOT",
	DomainEventCallbackJobCompleted:         "DOMAIN_EVENT_CALLBACK_JOB_COMPLETED",
}

// String is libvirt's name of the procedure.
func (p Proc) String() string {
	if s, ok := names[p]; ok {
		return s
	}
	return "PROC_" + strconv.FormatUint(uint64(p), 10)
}
