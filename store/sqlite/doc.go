// Package sqlite is the embedded durable store: one SQLite file (or ":memory:"), by way of bun and whatever SQLite driver
// the host has opened it with. Nothing is opened or closed here.
//
//	dsn, err := sqlite.DSN("/var/lib/app/drover.db") // made 0600
//	sqldb, err := sql.Open("sqlite", dsn)            // import _ "modernc.org/sqlite"
//	db := bun.NewDB(sqldb, sqlitedialect.New())
//	st := sqlite.New(db, sqlite.Config{})
//	err = st.Migrate(ctx)
//
// [DSN] asks for what this store wants of a connection: write-ahead log, a busy time-out of 5 s, transactions of the host
// that begin with the write lock, and synchronous=FULL, so that a committed job survives the loss of power. With
// synchronous=NORMAL it survives the death of the process and of the operating system's caches no more: several times
// as many single submissions per second, and the last commits before a power cut may be gone. A ":memory:" database lives in one
// connection: open it with SetMaxOpenConns(1).
//
// # Guarantees
//
// Transactions are serializable: each begins with the write lock (BEGIN IMMEDIATE), so there is one at a time, in this
// process in order of arrival; [Store.Read] stands beside them. What is committed is whole after the process was killed at any point. Now is Env.Clock cut to
// microseconds, and never goes back in this process. Several processes may share a file on a local disk.
//
// # Not guaranteed
//
// A transaction of the store that is asked for while the same goroutine holds one of its own waits for itself, until its ctx
// ends: join the open one instead ([Store.Join]).
//
// Hints reach sleepers of this process and [Store] only; other processes poll. Hints of a transaction that was joined
// ([Store.Join]) are dropped, since its commit is the host's. Processes that share a file must run on one clock. A network
// file system is not supported, as SQLite's locks do not hold there.
package sqlite
