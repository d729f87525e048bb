// Package servicegroup answers two questions for one process per node: who is in the group, and is it up? Members beat
// through a [Driver] (memory, db, zk, memcached, or a host's own); each node judges the records by itself and keeps the
// result as an immutable [View].
//
// # Guarantees
//
//   - A driver that cannot answer yields [Unknown], never [Down]; so does the disappearance of many members at once.
//   - Clocks of nodes are never compared: a record's age is by the driver's clock, and a member whose beats are seen to
//     move is up whatever that clock says.
//   - Of two processes with one ID the newer stays; the older is refused by its incarnation and told so ([ErrFenced]).
//   - A watcher of views sees every change of a member's last state, and every restart, in order.
//   - A failing driver, also one that panics or hangs until its deadline, ends neither the beats nor the process.
//   - [Group.IsUp] and [Group.View] take no lock and do no I/O.
//
// # Not guaranteed
//
//   - That a member that is Up can do anything, or that one that is Down has stopped: this is a hint for placement and
//     display. Who may act is package lease's.
//   - That two nodes have the same view at the same moment; [View.Version] counts on one node only.
//   - One leader: [View.Leader] may be two for a while.
//
// It takes the place of Nova's servicegroup API, CloudStack's ClusterManagerImpl and ZStack's ManagementNodeManagerImpl.
package servicegroup
