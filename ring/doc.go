// Package ring says which member owns a key: the same members give the same answer in any process, on any architecture, in
// any release.
//
//	r := ring.New([]string{"n1", "n2", "n3"})
//	owner, ok := r.Owner("vm/42")
//
// It is rendezvous hashing (Thaler and Ravishankar, 1996): each member scores each key and the highest score owns it. There
// are no points to collide or to cluster, so with 10 members the fullest holds about 3 % more than the mean. A lookup costs
// in proportion to the sum of weights; a cluster beyond 4096 shards by zone first.
//
// # Guarantees
//
//   - A member's loss moves its keys only, spread over all others; its return restores the old placement exactly.
//   - A new member takes its share and moves nothing between the others.
//   - A Ring is immutable and safe for any number of goroutines; methods allocate only their results.
//   - The algorithm is fixed: a change of placement is a new major version of the library.
//
// # Not guaranteed
//
//   - Exclusion: two nodes with different views may both think they own a key. What must exclude is a turn (syncqueue) or
//     a lease.
package ring
