package tracker

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Amount is how much of each resource, in whole numbers.
type Amount struct {
	VCPUs, MemoryMiB, DiskMiB int64
	Extra                     map[string]int64 `json:",omitempty"` // the host's own kinds
}

// Names of the resources in Limits, Ratios and Reason; Extra ones have their own.
const (
	VCPUs  = "vcpus"
	Memory = "memory"
	Disk   = "disk"
)

// Unlimited as a value of Limits lets every amount fit.
const Unlimited int64 = math.MaxInt64

const maxAmount = 1 << 50

// Plus adds b.
func (a Amount) Plus(b Amount) Amount { return a.combine(b, 1) }

// Minus subtracts b; the result may be negative.
func (a Amount) Minus(b Amount) Amount { return a.combine(b, -1) }

func (a Amount) combine(b Amount, sign int64) Amount {
	a.VCPUs += sign * b.VCPUs
	a.MemoryMiB += sign * b.MemoryMiB
	a.DiskMiB += sign * b.DiskMiB
	if len(b.Extra) > 0 {
		sum := maps.Clone(a.Extra)
		if sum == nil {
			sum = map[string]int64{}
		}
		for k, v := range b.Extra {
			if sum[k] += sign * v; sum[k] == 0 {
				delete(sum, k)
			}
		}
		a.Extra = sum
	}
	if len(a.Extra) == 0 {
		a.Extra = nil
	}
	return a
}

// Equal compares resource by resource; an absent Extra is zero.
func (a Amount) Equal(b Amount) bool {
	d := a.Minus(b)
	return d.VCPUs == 0 && d.MemoryMiB == 0 && d.DiskMiB == 0 && len(d.Extra) == 0
}

// Get reads a resource by name.
func (a Amount) Get(name string) int64 {
	switch name {
	case VCPUs:
		return a.VCPUs
	case Memory:
		return a.MemoryMiB
	case Disk:
		return a.DiskMiB
	}
	return a.Extra[name]
}

// names of all resources in a or b, in the order of reports.
func names(as ...Amount) []string {
	var extra []string
	for _, a := range as {
		extra = slices.AppendSeq(extra, maps.Keys(a.Extra))
	}
	slices.Sort(extra)
	return append([]string{VCPUs, Memory, Disk}, slices.Compact(extra)...)
}

func (a Amount) set(name string, v int64) Amount {
	switch name {
	case VCPUs:
		a.VCPUs = v
	case Memory:
		a.MemoryMiB = v
	case Disk:
		a.DiskMiB = v
	default:
		a.Extra = maps.Clone(a.Extra)
		if a.Extra == nil {
			a.Extra = map[string]int64{}
		}
		a.Extra[name] = v
	}
	return a
}

func (a Amount) validate(field string) error {
	for _, n := range names(a) {
		if v := a.Get(n); v < 0 || v > maxAmount {
			return invalid(field, fmt.Sprintf("%s must be 0 to 2^50", n))
		}
	}
	return nil
}

// Over lists the resources of which a is more than bound, each with what is free of it beside used. Zero always fits.
func (a Amount) Over(used, bound Amount) (rs []Reason) {
	if len(a.Extra) == 0 && within(a.VCPUs, used.VCPUs, bound.VCPUs) && within(a.MemoryMiB, used.MemoryMiB, bound.MemoryMiB) &&
		within(a.DiskMiB, used.DiskMiB, bound.DiskMiB) {
		return nil
	}
	for _, n := range names(a) {
		if want, b, u := a.Get(n), bound.Get(n), used.Get(n); !within(want, u, b) {
			rs = append(rs, Reason{Resource: n, Free: free(b, u), Requested: want})
		}
	}
	return rs
}

func within(want, used, bound int64) bool { return want <= 0 || want <= free(bound, used) }

// Wraps tells whether a + b is more than an int64 holds, and of what.
func (a Amount) Wraps(b Amount) (resource string, wraps bool) {
	for _, n := range names(a, b) {
		if x, y := a.Get(n), b.Get(n); x > 0 && y > math.MaxInt64-x {
			return n, true
		}
	}
	return "", false
}

func free(bound, used int64) int64 {
	if bound == Unlimited {
		return Unlimited
	}
	return bound - used
}

// Reason says why a request does not fit.
type Reason struct {
	Resource        string // "device " and the pool for devices; "host" if Detail says it all
	Free, Requested int64
	Detail          string
}

// String is for people: "memory: free 8192 MiB < requested 16384 MiB".
func (r Reason) String() string {
	if r.Detail != "" {
		return r.Resource + ": " + r.Detail
	}
	unit := ""
	if r.Resource == Memory || r.Resource == Disk {
		unit = " MiB"
	}
	return fmt.Sprintf("%s: free %d%s < requested %d%s", r.Resource, r.Free, unit, r.Requested, unit)
}
