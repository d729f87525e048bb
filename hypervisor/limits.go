package hypervisor

import "time"

// Deadlines of the classes of calls: what a Driver allows a call that comes with more time, or with none. They hold the waiting for
// a turn, a place and a connection.
const (
	PingLimit   = 5 * time.Second // also of opening a connection
	QueryLimit  = 10 * time.Second
	BulkLimit   = 30 * time.Second // lists and statistics
	ChangeLimit = 60 * time.Second
	ForceLimit  = 90 * time.Second // a forced stop
	SaveLimit   = 10 * time.Minute // memory to disk and back, snapshots
)
