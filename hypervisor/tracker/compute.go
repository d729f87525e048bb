package tracker

import (
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

// Inputs of Compute.
type Inputs struct {
	Record    Record // as stored
	Rows      []Row  // all of the host
	Resources hypervisor.Resources
	Ratios    map[string]float64
	Reserved  Amount
	Overhead  func(Amount) Amount // of one VM; nil = none
	Suspects  []string            // VMs without row at the audit before
	Now       time.Time           // of the store
}

// NoteKind is what an audit found.
type NoteKind string

// The kinds of notes.
const (
	Suspect NoteKind = "suspect" // VM with a process, no counted row: an orphan if it is still there next time
	Orphan  NoteKind = "orphan"  // the same in two audits in a row: counted as taken
	Adopt   NoteKind = "adopted" // its claim is over, but its VM runs: committed, never freed under a running VM
	Expire  NoteKind = "expired" // its claim is over
	Drift   NoteKind = "drift"   // the stored sum was not Σ rows: repaired
	Shrunk  NoteKind = "shrunk"  // capacity fell below what is used
)

// Note is one finding.
type Note struct {
	Kind     NoteKind
	Workload string // "" of the host itself
	ID       string // of the claim
	Detail   string
}

// Compute is the arithmetic of an audit: what is used and free by the rows and by what the host reports, and what that tells.
// It changes nothing.
func Compute(in Inputs) (Usage, []Note) {
	if in.Overhead == nil {
		in.Overhead = func(Amount) Amount { return Amount{} }
	}
	r := in.Record
	r.Capacity = Amount{
		VCPUs: int64(in.Resources.VCPUs), MemoryMiB: in.Resources.MemoryMiB, DiskMiB: in.Resources.DiskMiB,
		Extra: in.Record.Capacity.Extra,
	}
	r.Used, r.Running, r.InFlight = Amount{}, 0, 0
	var notes []Note
	known := map[string]bool{}
	for _, row := range in.Rows {
		_, runs := in.Resources.PerVM[row.Workload]
		over := row.State == Expired || row.State == Held && row.Expires.Before(in.Now)
		switch {
		case over && runs:
			notes = append(notes, Note{Adopt, row.Workload, row.ID, ""})
		case over && row.State == Held:
			notes = append(notes, Note{Expire, row.Workload, row.ID, ""})
		}
		if row.Counted() {
			r.Used = r.Used.Plus(row.Amount)
			known[row.Workload] = true
			if row.State == Committed {
				r.Running++
			} else {
				r.InFlight++
			}
		}
		known[row.Workload] = known[row.Workload] || over && runs
	}
	if !r.Used.Equal(in.Record.Used) || r.Running != in.Record.Running || r.InFlight != in.Record.InFlight {
		notes = append(notes, Note{Kind: Drift, Detail: fmt.Sprintf("stored %+v, rows %+v", in.Record.Used, r.Used)})
	}
	r.Orphans, notes = in.orphans(known, notes)
	u := arithmetic{in.Ratios, in.Reserved}.usage(r)
	for _, n := range names(u.Free) {
		if u.Free.Get(n) < 0 && r.Capacity.Get(n) < in.Record.Capacity.Get(n) {
			notes = append(notes, Note{Kind: Shrunk, Detail: fmt.Sprintf("%s: free %d", n, u.Free.Get(n))})
		}
	}
	return u, notes
}

func (in Inputs) orphans(known map[string]bool, notes []Note) (sum Amount, _ []Note) {
	for _, id := range sortedKeys(in.Resources.PerVM) {
		if known[id] {
			continue
		}
		if !slices.Contains(in.Suspects, id) {
			notes = append(notes, Note{Kind: Suspect, Workload: id})
			continue
		}
		vm := in.Resources.PerVM[id]
		a := Amount{VCPUs: int64(vm.VCPUsUsed), MemoryMiB: vm.MemoryMiBUsed, DiskMiB: vm.DiskMiBUsed}
		sum = sum.Plus(a).Plus(in.Overhead(a))
		notes = append(notes, Note{Kind: Orphan, Workload: id})
	}
	return sum, notes
}
