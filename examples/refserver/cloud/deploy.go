package cloud

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

type deployVM struct {
	Offering  dispatch.UUID     `param:"serviceofferingid,required,entity=offering" doc:"size of the machine"`
	Template  dispatch.UUID     `param:"templateid,required,entity=template" doc:"what its disk begins with"`
	Zone      dispatch.UUID     `param:"zoneid,required,entity=zone"`
	Name      string            `param:"name,max=63,pattern=([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)?" doc:"host name; default VM-<id>"`
	Display   string            `param:"displayname" doc:"for people; default the name"`
	Networks  []dispatch.UUID   `param:"networkids,entity=network" doc:"default: the first of the zone"`
	Host      dispatch.UUID     `param:"hostid,entity=host,roles=admin" doc:"on this host or not at all"`
	Start     bool              `param:"startvm,default=true" doc:"start it"`
	Group     string            `param:"group"`
	UserData  string            `param:"userdata,max=65536,secret" doc:"base64, at most 32 KiB decoded"`
	IPAddress string            `param:"ipaddress" doc:"in the first network; default the lowest free one"`
	RootDisk  int64             `param:"rootdisksize,min=1,max=65536" doc:"GiB; default the template's"`
	Details   map[string]string `param:"details"`
	CustomID  dispatch.UUID     `param:"customid,roles=admin" doc:"id of the machine"`
	Account   string            `param:"account,roles=admin"`

	VM string `param:"-"` // made by create
}

const maxUserData = 32 << 10

// Validate checks what one parameter alone can be wrong in.
func (p deployVM) Validate() error {
	if err := checkUserData(p.UserData); err != nil {
		return err
	}
	if p.IPAddress != "" {
		if a, err := netip.ParseAddr(p.IPAddress); err != nil || !a.Is4() {
			return csapi.BadParam("ipaddress", dispatch.BadType, p.IPAddress, "an IPv4 address")
		}
	}
	for i, n := range p.Networks {
		if slices.Contains(p.Networks[:i], n) {
			return csapi.BadParam("networkids", dispatch.Duplicate, string(n), "each network once")
		}
	}
	return nil
}

// checkUserData wants base64 in either alphabet, padded or not, since clients differ.
func checkUserData(text string) error {
	b, err := base64.RawStdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/", "=", "").Replace(text))
	switch {
	case err != nil:
		return csapi.BadParam("userdata", dispatch.BadType, "", "base64 of at most 32 KiB")
	case len(b) > maxUserData:
		return csapi.BadParam("userdata", dispatch.TooLong, "", "base64 of at most 32 KiB")
	}
	return nil
}

// createVM allocates the machine in the transaction that submits its job: row, address, card, volume.
func (c *Cloud) createVM(ctx context.Context, x store.Tx, p *deployVM) (string, error) {
	q, err := c.open(x)
	if err != nil {
		return "", err
	}
	owner := CallerOf(ctx).AccountID
	t := c.inv.now().template(string(p.Template))
	if p.Account != "" {
		a, ok := c.inv.now().accountNamed(p.Account)
		if !ok {
			return "", csapi.BadParam("account", dispatch.NoSuchEntity, p.Account, "")
		}
		owner = a.ID
	}
	if p.RootDisk > 0 && p.RootDisk < t.RootGiB {
		return "", csapi.BadParam("rootdisksize", dispatch.OutOfRange, fmt.Sprint(p.RootDisk), fmt.Sprintf("at least the template's %d GiB", t.RootGiB))
	}
	v := &vmRow{
		base: base{ID: or(string(p.CustomID), c.env.NewID), Created: q.now, Version: 1}, Name: p.Name, Display: p.Display,
		Account: owner, Zone: string(p.Zone), Template: t.ID, Offering: string(p.Offering), State: Starting,
		Group: p.Group, Updated: q.now,
	}
	v.UserData = c.master.sealText(v.ID, p.UserData)
	if p.CustomID != "" {
		if _, err := vmByID(ctx, q, v.ID); err == nil {
			return "", csapi.BadParam("customid", dispatch.Duplicate, v.ID, "an id that is not in use")
		}
	}
	if v.Name == "" {
		v.Name = "VM-" + v.ID
	}
	if v.Display == "" {
		v.Display = v.Name
	}
	if err := v.setDetails(p.Details); err != nil {
		return "", err
	}
	if v.Seq, err = q.count(ctx, "vm"); err != nil {
		return "", err
	}
	if err := q.insert(ctx, v); err != nil {
		return "", err
	}
	if err := c.wire(ctx, q, v, p); err != nil {
		return "", err
	}
	p.VM = v.ID
	return v.ID, q.insert(ctx, &volumeRow{
		base: base{ID: c.env.NewID(), Created: q.now, Version: 1}, VM: v.ID, Name: fmt.Sprintf("ROOT-%d", v.Seq), State: "Allocated",
		SizeMiB: max(p.RootDisk, t.RootGiB) << 10,
	})
}

// wire gives the machine a card and an address in each network.
func (c *Cloud) wire(ctx context.Context, q *tx, v *vmRow, p *deployVM) error {
	s := c.inv.now()
	nets := p.Networks
	if len(nets) == 0 {
		for _, n := range s.networks {
			if n.Zone == v.Zone {
				nets = []dispatch.UUID{dispatch.UUID(n.ID)}
				break
			}
		}
	}
	for i, id := range nets {
		want := ""
		if i == 0 {
			want = p.IPAddress
		}
		nic := &nicRow{base: base{ID: c.env.NewID(), Created: q.now + int64(i), Version: 1}, VM: v.ID, Network: string(id), Device: int64(i)}
		var err error
		if nic.Address, nic.MAC, err = q.allocate(ctx, s.network(string(id)), nic.ID, want); err != nil {
			return err
		}
		if err := q.insert(ctx, nic); err != nil {
			return err
		}
	}
	return nil
}

func (p deployVM) key() syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: p.VM} }

// deploy runs the flow in the job.
func (c *Cloud) deploy(ctx context.Context, p deployVM) (VMResult, error) {
	r := &bringUp{VM: dispatch.EntityID(ctx), Deploy: true, Power: p.Start, Only: string(p.Host)}
	if err := c.deployFlow.Run(ctx, r); err != nil {
		return VMResult{}, verdict(err)
	}
	return c.result(ctx, r.VM)
}
