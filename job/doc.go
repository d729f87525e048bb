// Package job runs asynchronous jobs: submitted in a transaction, run by whichever node claims them, at least once, with
// one stored result.
//
// A [Manager] is one node's part. Handlers are registered by [Handle]; work is handed in by [Manager.Submit] or, in the
// host's own transaction, by [Manager.SubmitTx]; [Manager.Wait] waits for the end on any node, and [Result] gives the
// typed outcome. A job with a Sync key takes turns with the others of its key (package syncqueue).
//
// # Guarantees
//
//   - A committed job is never lost, a rolled-back one never runs.
//   - The stored result comes from exactly one run, the one that holds the highest epoch. Whatever an older run writes is
//     refused with [ErrLost].
//   - Never more jobs of a key run at once than its limit; with limit 1 they start in the order of submission, retries and
//     re-runs included.
//   - A turn is handed on in the transaction that frees it; the turn of a dead node within one lease and one poll.
//   - Wait misses no completion, on any node.
//   - A job that parks misses nothing it waits for, whatever ends or is signalled meanwhile.
//   - A job is not final while its handler runs, unless the handler is fenced.
//
// # Not guaranteed
//
//   - Exactly-once effects outside the store: a handler may run again. Use [Step], [FinishTx] and [Token].
//   - Which signal woke a run, once its node has died: wakes are handed to one run.
//   - Order between keys, and between jobs without one.
//   - Anything after the promotion of a replica that lost commits, unless the store's incarnation was raised.
//
// # How it works
//
// A node claims and finishes in batches, each one transaction; a finished batch hands its turns on and starts the next in
// line at once. Running jobs cost no writes: the node's lease session (package lease) stands for all of them. Hints of the
// store only shorten what a poll once per Config.Poll would find.
package job
