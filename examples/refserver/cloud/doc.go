// Package cloud is the domain of the reference server: zones, hosts, machines, networks and volumes in tables of its own (rs_…),
// commands on them through dispatch, flows that deploy and start machines, placement by the tracker. It speaks no HTTP.
//
// A command that changes a machine runs in the machine's turn, one after another in order of submission, and marks the row with
// its job before it acts. So a job that runs again after a crash tells its own half-done work from somebody else's.
package cloud
