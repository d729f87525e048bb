// Package sim is a virtualization host in memory, with faults. A Host is the machine: it outlives the drivers opened to it,
// like a real one outlives its controllers, and with Config.State also the process. A Driver is one controller's connection.
//
// # Guarantees
//
//   - Time comes from Env.Clock alone, and nothing is decided by chance: the same calls in the same order give the same answers.
//   - A call changes what the host keeps at one instant or at two (begin and end of a start or stop), never in between.
//   - Guests outlive the daemon, events of an outage are not replayed, and a daemon takes five requests of a connection at once, as
//     libvirt's does.
//   - A World finds every VM that runs twice, and every start with an epoch that some host knows to be old.
//   - Epochs are kept with the VM: a start or stop with a lower one is refused, also after a restart (G6).
//
// # Not guaranteed
//
//   - No guest runs: CPU time, disks and networks are names and numbers.
package sim
