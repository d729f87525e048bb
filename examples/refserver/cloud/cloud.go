package cloud

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// vcpuRatio is how many virtual processors a processor is sold as.
const vcpuRatio = 4

// Config of a Cloud. Env.Node, DB, Bun, Seed and MasterKey are required.
type Config struct {
	Env       drover.Env
	DB        DB
	Bun       *bun.DB
	Seed      *Seed
	MasterKey *MasterKey
	DevKey    Credentials // accepted beside those stored; none if empty
	SimHosts  int
	SimTimes  sim.Times
	SimFaults []SimFault
	Single    bool // nodes follow one another, there is one at a time
	Migrate   bool // make and update the tables; else they must be there
}

// Cloud is the domain on one node.
type Cloud struct {
	tables
	cfg     Config
	env     drover.Env
	inv     inventory
	master  *MasterKey
	keys    keyring
	hosts   drivers
	tracker *tracker.Tracker

	deployFlow, startFlow *flow.Flow[bringUp]
}

// Open brings tables, seed and hosts into place. What cannot work is told in one line.
func Open(ctx context.Context, cfg Config) (*Cloud, error) {
	c := &Cloud{cfg: cfg, env: cfg.Env.Defaults(), tables: tables{db: cfg.DB, bun: cfg.Bun}, master: cfg.MasterKey}
	c.inv.t = &c.tables
	c.hosts = drivers{open: c.simulate, by: map[string]hypervisor.Driver{}}
	if err := c.migrate(ctx, cfg.Migrate); err != nil {
		return nil, err
	}
	if err := c.plant(ctx, cfg.Seed, cfg.SimHosts, c.env.NewID); err != nil {
		return nil, err
	}
	if err := c.join(ctx, c.env.Node, cfg.Seed.ManagementServer, cfg.Single, c.env.NewID); err != nil {
		return nil, err
	}
	if err := c.inv.load(ctx); err != nil {
		return nil, err
	}
	for _, h := range c.inv.now().hosts {
		if err := c.hosts.add(h); err != nil {
			return nil, err
		}
	}
	var err error
	c.tracker, err = tracker.New(tracker.Config{
		Env: c.env, Tx: cfg.DB, Store: cfg.DB.Tracker(), Hosts: c.audited, Reserved: &tracker.Amount{},
		Ratios: map[string]float64{tracker.VCPUs: vcpuRatio},
	})
	if err != nil {
		return nil, err
	}
	if _, err := c.tracker.Step(ctx); err != nil { // capacities, before anything is placed
		return nil, err
	}
	c.flows()
	return c, nil
}

// Admin gives the key of the first account; it is made once.
func (c *Cloud) Admin(ctx context.Context) (Credentials, error) {
	k, err := c.adminKey(ctx)
	if err != nil {
		return k, err
	}
	return k, c.loadKeys(ctx)
}

// Tracker audits hosts; run it.
func (c *Cloud) Tracker() *tracker.Tracker { return c.tracker }

// ManagementServer names the server of a node.
func (c *Cloud) ManagementServer(node string) (id, name string) {
	if id, name = c.inv.now().server(node); id != "" || node == "" {
		return id, name
	}
	if err := c.inv.load(context.Background()); err != nil { // a node that joined after us
		return "", ""
	}
	return c.inv.now().server(node)
}

// Registry makes a registry for the commands of the cloud.
func (c *Cloud) Registry(jobs *job.Manager) *dispatch.Registry {
	r := &dispatch.Registry{
		Env: c.env, Tx: c.db, Jobs: jobs, Entities: c.entities, Restore: restore,
		Known: []string{"isrecursive", "ttl", "fields"},
	}
	unwinds := dispatch.Job(job.Unwinds(), job.Grace(30*time.Minute))
	thrice := dispatch.Job(job.Retry(func() backoff.BackOff {
		return backoff.NewExponentialBackOff(backoff.WithInitialInterval(2*time.Second), backoff.WithMultiplier(2))
	}, 3))
	dispatch.Async(r, jobs, "deployVirtualMachine", c.createVM, c.deploy, dispatch.Doc("Creates and automatically starts a virtual machine"),
		dispatch.SyncKey(deployVM.key), dispatch.ResourceOf(func(p deployVM) string { return vmResource(p.VM) }), dispatch.Job(job.Timeout(15*time.Minute)), unwinds, dispatch.Cancellable())
	verb(r, jobs, "startVirtualMachine", c.startVM, dispatch.Doc("Starts a virtual machine"), unwinds, dispatch.Cancellable())
	verb(r, jobs, "stopVirtualMachine", c.stopVM, dispatch.Doc("Stops a virtual machine"), thrice)
	verb(r, jobs, "rebootVirtualMachine", c.rebootVM, dispatch.Doc("Reboots a virtual machine"))
	verb(r, jobs, "destroyVirtualMachine", c.destroyVM, dispatch.Doc("Destroys a virtual machine"))
	dispatch.List(r, "listVirtualMachines", c.listVMs, dispatch.Doc("Lists the virtual machines of the account"))
	dispatch.List(r, "listZones", c.listZones, dispatch.Doc("Lists zones"))
	dispatch.List(r, "listServiceOfferings", c.listServiceOfferings, dispatch.Doc("Lists service offerings"))
	dispatch.List(r, "listTemplates", c.listTemplates, dispatch.Doc("Lists templates"))
	dispatch.List(r, "listNetworks", c.listNetworks, dispatch.Doc("Lists networks"))
	dispatch.List(r, "listHosts", c.listHosts, dispatch.Doc("Lists hosts"), dispatch.Roles("admin"))
	return r
}

// verb registers a command on one machine: its jobs take turns on it, and have 5 min.
func verb[C interface{ vm() string }](r *dispatch.Registry, m *job.Manager, name string, f func(context.Context, C) (VMResult, error), opts ...dispatch.Option) {
	dispatch.Async(r, m, name, nil, f, append(opts,
		dispatch.SyncKey(func(p C) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: p.vm()} }),
		dispatch.ResourceOf(func(p C) string { return vmResource(p.vm()) }), dispatch.Job(job.Timeout(5*time.Minute)))...)
}

// target is the machine of a verb.
type target struct {
	ID dispatch.UUID `param:"id,required,entity=virtualmachine"`
}

func (t target) vm() string { return string(t.ID) }

// entities tells which ids exist.
func (c *Cloud) entities(ctx context.Context, typ string, ids []string) (map[string]dispatch.Entity, error) {
	out := map[string]dispatch.Entity{}
	for _, id := range ids {
		exists, known := c.inv.now().has(typ, id)
		if !known && typ == "virtualmachine" {
			_, err := vmByID(ctx, c.bun, id)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			exists = err == nil
		}
		if exists {
			out[id] = dispatch.Entity{Type: typ, ID: id}
		}
	}
	return out, nil
}

// SimFault is a fault of simulated hosts: op:match:effect, as in start:name=fail*:capacity.
type SimFault struct{ Fault sim.Fault }

// ParseSimFault reads op:match:effect. op is start, stop, define or ping; match is name=GLOB, id=GLOB or *; effect is capacity,
// error, hang or slow=DURATION.
func ParseSimFault(s string) (f SimFault, err error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return f, fmt.Errorf("%q: want op:match:effect", s)
	}
	switch parts[0] {
	case "start", "stop", "define", "ping":
		f.Fault.Op = parts[0]
	default:
		return f, fmt.Errorf("%q: op %q: want start, stop, define or ping", s, parts[0])
	}
	field, glob, _ := strings.Cut(parts[1], "=")
	if _, err := path.Match(glob, ""); err != nil {
		return f, fmt.Errorf("%q: match %q: %w", s, parts[1], err)
	}
	switch {
	case parts[1] == "*":
	case field == "name" && glob != "":
		f.Fault.Match = func(vm hypervisor.VM) bool { ok, _ := path.Match(glob, vmName(vm.Name)); return ok && vm.Name != "" }
	case field == "id" && glob != "":
		f.Fault.Match = func(vm hypervisor.VM) bool { ok, _ := path.Match(glob, vm.ID); return ok }
	default:
		return f, fmt.Errorf("%q: match %q: want name=GLOB, id=GLOB or *", s, parts[1])
	}
	effect, arg, _ := strings.Cut(parts[2], "=")
	switch effect {
	case "capacity":
		f.Fault.Class = hypervisor.ErrNoResources
	case "error":
		f.Fault.Class = hypervisor.ErrInternal
	case "hang":
		f.Fault.Hang = true
	case "slow":
		if f.Fault.Delay, err = time.ParseDuration(arg); err != nil || f.Fault.Delay < 0 {
			return f, fmt.Errorf("%q: effect %q: want slow=DURATION", s, parts[2])
		}
	default:
		return f, fmt.Errorf("%q: effect %q: want capacity, error, hang or slow=DURATION", s, parts[2])
	}
	return f, nil
}

// simulate makes a host whose state lies in the database.
func (c *Cloud) simulate(h hostRow) (hypervisor.Driver, error) {
	host, err := sim.NewHost(sim.Config{
		Env: c.env, ID: h.ID, Name: h.Name, VCPUs: int(h.CPUs), MemoryMiB: h.MemoryMiB, Times: c.cfg.SimTimes, State: simState{&c.tables},
	})
	if err != nil {
		return nil, err
	}
	for _, f := range c.cfg.SimFaults {
		if f.Fault.Class != nil && f.Fault.Op != "ping" {
			f.Fault.Delay = max(0, c.cfg.SimTimes.Start) // to fail takes as long as to succeed
		}
		host.Inject(f.Fault)
	}
	return host.Open(c.env), nil
}
