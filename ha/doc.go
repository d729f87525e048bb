// Package ha holds the policy of high availability: which host is suspected, judged dead, fenced, and when its machines may be
// started elsewhere; the [Guard] that runs on a host; and what looks at hosts ([Investigate]) and ends them ([Fence]). It joins three machines of CloudStack (host status, VM-HA work, host-HA) into one.
//
// The policy is one pure function. A monitor collects a [Snapshot], calls [Decide], and applies each [Action] in a transaction of
// its own, in which it compares the record's version.
//
// # Guarantees
//
//   - Decide is a function of its arguments: no I/O, no clock, no goroutine, no map; it does not change what it is given, and the
//     same Snapshot gives the same Actions in the same order.
//   - A row of recovery may start only under a [Proof] of the present epoch that the old copy cannot run (G6).
//   - What cannot be looked at is Unknown, never Dead: without a proof a host is fenced, not recovered from (G7).
//   - A monitor that was itself stalled, that is new, or that sees too much of a domain vanish at once, condemns nobody.
//   - The table of transitions is total: what it does not list changes nothing and is no error.
//
// # Not guaranteed
//
//   - That a host without fencer and without host lease is ever recovered from: it ends [Blocked], and a human is told.
//   - Anything about a proof that lies. A fenced host that beats contradicts its proof: rows not yet started then wait.
//
// # For those who know CloudStack
//
//	Up, Alert/Down by ping                 up, suspect (T = Interval × Misses, 8 s instead of 150)
//	disconnectWithInvestigation            investigating: all investigators at once; alive: degraded, dead: condemned
//	determined nil / Up / Down / Alert     the window / up / condemned / degraded
//	only Down restarts VMs                 only fenced opens rows
//	host HA Suspect, Checking, Degraded    suspect and investigating, checking, degraded
//	host HA Recovering, Recovered          repairing, rejoining
//	host HA Fencing, Fenced, Ineligible    fencing or blocked, fenced and offline, protection off
//	PrepareForMaintenance, Maintenance     draining, maintenance
//	Scheduled, Investigating, Fencing      pending, waiting for its host, the host is fencing
//	Stopping, Restarting, Done, Error      e11 of [Policy.Next], placing to verifying, done or skipped, needs-operator
//
// # Two clocks
//
// What is stored (Since, Until, leases, domains) is compared with Snapshot.Store, the store's clock. What this monitor has seen
// itself (beats, probes) is compared with now, its own. They are never compared with each other.
package ha
