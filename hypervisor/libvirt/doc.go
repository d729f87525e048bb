// Package libvirt is the [hypervisor.Driver] of a real libvirtd: QEMU and KVM, and libvirt's own test driver. It speaks libvirt's
// protocol itself: no cgo, no shared libraries.
//
// # Guarantees
//
//   - Every call ends by its deadline, also when the daemon is stopped; what was sent and not answered is
//     [hypervisor.ErrOutcomeUnknown], and a change is never sent twice.
//   - Reads do not wait behind changes: they have a connection of their own. Changes that hang in guests hold no other up for more
//     than two seconds: then it gets a spare connection. What takes long (migration, snapshots, saving memory) has a connection for each call.
//   - A stopped daemon is noticed within two seconds, a lost one dialled with a backoff that all connections share.
//   - Events that nobody could hear are found by comparing lists. A listener that is slow, or that ends, holds nobody up.
//   - The end of a migration is judged by where the guest runs, not by what was answered.
//   - The highest epoch that a VM was started with is kept in its metadata, and a start or a stop with a lower one is refused.
//   - XML is built and parsed by libvirtxml, never from text.
//
// # Not guaranteed
//
//   - Actors outside drover are not held back by epochs.
//   - While libvirt kills a guest that hangs it answers nothing about that guest, for up to fifteen seconds; lists wait with it.
//   - The test driver cannot start a guest paused: the second look at the epoch comes when it runs already.
package libvirt
