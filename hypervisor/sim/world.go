package sim

import (
	"fmt"
	"slices"
	"sync"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
)

// World is hosts that are watched together: after every change of a VM it is checked that none runs twice, and that none was started
// with an epoch below the highest that any host has recorded for it.
type World struct {
	env  drover.Env
	seed uint64
	fail func(Violation)

	mu     sync.Mutex
	hosts  []*Host
	steps  int
	runs   map[string]map[string]guest // by VM and host
	epochs map[string]int64
	broken []Violation
}

// Violation is what must never be.
type Violation struct {
	Seed  uint64
	VM    string
	Hosts []string // sorted
	Step  int      // number of the change that brought it about
	What  string
}

// Error names it all.
func (v Violation) Error() string {
	return fmt.Sprintf("sim: seed %d: step %d: vm %s %s (hosts %v)", v.Seed, v.Step, v.VM, v.What, v.Hosts)
}

// NewWorld makes a world without hosts. seed is named in violations. fail is called for each one, within the call that brought it
// about; it may be nil.
func NewWorld(env drover.Env, seed uint64, fail func(Violation)) *World {
	return &World{env: env, seed: seed, fail: fail, runs: map[string]map[string]guest{}, epochs: map[string]int64{}}
}

// Host makes one of the world. Its Env is the world's unless cfg has a Clock.
func (w *World) Host(cfg Config) (*Host, error) {
	if cfg.Env.Clock == nil {
		cfg.Env = w.env
	}
	h, err := NewHost(cfg)
	if err != nil {
		return nil, err
	}
	h.world = w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts = append(w.hosts, h)
	return h, nil
}

// Hosts of the world, in the order they were made.
func (w *World) Hosts() []*Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.hosts)
}

// Violations so far.
func (w *World) Violations() []Violation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.broken)
}

// step looks at a host after a change.
func (w *World) step(h *Host, vms map[string]guest) {
	w.mu.Lock()
	w.steps++
	var found []Violation
	id := h.cfg.ID
	for vm, at := range w.runs {
		if g, there := vms[vm]; !there || !g.runs() {
			delete(at, id)
		}
	}
	for _, vm := range sortedIDs(vms) {
		g := vms[vm]
		if g.runs() {
			found = append(found, w.running(id, vm, g)...)
		}
		w.epochs[vm] = max(w.epochs[vm], g.Epoch)
	}
	w.broken = append(w.broken, found...)
	w.mu.Unlock()
	for _, v := range found {
		if w.fail != nil {
			w.fail(v)
		}
	}
}

// running judges a VM that runs on a host.
func (w *World) running(host, vm string, g guest) (found []Violation) {
	at := w.runs[vm]
	if at == nil {
		at = map[string]guest{}
		w.runs[vm] = at
	}
	old, ran := at[host]
	at[host] = g
	if ran && old.Incarnation == g.Incarnation {
		return nil
	}
	if g.Epoch < w.epochs[vm] {
		found = append(found, Violation{w.seed, vm, []string{host}, w.steps, fmt.Sprintf("was started with epoch %d below %d", g.Epoch, w.epochs[vm])})
	}
	if len(at) > 1 {
		v := Violation{w.seed, vm, nil, w.steps, "runs twice"}
		for h := range at {
			v.Hosts = append(v.Hosts, h)
		}
		slices.Sort(v.Hosts)
		found = append(found, v)
	}
	return found
}

// runs says whether the guest has executed an instruction and holds its disks.
func (g guest) runs() bool {
	return g.Incarnation >= 0 && g.Mode != starting && g.Mode != incoming && g.Power != hypervisor.Unknown
}

func sortedIDs(vms map[string]guest) []string { return (&world{VMs: vms}).ids() }
