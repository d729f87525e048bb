// Package testkit starts real servers for drover's own tests: private, on loopback, ended with the test binary.
//
// Every fixture asks for its server by name. A server that is not installed skips the test, or fails it where
// DROVER_REQUIRE_SERVERS asks for it: "1" means all servers, a comma-separated list means those ("postgres"), unset or
// "0" means none. A server that is found but does not start within 60 s always fails the test, with the end of its log.
//
// # Guarantees
//
// A server and its files are gone when the test binary has ended, also when it was killed: children get a parent-death
// signal. When the tests run as root the server runs as its own user, or as uid 65534. Nothing listens beyond loopback.
//
// # Not guaranteed
//
// The data survive a crash of the machine: fsync is off unless FsyncOn is asked for. Fault verbs are for servers that
// this package started; with an external DSN they skip the test.
package testkit
