// Package lease says who may act, as facts kept in the store: a node's session (one row, one small update per interval,
// however much the node holds), named leases that belong to a session (a leader, work that runs once per cluster), and
// the ledger of periodic due times. Whoever holds something gets an epoch with it and hands it, as a fencing [Token], to
// what acts outside the store.
//
// # Guarantees
//
//   - By the store's clock a session, and a named lease, has one holder at a time. Clocks of nodes are never compared.
//   - A holder whose clock's rate errs by at most 10 % stops trusting its session before the store lets anybody else in:
//     trust ends TTL − Margin after the last good renewal started.
//   - Epochs rise, across all names of a store, and are never used twice, also after a row was deleted.
//   - An older process of the same name is over the moment a newer one opens its session.
//   - The cost of renewal does not depend on what a session holds.
//
// # Not guaranteed
//
//   - That no write of an old holder is still under way when a new one starts: that is what the token is for. Check it in
//     the transaction that writes.
//   - Fairness among those who wait for a lease.
//
// What a node seems to be, alive or not, is a matter of package servicegroup; it is a hint, this is a fact.
package lease
