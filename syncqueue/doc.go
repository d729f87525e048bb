// Package syncqueue makes work on the same thing take turns.
//
// A [Key] names the thing, a turn is the right to use it, and a limit (in process: a level) says how many turns a key has at
// once. [Local] takes turns within a process; [Queue] looks after the turns that jobs take across the cluster, which survive
// crashes.
//
// # Guarantees
//
//   - Never more turns of a key at once than its limit says, except those that were running when it was lowered.
//   - Turns are given in order of arrival; with limit 1 work also ends in that order.
//   - In process, a turn ends when its function does, by return, panic or Goexit: no key is stuck by something forgotten.
//   - In process, who gives up leaves the line at once, and its function is never called.
//   - Across the cluster, a turn is handed on in the transaction that frees it; it belongs to the job, not to a node, and no
//     time-out takes it away.
//   - A job borrows the turn of an ancestor with the same key: the borrowers of one turn run one at a time, only while whoever lends it
//     does not (it is parked, blocks in Wait, or has ended), and no outsider runs before the last of them has ended.
//   - No function, logger or callback runs under a lock of this package.
//
// # Not guaranteed
//
//   - That a function which ignores its ctx ends: it keeps its turn and is warned of.
//   - Order between keys.
//   - Freedom from cycles over several keys: two functions that wait for each other's key are warned of, and end by ctx.
package syncqueue
