// Package conductor serves stores over the bus, so that a host without database credentials runs jobs, beats and keeps its
// tracker like any other node: the method runs where the store is, and what has changed comes back (as nova-conductor does it,
// without a round trip per object).
//
//	srv, err := conductor.NewServer(conductor.ServerConfig{Bus: b, Tx: db}) // on nodes with the store
//	go srv.Run(ctx)
//
//	c, err := conductor.New(conductor.Config{Bus: b}) // on a host
//	go c.Run(ctx)
//	err = c.Ready(ctx)
//	jobs, err := job.New(job.Config{DB: c, Queues: map[string]int{"host/h1": 10}})
//
// A transaction of a client reads by calls of their own, keeps what it writes, and sends all of it as one commit: the server
// does it in one real transaction, after it has found that the rows read by their ids are as they were read. The body of a
// transaction reads, then writes, then does at most one operation whose result nobody can expect (a claim, a session's
// opening); after that, or to read a row that it has written, is [ErrShape]. [CheckShape] finds such bodies in tests.
//
// What a write answers before the commit is what it answers if all goes well. If the server finds otherwise, nothing is done
// and the body runs again with what the server has found; after a commit that has drawn numbers it runs once more with those.
// A body has no effects but by its transaction, as for every [store.Runner].
//
// # Guarantees
//
//   - A commit happens once or not at all, whatever is lost: its id and result are kept with it for 10 minutes, and a repeat, by
//     any server, gets that result.
//   - No transaction and no lock of the store waits for a host, and no lock of the client for a server.
//   - A host does what [Policy] allows; a commit of which it may not do a part is refused whole.
//   - Time is the store's: no instant of a host's clock is compared with it.
//   - Beats and renewals never wait behind commits and reads.
//   - Every call ends by its deadline. [ErrNoConductor]: nothing happened. [ErrUnknown]: nobody can tell.
//   - Servers keep nothing; any of them may go at any time.
//
// # Not guaranteed
//
//   - That a list is still complete, or a row found by a filter as it was, at the commit: only rows asked for by id are checked.
//   - Hints: they may be lost. Everything polls.
//   - That an error of a body undoes anything once an operation that commits has run.
package conductor
