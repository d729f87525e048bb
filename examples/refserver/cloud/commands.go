package cloud

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Registry makes a registry for the commands of the cloud.
func (c *Cloud) Registry(jobs *job.Manager, session *lease.Session) *dispatch.Registry {
	r := &dispatch.Registry{
		Env: c.env, Tx: c.db, Jobs: jobs, Entities: c.entities, Restore: c.restore, Events: c, Cipher: c.master,
		Known: []string{"isrecursive", "ttl", "fields"},
	}
	r.Stages = dispatch.Standard().Before("admit", "session", c.alive).After("admit", "route", c.route)
	c.registry, c.jobs, c.session = r, jobs, session
	c.async = sync.OnceValue(func() map[string]bool {
		m := map[string]bool{}
		for _, info := range r.Catalog(context.Background(), System.Identity()) {
			m[info.Name] = info.Async
		}
		return m
	})
	c.machineCommands(r)
	c.hostCommands(r)
	c.lists(r)
	return r
}

// alive refuses jobs on a node whose session has ended: it could not say any more that they are its own.
func (c *Cloud) alive(next dispatch.Handler) dispatch.Handler {
	return dispatch.HandlerFunc(func(ctx context.Context, cmd *dispatch.Command) (any, error) {
		if _, err := c.session.Held(); err != nil && !dispatch.Executing(ctx) && c.async()[cmd.Name] {
			return nil, dispatch.Errorf(dispatch.Draining, "this node has no session: %w", err)
		}
		return next.Dispatch(ctx, cmd)
	})
}

var (
	admins = dispatch.Roles("admin")
	// unwinds lets a cancelled job put things right, for as long as hosts may take.
	unwinds = dispatch.Job(job.Unwinds(), job.Grace(30*time.Minute))
	// thrice is for jobs that may be tried again.
	thrice = dispatch.Job(job.Retry(func() backoff.BackOff {
		return backoff.NewExponentialBackOff(backoff.WithInitialInterval(2*time.Second), backoff.WithMultiplier(2))
	}, 3))
)

func takes(d time.Duration) dispatch.Option { return dispatch.Job(job.Timeout(d)) }

func (c *Cloud) machineCommands(r *dispatch.Registry) {
	dispatch.Async(r, c.jobs, "deployVirtualMachine", c.createVM, c.deploy, dispatch.Doc("Creates and automatically starts a virtual machine"),
		dispatch.SyncKey(deployVM.key), dispatch.ResourceOf(func(p deployVM) string { return vmResource(p.VM) }), takes(15*time.Minute), unwinds, dispatch.Cancellable())
	vmJob(c, "startVirtualMachine", c.startVM, dispatch.Doc("Starts a virtual machine"), unwinds, dispatch.Cancellable())
	vmJob(c, "stopVirtualMachine", c.stopVM, dispatch.Doc("Stops a virtual machine"), thrice)
	vmJob(c, "rebootVirtualMachine", c.rebootVM, dispatch.Doc("Reboots a virtual machine"))
	vmJob(c, "destroyVirtualMachine", c.destroyVM, dispatch.Doc("Destroys a virtual machine"))
	vmJob(c, "expungeVirtualMachine", c.expungeVM, dispatch.Doc("Removes a destroyed virtual machine for good"), thrice, admins)
	vmJob(c, "scaleVirtualMachine", c.scaleVM, dispatch.Doc("Gives a virtual machine another size"), dispatch.Cancellable())
	vmJob(c, "migrateVirtualMachine", c.migrateVM, dispatch.Doc("Moves a running virtual machine to another host"), unwinds, dispatch.Cancellable(), admins,
		takes(30*time.Minute))
	dispatch.Sync(r, "createVMSchedule", c.createSchedule, dispatch.Doc("Has a virtual machine started, stopped or rebooted at times"))
	dispatch.Sync(r, "deleteVMSchedule", c.deleteSchedule, dispatch.Doc("Removes schedules of a virtual machine"))
	dispatch.List(r, "listVMSchedule", c.listSchedules, dispatch.Doc("Lists the schedules of a virtual machine"))
	dispatch.Sync(r, "recoverVirtualMachine", c.recoverVM, dispatch.Doc("Takes back the destruction of a virtual machine"), admins)
	dispatch.Sync(r, "updateVirtualMachine", c.updateVM, dispatch.Doc("Changes what a virtual machine is called and told"))
	dispatch.Sync(r, "changeServiceForVirtualMachine", c.changeService, dispatch.Doc("Gives a stopped virtual machine another size"))
	tagJob(c, "createTags", c.createTags, dispatch.Doc("Puts tags on resources"))
	tagJob(c, "deleteTags", c.deleteTags, dispatch.Doc("Takes tags off resources"))
}

func (c *Cloud) hostCommands(r *dispatch.Registry) {
	dispatch.Sync(r, "addHost", c.addHost, dispatch.Doc("Adds a host"), admins)
	dispatch.Sync(r, "updateHost", c.updateHost, dispatch.Doc("Changes a host, and whether machines are placed on it"), admins)
	dispatch.Sync(r, "deleteHost", c.deleteHost, dispatch.Doc("Removes a host that has no machines"), admins)
	hostJob(c, "prepareHostForMaintenance", c.prepareHost, dispatch.Doc("Moves all machines off a host and keeps it empty"), unwinds, dispatch.Cancellable(), takes(2*time.Hour))
	hostJob(c, "cancelHostMaintenance", c.cancelMaintenance, dispatch.Doc("Ends the maintenance of a host"))
	hostJob(c, "reconnectHost", c.reconnectHost, dispatch.Doc("Connects to a host again"), dispatch.Cancellable())
	hostJob(c, "declareHostAsDegraded", c.degradeHost, dispatch.Doc("Places no machines on a host that is known to be broken"))
	hostJob(c, "cancelHostAsDegraded", c.undegradeHost, dispatch.Doc("Ends the degraded state of a host"))
	dispatch.Sync(r, "prepareForShutdown", c.prepareShutdown, dispatch.Doc("Drains a management server"), admins)
	dispatch.Sync(r, "cancelShutdown", c.cancelShutdown, dispatch.Doc("Ends the draining of a management server"), admins)
	dispatch.Sync(r, "readyForShutdown", c.readyForShutdown, dispatch.Doc("Tells whether a management server has no jobs left"), admins)
}

func (c *Cloud) lists(r *dispatch.Registry) {
	dispatch.List(r, "listVirtualMachines", c.listVMs, dispatch.Doc("Lists the virtual machines of the account"))
	dispatch.List(r, "listVolumes", c.listVolumes, dispatch.Doc("Lists volumes"))
	dispatch.List(r, "listTags", c.listTags, dispatch.Doc("Lists tags"))
	dispatch.List(r, "listNetworks", c.listNetworks, dispatch.Doc("Lists networks"))
	dispatch.List(r, "listTemplates", c.listTemplates, dispatch.Doc("Lists templates"))
	dispatch.List(r, "listServiceOfferings", c.listServiceOfferings, dispatch.Doc("Lists service offerings"))
	dispatch.List(r, "listZones", c.listZones, dispatch.Doc("Lists zones"))
	dispatch.List(r, "listPods", c.listPods, dispatch.Doc("Lists pods"), admins)
	dispatch.List(r, "listClusters", c.listClusters, dispatch.Doc("Lists clusters"), admins)
	dispatch.List(r, "listHosts", c.listHosts, dispatch.Doc("Lists hosts"), admins)
	dispatch.List(r, "findHostsForMigration", c.findHosts, dispatch.Doc("Lists the hosts that a virtual machine can be moved to"), admins)
	dispatch.List(r, "listManagementServers", c.listServers, dispatch.Doc("Lists management servers"), admins)
	dispatch.List(r, "listEvents", c.listEvents, dispatch.Doc("Lists events, the newest first"))
	dispatch.List(r, "listEventTypes", c.listEventTypes, dispatch.Doc("Lists the types of events"))
	dispatch.List(r, "listUsers", c.listUsers, dispatch.Doc("Lists users"))
	dispatch.List(r, "listAccounts", c.listAccounts, dispatch.Doc("Lists accounts"))
	dispatch.Sync(r, "listCapabilities", c.capabilities, dispatch.Doc("Tells what this cloud can do"))
}

// vmJob registers a command on one machine: its jobs take turns on it, and have 5 min if nothing else is said.
func vmJob[P interface{ vm() string }, R any](c *Cloud, name string, f func(context.Context, P) (R, error), opts ...dispatch.Option) {
	dispatch.Async(c.registry, c.jobs, name, nil, f, append([]dispatch.Option{
		dispatch.SyncKey(func(p P) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: p.vm()} }),
		dispatch.ResourceOf(func(p P) string { return vmResource(p.vm()) }), takes(5 * time.Minute),
	}, opts...)...)
}

// hostJob registers a command on one host: its jobs take turns on it.
func hostJob(c *Cloud, name string, f func(context.Context, hostTarget) (HostResult, error), opts ...dispatch.Option) {
	dispatch.Async(c.registry, c.jobs, name, nil, f, append([]dispatch.Option{
		dispatch.SyncKey(func(p hostTarget) syncqueue.Key { return syncqueue.Key{Kind: "host", ID: string(p.ID)} }),
		dispatch.ResourceOf(func(p hostTarget) string { return hostResource(string(p.ID)) }), takes(5 * time.Minute), admins,
	}, opts...)...)
}

// target is the machine of a verb.
type target struct {
	ID dispatch.UUID `param:"id,required,entity=virtualmachine"`
}

func (t target) vm() string { return string(t.ID) }

// hostTarget is the host of a verb.
type hostTarget struct {
	ID dispatch.UUID `param:"id,required,entity=host"`
}

// entities tells which ids exist for the caller: somebody else's are as unknown as those of nothing.
func (c *Cloud) entities(ctx context.Context, typ string, ids []string) (map[string]dispatch.Entity, error) {
	out, me := map[string]dispatch.Entity{}, CallerOf(ctx)
	for _, id := range ids {
		owner, err := c.ownerOf(ctx, typ, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return nil, err
		case owner == "" || me.sees(owner):
			out[id] = dispatch.Entity{Type: typ, ID: id}
		}
	}
	return out, nil
}

// ownerOf gives the account of a thing, "" of what belongs to all; store.ErrNotFound if there is no such thing.
func (c *Cloud) ownerOf(ctx context.Context, typ, id string) (string, error) {
	switch typ {
	case "virtualmachine":
		v, err := vmByID(ctx, c.bun, id)
		if err != nil {
			return "", err
		}
		return v.Account, nil
	case "volume":
		return c.volumeOwner(ctx, id)
	case "schedule":
		return c.scheduleOwner(ctx, id)
	case "taggable":
		for _, kind := range []string{"virtualmachine", "volume", "network"} {
			if owner, err := c.ownerOf(ctx, kind, id); !errors.Is(err, store.ErrNotFound) {
				return owner, err
			}
		}
		return c.ownerOf(ctx, "template", id)
	case "host":
		_, err := hostByID(ctx, c.bun, id)
		return "", err
	}
	s, err := c.inv.having(ctx, func(s *stock) bool { return s.has(typ, id) })
	switch {
	case err != nil:
		return "", err
	case !s.has(typ, id):
		return "", store.ErrNotFound
	case typ == "account":
		return id, nil
	case typ == "user":
		u, _ := find(s.users, id)
		return u.Account, nil
	}
	return "", nil
}
