// Package hypervisor is the smallest useful view of one virtualization host: list, define, start, stop, and optional
// abilities found by type assertion. hypervisor/sim is a host in memory with faults; hypervisor/tracker keeps who holds how
// much of which host.
//
// The hypervisor is the authority on what runs. Any power state that is stored elsewhere is a snapshot of it.
//
// # Guarantees
//
//   - Every method is idempotent, safe for concurrent use, and ends by the smaller of its context's deadline and the
//     deadline of its class: ping and open 5 s, query 10 s, list 30 s, change 60 s, force stop 90 s.
//   - Calls that change one VM go one at a time, in order of arrival per driver; reads never wait for them.
//   - A VM is started with an epoch, kept on the host. A start or stop with a lower one is ErrStaleEpoch (G6).
//   - What cannot be read is Unknown, never Off (G7). A list is complete or an error, never a part.
//   - A change that was sent and not answered is ErrOutcomeUnknown: read again, then decide.
//   - Probe never finds a host dead. ProveEmpty alone proves that a host runs none of some VMs, and holds back whoever starts one late.
//
// # Not guaranteed
//
//   - Two callers with equal epochs are not told apart here; the job's epoch and the VM's turn do that.
//   - Actors outside of drover (virsh, an operator's shell) are not held back by epochs.
package hypervisor
