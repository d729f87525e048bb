package ha

import (
	"errors"
	"time"

	"github.com/drover-cloud/drover/store"
)

// State of a host.
type State string

// States.
const (
	Fresh         State = "new"           // registered, never beat
	Up            State = "up"            // beats, healthy
	Suspect       State = "suspect"       // silent, unhealthy, or hinted
	Investigating State = "investigating" // probes are out
	Checking      State = "checking"      // samples of activity are collected
	Degraded      State = "degraded"      // alive by evidence, but without a healthy agent
	Repairing     State = "repairing"     // a repairer is at work
	Condemned     State = "condemned"     // judged dead, nothing done yet
	Fencing       State = "fencing"       // the fence epoch is raised
	Blocked       State = "blocked"       // there is no proof; a human is told
	Fenced        State = "fenced"        // proof stored, recovery under way
	Offline       State = "offline"       // proof stored, nothing left to recover
	Rejoining     State = "rejoining"     // beats again
	Draining      State = "draining"      // VMs are moved away
	Maintenance   State = "maintenance"   // drained; never suspected
	Disabled      State = "disabled"      // taken out by an operator; not judged
	Removed       State = "removed"       // a tombstone that keeps the epoch
)

// States lists all, in the order of the documentation.
func States() []State {
	return []State{Fresh, Up, Suspect, Investigating, Checking, Degraded, Repairing, Condemned, Fencing, Blocked, Fenced, Offline,
		Rejoining, Draining, Maintenance, Disabled, Removed}
}

// Reason qualifies Degraded and Blocked.
type Reason string

// Reasons.
const (
	AgentLost     Reason = "agent-lost"
	Unhealthy     Reason = "unhealthy"
	Goodbye       Reason = "goodbye"
	ConnectFailed Reason = "connect-failed"
	CheckerError  Reason = "checker-error"

	Exhausted     Reason = "exhausted"      // fencers gave no proof
	Conflict      Reason = "conflict"       // evidence of life and of death
	ProtectionOff Reason = "protection-off" // see Record.Unprotected
)

// Record is what is stored of a host. Instants are by the store's clock.
type Record struct {
	Host    Host
	State   State
	Reason  Reason
	Version int64  // compared and set
	Owner   string // session of the monitor that made the last transition
	// Epoch is the fence epoch: one more with each fencing, also over removal. Fenced is the incarnation fenced last: its beats
	// prove the proof wrong.
	Epoch, Fenced    int64
	Incarnation, Seq int64 // of the last beat accepted
	Since            time.Time
	// Renewed is the last renewal of the host's lease; zero: no guard runs there.
	Renewed time.Time
	Proof   *Proof // of Epoch, from Fenced on

	Unprotected string    // why protection is off: zone, cluster, host, "ineligible: …"; "" is on
	Draining    bool      // the wish to drain, also while suspected
	Lost        time.Time // since when it is without a healthy agent; zero: it is not
	Alarmed     time.Time // the last alarm since then
	Evident     bool      // condemned by evidence, not for want of life
	Until       time.Time // the next retry or recheck, or the end of the hold-down
	Tries       int       // of Until, for its backing off

	Fences    int       // attempts at this epoch
	Ordered   bool      // a fence job of this epoch was ordered
	Begun     bool      // and has started
	LastFence time.Time // last active fence operation

	Repairs     int
	Destructive bool      // a repair that kills was ordered
	Rejoin      time.Time // by when a repaired host must have beaten

	Samples, Idle int // of activity, and how many of them saw none
	Sampled       time.Time

	Flaps  int // rejoinings that are not forgotten
	Steady time.Time
}

// Protected says whether the host may be fenced.
func (r Record) Protected() bool { return r.Unprotected == "" }

// DomainRecord is what is stored of a failure domain.
type DomainRecord struct {
	ID       string
	Version  int64
	Mode     Mode
	Since    time.Time // of Mode
	Below    time.Time // since when it is below the limits again; zero: it is not
	Next     time.Time // when the next fence may begin
	Thawed   time.Time // the end of the last storm: silence counts from it anew
	Channels int       // independent channels that must be silent; 0: as many as there are
}

// Mode of a domain.
type Mode string

// Modes.
const (
	Normal Mode = ""       // one fence at a time, one per 10 s
	Slow   Mode = "slow"   // many hosts are missing: one fence per 100 s
	Frozen Mode = "frozen" // most are: no condemnation passes
)

// Errors.
var (
	ErrUnknownHost = errors.New("ha: unknown host")
	ErrFenced      = errors.New("ha: behind the fence epoch")
	ErrNotFenced   = errors.New("ha: host not fenced")
	ErrNoCapacity  = errors.New("ha: no capacity")
	ErrCycle       = errors.New("ha: dependency cycle")
	ErrStale       = store.ErrConflict
)
