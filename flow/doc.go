// Package flow runs named steps over one state value and, when a step fails, undoes what was begun, in reverse order (a
// saga). Run in place it is a plain function call. Run inside a job it is durable: state and position survive a crash, and
// another node goes on, or goes on undoing.
//
// # Guarantees
//
//   - Steps run in the order added, one at a time; a step that was never started is never undone; one that was started is,
//     also if it failed, so its undo must accept that nothing was done.
//
//   - Every undo is tried, whatever became of the others; what could not be undone is in [Error], and of a registered flow in a
//     job of its own that goes on trying, made in the transaction that ends the flow's.
//
//   - Finally runs once per Run, after success or rollback (at least once when durable).
//
//   - In a job, every boundary between steps is one write, refused once the claim is lost; a claim that is lost stops the
//     run without undoing anything, for another node owns it.
//
//   - A flow that has changed between releases goes on if what was run is still its beginning; else what was run is undone.
//
// # Not guaranteed
//
//   - Exactly-once steps: after a crash the interrupted do or undo runs again, so both must be idempotent.
//   - That a do ends when its ctx does: it is waited for, never abandoned.
package flow
