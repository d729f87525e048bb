package ring

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	maxWeight = 64
	maxSeeds  = 4096
)

// Ring maps keys to members. A nil *Ring is the empty one.
type Ring struct {
	names  []string // sorted
	seeds  []uint64 // of all members, in order of names
	member []uint16 // whose seed it is, by index in names
	finger uint64
}

// Option is given to [New].
type Option func(*build)

type build struct{ weights map[string]int }

// Weight makes member take w shares instead of one. w is 1 to 64, else Weight panics; an unknown member is ignored. Of two
// weights for one member the last counts.
func Weight(member string, w int) Option {
	if w < 1 || w > maxWeight {
		panic(fmt.Sprintf("ring: weight %d of %q is not in 1…%d", w, member, maxWeight))
	}
	return func(b *build) { b.weights[member] = w }
}

// New builds the ring of members. Their order does not matter, duplicates are merged, empty names dropped, and the slice is
// not kept. It panics if the sum of weights exceeds 4096.
func New(members []string, opts ...Option) *Ring {
	b := build{weights: map[string]int{}}
	for _, o := range opts {
		o(&b)
	}
	names := slices.Clone(members)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > 0 && names[0] == "" {
		names = names[1:]
	}
	r := &Ring{names: names}
	f := uint64(fnvOffset)
	for i, name := range names {
		w := cmp.Or(b.weights[name], 1)
		if len(r.seeds)+w > maxSeeds {
			panic(fmt.Sprintf("ring: the weights of %d members add up to more than %d", len(names), maxSeeds))
		}
		h := hash(name)
		for j := range uint64(w) {
			r.seeds = append(r.seeds, mix(h+j*golden))
			r.member = append(r.member, uint16(i))
		}
		f = fnv(f, name)
		f = fnv(f, string([]byte{0, byte(w >> 8), byte(w), 0}))
	}
	r.finger = mix(f)
	return r
}

// Owner is the member that owns key; ok is false only for an empty ring.
func (r *Ring) Owner(key string) (member string, ok bool) {
	if r.Len() == 0 {
		return "", false
	}
	h := hash(key)
	best, at := mix(r.seeds[0]^h), 0
	for i, s := range r.seeds[1:] {
		if v := mix(s ^ h); v > best { // equal: the smaller name came first
			best, at = v, i+1
		}
	}
	return r.names[r.member[at]], true
}

// Owners are n distinct members in order of preference, the owner first; all of them if there are no more, nil if n ≤ 0.
// Without its first member the second is the owner.
func (r *Ring) Owners(key string, n int) []string {
	if r.Len() == 0 || n <= 0 {
		return nil
	}
	h := hash(key)
	best := make([]uint64, len(r.names))
	for i, s := range r.seeds {
		m := r.member[i]
		best[m] = max(best[m], mix(s^h))
	}
	order := make([]int, len(r.names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(best[b], best[a]), cmp.Compare(a, b)) })
	out := make([]string, min(n, len(order)))
	for i := range out {
		out[i] = r.names[order[i]]
	}
	return out
}

// Moved gives the keys whose owner differs in to, with that owner; "" if to is empty.
func (r *Ring) Moved(to *Ring, keys ...string) map[string]string {
	moved := map[string]string{}
	for _, k := range keys {
		was, _ := r.Owner(k)
		if is, _ := to.Owner(k); is != was {
			moved[k] = is
		}
	}
	return moved
}

// Gained are the keys that member owns in to and not in r, sorted.
func (r *Ring) Gained(to *Ring, member string, keys ...string) []string {
	var gained []string
	for _, k := range keys {
		is, ok := to.Owner(k)
		if was, _ := r.Owner(k); ok && is == member && was != member {
			gained = append(gained, k)
		}
	}
	slices.Sort(gained)
	return slices.Compact(gained)
}

// Members are the names, sorted. The slice is the caller's.
func (r *Ring) Members() []string {
	if r == nil {
		return nil
	}
	return slices.Clone(r.names)
}

// Len is the number of members.
func (r *Ring) Len() int {
	if r == nil {
		return 0
	}
	return len(r.names)
}

// Fingerprint is equal for two rings if and only if they place alike, as far as 64 bits can tell.
func (r *Ring) Fingerprint() uint64 {
	if r == nil {
		return mix(fnvOffset)
	}
	return r.finger
}
