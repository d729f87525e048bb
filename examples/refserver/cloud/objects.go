package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// VM is a machine as answers and job results show it.
type VM struct {
	ID                  string            `json:"id"`
	Name                string            `json:"name"`
	DisplayName         string            `json:"displayname"`
	State               State             `json:"state"`
	Account             string            `json:"account"`
	DomainID            string            `json:"domainid"`
	Domain              string            `json:"domain"`
	UserID              string            `json:"userid"`
	Username            string            `json:"username"`
	Created             csapi.Time        `json:"created"`
	LastUpdated         csapi.Time        `json:"lastupdated,omitzero"`
	ZoneID              string            `json:"zoneid"`
	ZoneName            string            `json:"zonename"`
	TemplateID          string            `json:"templateid"`
	TemplateName        string            `json:"templatename"`
	TemplateDisplayText string            `json:"templatedisplaytext"`
	OfferingID          string            `json:"serviceofferingid"`
	OfferingName        string            `json:"serviceofferingname"`
	CPUNumber           int               `json:"cpunumber"`
	CPUSpeed            int               `json:"cpuspeed" doc:"MHz"`
	Memory              int               `json:"memory" doc:"MiB"`
	Hypervisor          string            `json:"hypervisor"`
	InstanceName        string            `json:"instancename"`
	HAEnable            bool              `json:"haenable"`
	DisplayVM           bool              `json:"displayvm"`
	PasswordEnabled     bool              `json:"passwordenabled"`
	Scalable            bool              `json:"isdynamicallyscalable"`
	Group               string            `json:"group,omitempty"`
	HostID              string            `json:"hostid,omitempty"`
	HostName            string            `json:"hostname,omitempty"`
	NIC                 []NIC             `json:"nic"`
	SecurityGroup       []string          `json:"securitygroup"`
	AffinityGroup       []string          `json:"affinitygroup"`
	Tags                []Tag             `json:"tags"`
	Details             map[string]string `json:"details"`
	UserData            string            `json:"userdata,omitempty"`
	csapi.Pending
}

// ObjectName is the key of a list of them.
func (VM) ObjectName() string { return "virtualmachine" }

// Resource is what jobs about it name.
func (v VM) Resource() string { return vmResource(v.ID) }

func vmResource(id string) string { return csapi.ResourceOf("VirtualMachine", id) }

// VMResult is the result of a job about a machine.
type VMResult struct {
	VM VM `json:"virtualmachine"`
}

// NIC is a network card of a machine.
type NIC struct {
	ID          string `json:"id"`
	NetworkID   string `json:"networkid"`
	NetworkName string `json:"networkname"`
	IPAddress   string `json:"ipaddress"`
	Netmask     string `json:"netmask"`
	Gateway     string `json:"gateway"`
	MAC         string `json:"macaddress"`
	Default     bool   `json:"isdefault"`
	Type        string `json:"type"`
	TrafficType string `json:"traffictype"`
	DeviceID    string `json:"deviceid"`
}

// Host is a host as answers show it.
type Host struct {
	ID              string     `json:"id"`
	Name            string     `json:"name"`
	State           string     `json:"state"`
	ResourceState   string     `json:"resourcestate"`
	Type            string     `json:"type"`
	IPAddress       string     `json:"ipaddress"`
	ZoneID          string     `json:"zoneid"`
	ZoneName        string     `json:"zonename"`
	PodID           string     `json:"podid"`
	PodName         string     `json:"podname"`
	ClusterID       string     `json:"clusterid"`
	ClusterName     string     `json:"clustername"`
	Hypervisor      string     `json:"hypervisor"`
	Version         string     `json:"version"`
	CPUNumber       int        `json:"cpunumber"`
	CPUSpeed        int64      `json:"cpuspeed" doc:"MHz"`
	CPUUsed         string     `json:"cpuused"`
	CPUAllocated    string     `json:"cpuallocated"`
	MemoryTotal     int64      `json:"memorytotal" doc:"bytes"`
	MemoryAllocated int64      `json:"memoryallocated"`
	MemoryUsed      int64      `json:"memoryused"`
	ServerID        string     `json:"managementserverid,omitempty"`
	ServerName      string     `json:"managementservername,omitempty"`
	LastPinged      csapi.Time `json:"lastpinged,omitzero"`
	Created         csapi.Time `json:"created"`
	HAHost          bool       `json:"hahost"`
	HostTags        string     `json:"hosttags,omitempty"`
	Annotation      string     `json:"annotation,omitempty"`
	Suitable        *bool      `json:"suitableformigration,omitempty"`
	HasCapacity     *bool      `json:"hasenoughcapacity,omitempty"`
	StorageMotion   *bool      `json:"requiresStorageMotion,omitempty" doc:"never"`
	csapi.Pending
}

// Resource is what jobs about it name.
func (h Host) Resource() string { return hostResource(h.ID) }

func hostResource(id string) string { return csapi.ResourceOf("Host", id) }

// HostResult is the result of a job about a host.
type HostResult struct {
	Host Host `json:"host"`
}

// ObjectName is the key of a list of them.
func (Host) ObjectName() string { return "host" }

// Zone is a zone as answers show it.
type Zone struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	NetworkType     string `json:"networktype"`
	AllocationState string `json:"allocationstate"`
	SecurityGroups  bool   `json:"securitygroupsenabled"`
	LocalStorage    bool   `json:"localstorageenabled"`
	Tags            []Tag  `json:"tags"`
}

// ObjectName is the key of a list of them.
func (Zone) ObjectName() string { return "zone" }

// Pod is a pod as answers show it.
type Pod struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	ZoneID          string `json:"zoneid"`
	ZoneName        string `json:"zonename"`
	AllocationState string `json:"allocationstate"`
}

// ObjectName is the key of a list of them.
func (Pod) ObjectName() string { return "pod" }

// Cluster is a cluster as answers show it.
type Cluster struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	ZoneID          string `json:"zoneid"`
	ZoneName        string `json:"zonename"`
	PodID           string `json:"podid"`
	PodName         string `json:"podname"`
	HypervisorType  string `json:"hypervisortype"`
	ClusterType     string `json:"clustertype"`
	AllocationState string `json:"allocationstate"`
	ManagedState    string `json:"managedstate"`
}

// ObjectName is the key of a list of them.
func (Cluster) ObjectName() string { return "cluster" }

// Volume is a volume as answers show it.
type Volume struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Type        string     `json:"type"`
	State       string     `json:"state"`
	ZoneID      string     `json:"zoneid"`
	ZoneName    string     `json:"zonename"`
	Account     string     `json:"account"`
	DomainID    string     `json:"domainid"`
	StorageType string     `json:"storagetype"`
	Size        int64      `json:"size" doc:"bytes"`
	DeviceID    int64      `json:"deviceid"`
	Created     csapi.Time `json:"created"`
	VMID        string     `json:"virtualmachineid,omitempty"`
	VMName      string     `json:"vmname,omitempty"`
	VMState     State      `json:"vmstate,omitempty"`
	Tags        []Tag      `json:"tags"`
}

// ObjectName is the key of a list of them.
func (Volume) ObjectName() string { return "volume" }

// Offering is a service offering as answers show it.
type Offering struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	DisplayText string     `json:"displaytext"`
	CPUNumber   int        `json:"cpunumber"`
	CPUSpeed    int        `json:"cpuspeed"`
	Memory      int        `json:"memory"`
	Created     csapi.Time `json:"created"`
	Customized  bool       `json:"iscustomized"`
	OfferHA     bool       `json:"offerha"`
	System      bool       `json:"issystem"`
}

// ObjectName is the key of a list of them.
func (Offering) ObjectName() string { return "serviceoffering" }

// Template is a template as answers show it.
type Template struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	DisplayText string     `json:"displaytext"`
	Hypervisor  string     `json:"hypervisor"`
	ZoneID      string     `json:"zoneid"`
	ZoneName    string     `json:"zonename"`
	Status      string     `json:"status"`
	Ready       bool       `json:"isready"`
	Public      bool       `json:"ispublic"`
	Featured    bool       `json:"isfeatured"`
	Size        int64      `json:"size" doc:"bytes"`
	Created     csapi.Time `json:"created"`
	OSTypeName  string     `json:"ostypename"`
	Type        string     `json:"templatetype"`
	Tags        []Tag      `json:"tags"`
}

// ObjectName is the key of a list of them.
func (Template) ObjectName() string { return "template" }

// Network is a network as answers show it.
type Network struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	DisplayText string `json:"displaytext"`
	ZoneID      string `json:"zoneid"`
	ZoneName    string `json:"zonename"`
	Type        string `json:"type"`
	TrafficType string `json:"traffictype"`
	State       string `json:"state"`
	CIDR        string `json:"cidr"`
	Gateway     string `json:"gateway"`
	Netmask     string `json:"netmask"`
	System      bool   `json:"issystem"`
	Deployable  bool   `json:"canusefordeploy"`
	Tags        []Tag  `json:"tags"`
}

// ObjectName is the key of a list of them.
func (Network) ObjectName() string { return "network" }

const kvm = "KVM"

// instance is the machine's name on its host.
func (v *vmRow) instance() string { return fmt.Sprintf("i-2-%d-VM", v.Seq) }

// parts are what belongs to machines, by machine, and is kept in tables of its own.
type parts struct {
	nics map[string][]nicRow
	tags map[string][]tagRow
}

func partsOf(ctx context.Context, q bun.IDB, vms ...string) (p parts, err error) {
	if p.nics, err = nicsOf(ctx, q, vms...); err == nil {
		p.tags, err = tagsOf(ctx, q, vms...)
	}
	return p, err
}

// show makes the answer's object.
func (c *Cloud) show(ctx context.Context, v *vmRow, p parts, userData bool) VM {
	s := c.inv.now()
	of, t, owner := s.offering(v.Offering), s.template(v.Template), s.account(v.Account)
	user := s.userOf(v.Account)
	out := VM{
		ID: v.ID, Name: v.Name, DisplayName: v.Display, State: v.State,
		Account: owner.Name, DomainID: owner.DomainID, Domain: owner.Domain, UserID: user.ID, Username: user.Name,
		Created: csapi.Time(at(v.Created)), LastUpdated: csapi.Time(at(v.Updated)),
		ZoneID: v.Zone, ZoneName: s.zone(v.Zone).Name,
		TemplateID: t.ID, TemplateName: t.Name, TemplateDisplayText: t.Display,
		OfferingID: of.ID, OfferingName: of.Name, CPUNumber: int(of.CPUs), CPUSpeed: int(of.MHz), Memory: int(of.MemoryMiB),
		Hypervisor: kvm, InstanceName: v.instance(), HAEnable: v.HAEnable, DisplayVM: true, Group: v.Group,
		NIC: []NIC{}, SecurityGroup: []string{}, AffinityGroup: []string{}, Tags: s.showTags(p.tags[v.ID]), Details: v.details(),
	}
	switch {
	case !CallerOf(ctx).Admin:
	case v.Host != "":
		out.HostID, out.HostName = v.Host, s.host(v.Host).Name
	case v.State == Destroyed || v.State == Expunging: // as CloudStack does: where it was
		out.HostName = s.host(v.LastHost).Name
	}
	if userData {
		out.UserData = c.master.openText(v.ID, v.UserData)
	}
	for _, n := range p.nics[v.ID] {
		net := s.network(n.Network)
		out.NIC = append(out.NIC, NIC{
			ID: n.ID, NetworkID: n.Network, NetworkName: net.Name, IPAddress: n.Address, Netmask: net.netmask(), Gateway: net.Gateway,
			MAC: n.MAC, Default: n.Device == 0, Type: "Isolated", TrafficType: "Guest", DeviceID: fmt.Sprint(n.Device),
		})
	}
	return out
}

func (v *vmRow) details() map[string]string {
	out := map[string]string{}
	if v.Details != "" {
		_ = json.Unmarshal([]byte(v.Details), &out) // written by setDetails
	}
	return out
}

func (v *vmRow) setDetails(d map[string]string) error {
	if len(d) == 0 {
		v.Details = ""
		return nil
	}
	b, err := json.Marshal(d)
	v.Details = string(b)
	return err
}

func (n networkRow) netmask() string {
	p, err := netip.ParsePrefix(n.CIDR)
	if err != nil {
		return ""
	}
	mask := ^uint32(0) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}).String()
}

// showHost makes the answer's object with the tracker's figures.
func (s *stock) showHost(h hostRow, u tracker.Usage, node string) Host {
	cluster := s.cluster(h.Cluster)
	pod := s.pod(cluster.Pod)
	total := h.CPUs * vcpuRatio
	share := fmt.Sprintf("%.1f%%", 100*float64(u.Used.VCPUs)/float64(max(1, total)))
	out := Host{
		ID: h.ID, Name: h.Name, State: "Up", ResourceState: h.shown(), Type: "Routing", IPAddress: h.Address,
		ZoneID: pod.Zone, ZoneName: s.zone(pod.Zone).Name, PodID: pod.ID, PodName: pod.Name, ClusterID: cluster.ID, ClusterName: cluster.Name,
		Hypervisor: kvm, Version: csVersion, CPUNumber: int(h.CPUs), CPUSpeed: h.MHz, CPUUsed: share, CPUAllocated: share,
		MemoryTotal: h.MemoryMiB << 20, MemoryAllocated: u.Used.MemoryMiB << 20, MemoryUsed: u.Used.MemoryMiB << 20,
		LastPinged: csapi.Time(u.At), Created: csapi.Time(at(h.Created)), HostTags: h.Tags, Annotation: h.Annotation,
	}
	out.ServerID, out.ServerName = s.server(node)
	return out
}

const csVersion = "4.20.0.0-drover"
