// Command sample deploys a machine at a reference server with the unmodified CloudStack Go SDK, and waits until it runs.
//
//	set -a; . ./refserver-data/admin.env; set +a      # what the server wrote at its first start
//	cd examples/refserver/clienttest && go run ./sample web-1
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/apache/cloudstack-go/v2/cloudstack"
)

func main() {
	if err := deploy(append(os.Args, "sample")[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

func deploy(name string) error {
	c := cloudstack.NewAsyncClient(os.Getenv("DROVER_ENDPOINT"), os.Getenv("DROVER_API_KEY"), os.Getenv("DROVER_API_SECRET"), false)
	zones, err := c.Zone.ListZones(c.Zone.NewListZonesParams())
	if err != nil {
		return err
	}
	offering, _, err := c.ServiceOffering.GetServiceOfferingID("small")
	if err != nil {
		return err
	}
	template, _, err := c.Template.GetTemplateID("debian12", "executable", zones.Zones[0].Id)
	if err != nil {
		return err
	}
	p := c.VirtualMachine.NewDeployVirtualMachineParams(offering, template, zones.Zones[0].Id)
	p.SetName(name)
	began := time.Now()
	vm, err := c.VirtualMachine.DeployVirtualMachine(p) // returns when the job has ended
	if err != nil {
		return err
	}
	fmt.Printf("%s is %s at %s after %v\n", vm.Name, vm.State, vm.Nic[0].Ipaddress, time.Since(began).Round(10*time.Millisecond))
	return nil
}
