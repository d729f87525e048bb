package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

// State keeps hosts outside of the process, so that several processes share them and they outlive all of these.
type State interface {
	// Update runs f alone on what is kept of host, nil at first, and keeps what f answers unless that is nil or f fails.
	// f may be called again.
	Update(ctx context.Context, host string, f func(old []byte) ([]byte, error)) error
}

// world is what a host keeps.
type world struct {
	Starts int64 // incarnations handed out
	VMs    map[string]guest
}

// Modes of a guest, as in its metadata on a real host.
const (
	starting = "starting"
	started  = "started"
)

type guest struct {
	Spec        hypervisor.Spec
	Power       hypervisor.Power
	Reason      string
	Incarnation int64 // -1 without a process
	Epoch       int64
	Mode        string
	Fenced      bool // Epoch is a fence's: only a higher one starts it
	VCPUs       int  // of the process
	MemoryMiB   int64
	Booted      time.Time // the process
	Autostart   bool
	Saved       bool                // its memory is on disk
	Snapshots   map[string]snapshot `json:",omitempty"`
}

func (g guest) vm() hypervisor.VM {
	v := hypervisor.VM{
		ID: g.Spec.ID, Name: g.Spec.Name, Power: g.Power, Reason: g.Reason, Incarnation: g.Incarnation,
		Persistent: true, Autostart: g.Autostart, Saved: g.Saved, VCPUs: g.Spec.VCPU, MemoryMiB: g.Spec.MemoryMiB, MaxMemoryMiB: g.Spec.MemoryMiB, Epoch: g.Epoch,
	}
	if v.HasProcess() {
		v.VCPUs, v.MemoryMiB, v.MaxMemoryMiB = g.VCPUs, g.MemoryMiB, g.MemoryMiB
	}
	return v
}

// boot makes a process.
func (w *world) boot(g guest, power hypervisor.Power) guest {
	w.Starts++
	g.Incarnation, g.Power, g.Reason, g.Saved = w.Starts, power, "", false
	g.VCPUs, g.MemoryMiB = g.Spec.VCPU, g.Spec.MemoryMiB
	return g
}

func (g guest) off(power hypervisor.Power, reason string) guest {
	g.Power, g.Reason, g.Incarnation = power, reason, -1
	return g
}

// ids in order.
func (w *world) ids() []string {
	ids := make([]string, 0, len(w.VMs))
	for id := range w.VMs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (w *world) usedMiB() (sum int64) {
	for _, g := range w.VMs {
		if g.Incarnation >= 0 {
			sum += g.MemoryMiB
		}
	}
	return sum
}

// view reads what the host keeps.
func (h *Host) view(ctx context.Context, f func(w *world) error) error {
	return h.access(ctx, f, false)
}

// update changes what the host keeps; f that fails has changed nothing.
func (h *Host) update(ctx context.Context, f func(w *world) error) error {
	return h.access(ctx, f, true)
}

func (h *Host) access(ctx context.Context, f func(w *world) error, write bool) error {
	var before map[string]guest
	inner := func(w *world) error {
		if write {
			before = maps.Clone(w.VMs)
		}
		return f(w)
	}
	if h.cfg.State == nil {
		h.keep.Lock()
		defer h.keep.Unlock()
		if h.state.VMs == nil {
			h.state.VMs = map[string]guest{}
		}
		err := inner(&h.state)
		if err == nil && write {
			h.tell(before, h.state.VMs)
		}
		return err
	}
	return h.kept(ctx, inner, write, &before)
}

// kept is access to what State keeps.
func (h *Host) kept(ctx context.Context, f func(w *world) error, write bool, before *map[string]guest) error {
	var inner error
	var after map[string]guest
	err := h.cfg.State.Update(ctx, h.cfg.ID, func(old []byte) ([]byte, error) {
		w := world{VMs: map[string]guest{}}
		if old != nil {
			if err := json.Unmarshal(old, &w); err != nil {
				return nil, fmt.Errorf("sim: state of host %s: %w", h.cfg.ID, err)
			}
		}
		if inner = f(&w); inner != nil || !write {
			return nil, inner
		}
		after = w.VMs
		return json.Marshal(w)
	})
	if inner != nil && ctx.Err() == nil {
		return inner
	}
	if err == nil && write {
		h.tell(*before, after)
	}
	return err
}
