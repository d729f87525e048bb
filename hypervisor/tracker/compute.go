package tracker

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

// leakedAfter is how long a workload must be missing, in two audits, before its row is released.
const leakedAfter = time.Minute

// Inputs of Compute.
type Inputs struct {
	Record    Record // as stored
	Rows      []Row  // all of the host
	Resources hypervisor.Resources
	Blind     bool // Resources has no use by VM: PerVM names who runs, and nothing is an orphan
	Ratios    map[string]float64
	Reserved  Amount
	Overhead  func(Amount) Amount // of one VM; nil = none

	Workloads []string           // that should be here
	Known     bool               // Workloads was read; without it nothing is Leaked
	Release   bool               // Leaked rows are to be released; else they are only reported
	Suspects  []string           // VMs without row at the audit before
	Missing   map[Miss]time.Time // committed rows whose workload was gone at the audit before, and since when
	Elsewhere map[string]string  // host on which a workload runs, of those that do not run here
	Now       time.Time          // of the store
}

// Miss is a row whose workload is gone. A row that another job took over is another one.
type Miss struct {
	ID    string
	Epoch int64
}

// NoteKind is what an audit found.
type NoteKind string

// The kinds of notes.
const (
	Suspect   NoteKind = "suspect"   // VM with a process, no counted row: an orphan if it is still there next time
	Orphan    NoteKind = "orphan"    // the same in two audits in a row: counted as taken
	Adopted   NoteKind = "adopted"   // its claim is over, but its VM runs: committed, never freed under a running VM
	Expire    NoteKind = "expired"   // its claim is over
	Missing   NoteKind = "missing"   // neither source knows the workload of a committed row: leaked if that stays so
	Leaked    NoteKind = "leaked"    // the same in two audits a minute apart: released
	Elsewhere NoteKind = "elsewhere" // its VM runs on another host
	Drift     NoteKind = "drift"     // the stored sum was not Σ rows: repaired
	Shrunk    NoteKind = "shrunk"    // capacity fell below what is used
	Unread    NoteKind = "unread"    // a source did not answer: what hangs on it stays as it was
)

// Note is one finding.
type Note struct {
	Kind     NoteKind
	Workload string // "" of the host itself
	ID       string // of the claim
	Epoch    int64  // of the claim
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
		if row.Counted() {
			r.Used = r.Used.Plus(row.Amount)
			known[row.Workload] = true
			if row.State == Committed && row.Role == Current {
				r.Running++
			} else {
				r.InFlight++
			}
		}
		note, found := in.judge(row)
		if found {
			notes = append(notes, note)
		}
		known[row.Workload] = known[row.Workload] || note.Kind == Adopted
	}
	if !r.Used.Equal(in.Record.Used) || r.Running != in.Record.Running || r.InFlight != in.Record.InFlight {
		notes = append(notes, Note{Kind: Drift, Detail: fmt.Sprintf("stored %+v, rows %+v", in.Record.Used, r.Used)})
	}
	r.Orphans = Amount{}
	if !in.Blind {
		r.Orphans, notes = in.orphans(known, notes)
	}
	u := arithmetic{in.Ratios, in.Reserved}.usage(r)
	for _, n := range names(u.Free) {
		if u.Free.Get(n) < 0 && r.Capacity.Get(n) < in.Record.Capacity.Get(n) {
			notes = append(notes, Note{Kind: Shrunk, Detail: fmt.Sprintf("%s: free %d", n, u.Free.Get(n))})
		}
	}
	return u, notes
}

// judge tells what a row is found to be.
func (in Inputs) judge(row Row) (Note, bool) {
	n := Note{Workload: row.Workload, ID: row.ID, Epoch: row.Epoch}
	_, runs := in.Resources.PerVM[row.Workload]
	switch {
	case in.ended(row) && in.occupies(row):
		n.Kind = Adopted
	case row.Over(in.Now):
		n.Kind = Expire
	case row.State != Committed || runs:
		return n, false
	case row.Role == Current && in.Elsewhere[row.Workload] != "":
		n.Kind, n.Detail = Elsewhere, "runs on "+in.Elsewhere[row.Workload]
	case !in.Known || slices.Contains(in.Workloads, row.Workload):
		return n, false
	default:
		since, before := in.Missing[Miss{row.ID, row.Epoch}]
		if n.Kind = Missing; before && in.Now.Sub(since) >= leakedAfter {
			n.Kind = Leaked
		}
	}
	return n, true
}

// ended says whether the time of a row that was never committed has passed.
func (in Inputs) ended(r Row) bool { return r.State == Expired || r.Over(in.Now) }

// occupies says whether the VM of a row that is not committed runs here and no other row accounts for it: of several that have
// ended the latest does, and the current one does for the incoming one of a resize unless the VM takes more than it holds.
func (in Inputs) occupies(row Row) bool {
	use, runs := in.Resources.PerVM[row.Workload]
	if !runs {
		return false
	}
	for _, r := range in.Rows {
		switch {
		case r.Workload != row.Workload || r.ID == row.ID || r.Role == Outgoing:
		case in.ended(r) && (!in.ended(row) || r.Role != row.Role || r.Epoch < row.Epoch || r.Epoch == row.Epoch && r.ID < row.ID):
		case row.Role == Incoming && r.Role == Current && used(use).Over(Amount{}, r.Amount) != nil:
		default:
			return false
		}
	}
	return true
}

// used is what a VM takes, by its host.
func used(r hypervisor.Resources) Amount {
	return Amount{VCPUs: int64(r.VCPUsUsed), MemoryMiB: r.MemoryMiBUsed, DiskMiB: r.DiskMiBUsed}
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
		a := used(in.Resources.PerVM[id])
		sum = sum.Plus(a).Plus(in.Overhead(a))
		notes = append(notes, Note{Kind: Orphan, Workload: id})
	}
	return sum, notes
}

// next is the record that the audit would have stored.
func (in Inputs) next(u Usage) Record {
	r := in.Record
	r.Capacity, r.Orphans, r.Used, r.Running, r.InFlight = u.Capacity, u.Orphans, u.Used, u.Running, u.InFlight
	if !in.Blind {
		r.Devices = nil
		for pool, ids := range in.Resources.Devices {
			if r.Devices == nil {
				r.Devices = map[string][]string{}
			}
			r.Devices[pool] = slices.Compact(slices.Sorted(slices.Values(ids)))
		}
	}
	r.Seen = nil
	for _, row := range in.Rows {
		if row.State != Committed && in.occupies(row) {
			r.Seen = append(r.Seen, row.Workload)
		}
	}
	slices.Sort(r.Seen)
	r.Seen = slices.Compact(r.Seen)
	return r
}

// changed says whether the audit has something to store: another record, or expired rows to drop.
func (in Inputs) changed(b Record) bool {
	a := in.Record
	return a.Generation == 0 || !a.Capacity.Equal(b.Capacity) || !a.Orphans.Equal(b.Orphans) || !a.Used.Equal(b.Used) ||
		a.Running != b.Running || a.InFlight != b.InFlight || !slices.Equal(a.Seen, b.Seen) ||
		!maps.EqualFunc(a.Devices, b.Devices, slices.Equal[[]string]) ||
		slices.ContainsFunc(in.Rows, func(r Row) bool { return r.State == Expired && r.Expires.Add(Keep).Before(in.Now) })
}
