// Package tracker keeps who holds how much of which host, so that no two placements are promised the same memory. A claim is a
// row, made before work starts; it becomes the workload's allocation when the work succeeded. An audit compares the rows with
// what the host reports.
//
// # Guarantees
//
//   - Any number of nodes may claim on the same hosts at once: the store's update is the arbiter, and what is claimed never
//     exceeds the bound it was claimed under.
//   - A claim survives its node: the retried job finds it by its ID; one that never comes back expires, unless its VM runs.
//   - A lower epoch than the row's changes nothing: ErrStaleEpoch (G2).
//   - No lock is held across store or driver calls, and claims never wait for an audit (G9).
//   - Of a move both sides are held until one transaction settles it; at no instant is its workload nowhere or, after it, at both.
//   - Every call ends with its context, whatever the store does. Health is degraded when a host was not audited for three spacings,
//     and Status says what its audit is at and who holds a lock.
//   - A host that cannot be read keeps its rows and its last known capacity (G7).
//
// # Not guaranteed
//
//   - Fits, Usage and Hosts answer from memory, as of this node's last claim, audit or Refresh: advice for placement. Claim
//     decides.
//   - NUMA is not modelled; use Amount.Extra.
package tracker
