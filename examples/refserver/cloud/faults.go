package cloud

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
)

// SimFault is a fault of simulated hosts: op:match:effect, as in start:name=fail*:capacity.
type SimFault struct{ Fault sim.Fault }

// ParseSimFault reads op:match:effect. op is start, stop, migrate, define or ping; match is name=GLOB, id=GLOB or *; effect is capacity,
// error, hang or slow=DURATION.
func ParseSimFault(s string) (f SimFault, err error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return f, fmt.Errorf("%q: want op:match:effect", s)
	}
	switch parts[0] {
	case "start", "stop", "migrate", "define", "ping":
		f.Fault.Op = parts[0]
	default:
		return f, fmt.Errorf("%q: op %q: want start, stop, migrate, define or ping", s, parts[0])
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
