package hypervisor

import (
	"context"
	"time"
)

// Statser reads the figures of many guests in one request.
type Statser interface {
	// Stats gives the guests that q selects, sorted by ID. A guest that does not answer is there, marked Stale.
	Stats(ctx context.Context, q StatsQuery) ([]Stats, error)
}

// StatsQuery selects guests and figures. The zero value is the power state and processor time of all.
type StatsQuery struct {
	IDs    []string // empty: all
	Memory bool
	VCPUs  bool
	Disks  bool
	NICs   bool
}

// Stats are the figures of a guest since its start. What was not asked for, or the host does not know, is zero.
type Stats struct {
	ID, Name     string
	Power        Power
	Incarnation  int64
	CPUTime      time.Duration
	VCPUs        int
	MemoryMiB    int64 // now
	MaxMemoryMiB int64
	ResidentMiB  int64 // of the host's memory
	Disks        []DiskStats
	NICs         []NICStats
	Stale        bool // the guest's process did not answer: what only it knows is missing
}

// DiskStats are a disk's.
type DiskStats struct {
	Name                    string
	Reads, Writes           int64 // requests
	ReadBytes, WrittenBytes int64
	Capacity                int64 // bytes
}

// NICStats are a network interface's.
type NICStats struct {
	Name                           string
	ReceivedBytes, SentBytes       int64
	ReceivedPackets, SentPackets   int64
	ReceivedErrors, SentErrors     int64
	ReceivedDropped, DroppedToSend int64
}
