// Package rpc is one connection to a libvirt daemon: libvirt's remote protocol, version 1, and its keepalive. It knows packets and
// XDR, which procedure takes and gives what, and nothing of virtual machines.
//
// # Guarantees
//
//   - A call ends with its context, also when the daemon is stopped, the socket is full, or nobody reads. go-libvirt and the C
//     binding wait for ever.
//   - The reader waits for nobody: not for a consumer of events, not for a caller, not for the socket to take an answer.
//   - At most Config.Limit requests are in flight. One whose caller has left keeps its place until its reply comes, since the daemon
//     is busy with it: a daemon takes five requests of a client by default and lets the sixth wait inside.
//   - What a daemon sends is never trusted: lengths and counts are checked against what is there, and nonsense breaks the connection.
//
// # Not guaranteed
//
//   - Order of replies and events against each other.
//   - That a request without a reply was not carried out: see [CallError.Sent].
package rpc
