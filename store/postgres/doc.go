// Package postgres is the PostgreSQL store (version 13 or later), on a *bun.DB that the host owns.
//
//	sqldb := stdlib.OpenDB(*cfg) // pgx: prepared statements, and LISTEN for quick wake-ups
//	db, err := postgres.New(bun.NewDB(sqldb, pgdialect.New()), postgres.Config{Schema: "drover"})
//	err = db.Migrate(ctx)
//
// [Open] does the first line with the time-outs a controller wants. Another driver than pgx works too, without
// notifications: everything polls.
//
// # How jobs are kept
//
// A job is one row in drover_job and moves through narrow tables: drover_pend (does not run), drover_active (runs),
// drover_done (final). A turn of a key is a unique slot (key, slot) in drover_active, so that exclusion is the index's.
// Statements of the hot path are set-based, prepared, and stand as commented constants in sql_*.go.
//
// # Guarantees
//
//   - Own transactions are READ COMMITTED, asked for explicitly; serialization failures and deadlocks are retried.
//   - tx.Now is the server's now(), one for the transaction. No decision uses a node's clock.
//   - A job is claimed by one transaction only, however many claim at once; writes of a worker are compare-and-sets on
//     (id, epoch).
//   - At most limit jobs hold a turn of a key; a turn that becomes free is handed on in the same transaction.
//   - Insert waits for no claim, no finish and no other Insert of the same key, however long its transaction stays open.
//   - Migrate may run on several nodes at once; a schema newer than this build, or not as it left it, is an error.
//
// # Not guaranteed
//
//   - Notifications: they are hints, lost when a connection is, and absent behind a pooler in transaction mode.
//   - Anything that an asynchronous standby lost when it was promoted, except that epochs never run backwards: a change of
//     system identifier, timeline or database ends all sessions and raises the store's incarnation. Run with
//     synchronous_commit=on and a synchronous standby.
//   - The pace of claims on one key while another transaction holds an old snapshot for minutes.
package postgres
