package main

import (
	"context"
	"log/slog"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
)

// host asks a virtualization host itself, without a store or a server.
func (a *app) host() *cli.Command {
	return &cli.Command{
		Name: "host", Usage: "ask a host that libvirt runs", Description: example("drover host ping qemu:///system"),
		Commands: []*cli.Command{
			{Name: "ping", Usage: "tell whether its daemon answers, and what it is", ArgsUsage: "URI", Action: a.hostPing,
				Description: example("drover host ping qemu+unix:///session?socket=/run/libvirt-sock")},
			{Name: "list", Usage: "list its machines", ArgsUsage: "URI", Action: a.hostList, Description: example("drover host list qemu:///system")},
		},
	}
}

// onHost runs f on the host that the argument names.
func (a *app) onHost(c *cli.Command, f func(d *libvirt.Driver) error) (err error) {
	args, err := want(c, 1, 1)
	if err != nil {
		return err
	}
	cfg, err := libvirt.ParseURI(args[0])
	if err != nil {
		return err
	}
	cfg.Env.Logger = slog.New(slog.DiscardHandler) // errors are told once
	d, err := libvirt.New(cfg)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // it gives none
	return f(d)
}

// hostAnswer is what ping says.
type hostAnswer struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Driver  string  `json:"driver"`
	Version string  `json:"version"`
	CPUs    int     `json:"cpus"`
	Memory  int64   `json:"memory_mib"`
	Took    float64 `json:"took_ms"`
}

func (a *app) hostPing(ctx context.Context, c *cli.Command) error {
	return a.onHost(c, func(d *libvirt.Driver) error {
		info, err := d.Info(ctx)
		if err != nil {
			return err
		}
		clock := drover.Env{}.Defaults().Clock
		begin := clock.Now()
		if err := d.Ping(ctx); err != nil {
			return err
		}
		took := clock.Now().Sub(begin)
		h := hostAnswer{info.ID, info.Name, info.Driver, info.Version, info.CPUs, info.MemoryMiB, float64(took.Microseconds()) / 1000}
		v := view[hostAnswer]{
			id: func(h hostAnswer) string { return h.ID }, object: func(h hostAnswer) any { return h },
			columns: []column[hostAnswer]{
				{head: "ID", cell: func(_ *app, h hostAnswer) string { return h.ID }},
				{head: "NAME", cell: func(_ *app, h hostAnswer) string { return h.Name }},
				{head: "DRIVER", cell: func(_ *app, h hostAnswer) string { return h.Driver + " " + h.Version }},
				{head: "CPUS", right: true, cell: func(_ *app, h hostAnswer) string { return strconv.Itoa(h.CPUs) }},
				{head: "MIB", right: true, cell: func(_ *app, h hostAnswer) string { return strconv.FormatInt(h.Memory, 10) }},
				{head: "MS", right: true, cell: func(_ *app, h hostAnswer) string { return strconv.FormatFloat(h.Took, 'f', 1, 64) }},
			},
		}
		return show(a, v, h, nil)
	})
}

// hostVM is a machine in list's JSON.
type hostVM struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Power       string `json:"power"`
	Reason      string `json:"reason,omitempty"`
	Incarnation int64  `json:"incarnation"`
	VCPUs       int    `json:"vcpus"`
	Memory      int64  `json:"memory_mib"`
	Saved       bool   `json:"saved,omitempty"`
}

func (a *app) hostList(ctx context.Context, c *cli.Command) error {
	return a.onHost(c, func(d *libvirt.Driver) error {
		vms, err := d.List(ctx, hypervisor.Filter{})
		if err != nil {
			return err
		}
		v := view[hypervisor.VM]{
			id: func(vm hypervisor.VM) string { return vm.ID },
			object: func(vm hypervisor.VM) any {
				return hostVM{vm.ID, vm.Name, string(vm.Power), vm.Reason, vm.Incarnation, vm.VCPUs, vm.MemoryMiB, vm.Saved}
			},
			columns: []column[hypervisor.VM]{
				{head: "ID", cell: func(_ *app, vm hypervisor.VM) string { return vm.ID }},
				{head: "NAME", cell: func(_ *app, vm hypervisor.VM) string { return vm.Name }},
				{head: "POWER", cell: func(_ *app, vm hypervisor.VM) string { return string(vm.Power) }},
				{head: "VCPUS", right: true, cell: func(_ *app, vm hypervisor.VM) string { return strconv.Itoa(vm.VCPUs) }},
				{head: "MIB", right: true, cell: func(_ *app, vm hypervisor.VM) string { return strconv.FormatInt(vm.MemoryMiB, 10) }},
				{head: "REASON", wide: true, cell: func(_ *app, vm hypervisor.VM) string { return vm.Reason }},
			},
		}
		return list(a, v, vms, "")
	})
}
