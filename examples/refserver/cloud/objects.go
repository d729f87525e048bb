package cloud

import (
	"encoding/json"
	"fmt"
	"net/netip"

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
	Tags                []string          `json:"tags"`
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
	Suitable        *bool      `json:"suitableformigration,omitempty"`
	HasCapacity     *bool      `json:"hasenoughcapacity,omitempty"`
}

// ObjectName is the key of a list of them.
func (Host) ObjectName() string { return "host" }

// Zone is a zone as answers show it.
type Zone struct {
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	NetworkType     string   `json:"networktype"`
	AllocationState string   `json:"allocationstate"`
	SecurityGroups  bool     `json:"securitygroupsenabled"`
	LocalStorage    bool     `json:"localstorageenabled"`
	Tags            []string `json:"tags"`
}

// ObjectName is the key of a list of them.
func (Zone) ObjectName() string { return "zone" }

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
	Tags        []string   `json:"tags"`
}

// ObjectName is the key of a list of them.
func (Template) ObjectName() string { return "template" }

// Network is a network as answers show it.
type Network struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	DisplayText string   `json:"displaytext"`
	ZoneID      string   `json:"zoneid"`
	ZoneName    string   `json:"zonename"`
	Type        string   `json:"type"`
	TrafficType string   `json:"traffictype"`
	State       string   `json:"state"`
	CIDR        string   `json:"cidr"`
	Gateway     string   `json:"gateway"`
	Netmask     string   `json:"netmask"`
	System      bool     `json:"issystem"`
	Deployable  bool     `json:"canusefordeploy"`
	Tags        []string `json:"tags"`
}

// ObjectName is the key of a list of them.
func (Network) ObjectName() string { return "network" }

const kvm = "KVM"

// instance is the machine's name on its host.
func (v *vmRow) instance() string { return fmt.Sprintf("i-2-%d-VM", v.Seq) }

// show makes the answer's object; nics are the machine's, in order.
func (c *Cloud) show(v *vmRow, nics []nicRow, userData bool) VM {
	s, o := c.inv.now(), c.inv.owner
	of, t := s.offering(v.Offering), s.template(v.Template)
	out := VM{
		ID: v.ID, Name: v.Name, DisplayName: v.Display, State: v.State,
		Account: o.Account, DomainID: o.DomainID, Domain: o.Domain, UserID: o.UserID, Username: o.Username,
		Created: csapi.Time(at(v.Created)), LastUpdated: csapi.Time(at(v.Updated)),
		ZoneID: v.Zone, ZoneName: s.zone(v.Zone).Name,
		TemplateID: t.ID, TemplateName: t.Name, TemplateDisplayText: t.Display,
		OfferingID: of.ID, OfferingName: of.Name, CPUNumber: int(of.CPUs), CPUSpeed: int(of.MHz), Memory: int(of.MemoryMiB),
		Hypervisor: kvm, InstanceName: v.instance(), DisplayVM: true, Group: v.Group,
		NIC: []NIC{}, SecurityGroup: []string{}, AffinityGroup: []string{}, Tags: []string{}, Details: map[string]string{},
	}
	switch {
	case v.Host != "":
		out.HostID, out.HostName = v.Host, s.host(v.Host).Name
	case v.State == Destroyed || v.State == Expunging: // as CloudStack does: where it was
		out.HostName = s.host(v.LastHost).Name
	}
	if v.Details != "" {
		_ = json.Unmarshal([]byte(v.Details), &out.Details) // written by deploy
	}
	if userData {
		out.UserData = v.UserData
	}
	for _, n := range nics {
		net := s.network(n.Network)
		out.NIC = append(out.NIC, NIC{
			ID: n.ID, NetworkID: n.Network, NetworkName: net.Name, IPAddress: n.Address, Netmask: net.netmask(), Gateway: net.Gateway,
			MAC: n.MAC, Default: n.Device == 0, Type: "Isolated", TrafficType: "Guest", DeviceID: fmt.Sprint(n.Device),
		})
	}
	return out
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
		ID: h.ID, Name: h.Name, State: "Up", ResourceState: "Enabled", Type: "Routing", IPAddress: h.Address,
		ZoneID: pod.Zone, ZoneName: s.zone(pod.Zone).Name, PodID: pod.ID, PodName: pod.Name, ClusterID: cluster.ID, ClusterName: cluster.Name,
		Hypervisor: kvm, Version: csVersion, CPUNumber: int(h.CPUs), CPUSpeed: h.MHz, CPUUsed: share, CPUAllocated: share,
		MemoryTotal: h.MemoryMiB << 20, MemoryAllocated: u.Used.MemoryMiB << 20, MemoryUsed: u.Used.MemoryMiB << 20,
		LastPinged: csapi.Time(u.At), Created: csapi.Time(at(h.Created)),
	}
	out.ServerID, out.ServerName = s.server(node)
	return out
}

const csVersion = "4.20.0.0-drover"
