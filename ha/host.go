package ha

import (
	"time"

	"github.com/drover-cloud/drover/lease"
)

// Host is a machine that runs VMs.
type Host struct {
	ID, Zone, Cluster string
	Domain            string // of failure; "" is the Cluster
	Kind              string // of hypervisor
	Labels            map[string]string
}

func (h Host) domain() string {
	if h.Domain != "" {
		return h.Domain
	}
	return h.Cluster
}

// VM is a machine that is to run again elsewhere when its host is dead.
type VM struct {
	ID, Host  string
	Kind      string // System or user
	Tag       string // wanted of the host it goes to
	Priority  int    // higher ones are recovered first
	After     []string
	Protected bool
	Forced    bool   // recover it even if it is not Protected
	Stuck     string // why it cannot run elsewhere
	// Generation rises with each change by a user; Epoch is the fencing token of its last start.
	Generation, Epoch int64
}

// System is the Kind of VMs that others need; they are recovered first.
const System = "system"

// Verdict is what a look at a host says. The zero value is Unknown.
type Verdict int

// Verdicts.
const (
	Unknown Verdict = iota // could not look
	Alive                  // fresh evidence, gathered after the look began
	Silent                 // looked through an independent channel and saw nothing: a witness, no proof
	Dead                   // positive evidence, with a Proof
)

// String names it.
func (v Verdict) String() string {
	return [...]string{"unknown", "alive", "silent", "dead"}[max(0, min(int(v), 3))]
}

// Finding is what one investigator found.
type Finding struct {
	By      string // the investigator
	Channel string // it looked through; findings of one channel are one witness
	Verdict Verdict
	Proof   *Proof // of Dead
	Note    string
}

// Proof is why the old copy cannot run. It counts only for its Epoch.
type Proof struct {
	Kind     ProofKind
	By       string
	Evidence string
	At       time.Time
	Epoch    int64
}

// ProofKind is a kind of Proof.
type ProofKind string

// Kinds of proof. A command's return code proves nothing.
const (
	PowerOff          ProofKind = "power-off"          // read as off
	PowerCycled       ProofKind = "power-cycled"       // seen off, then on
	StorageRevoked    ProofKind = "storage-revoked"    // it cannot write any more
	LeaseExpired      ProofKind = "lease-expired"      // its guard has stopped it
	KdumpDone         ProofKind = "kdump-done"         // its kernel has written its last
	HypervisorEmpty   ProofKind = "hypervisor-empty"   // reads as running nothing, guarded by the fence epoch
	GuestGone         ProofKind = "guest-gone"         // one VM, on a living host
	OperatorConfirmed ProofKind = "operator-confirmed" // somebody says so
)

// Token is handed to everything that acts outside the store.
type Token struct {
	Host lease.Token // of the host's fence epoch, named host/<id>
	VM   lease.Token // of the job that acts, named vm/<id>; never compared with Host
	Key  string      // the same for every try of one intent
}

// Beat is a sign of life of a host.
type Beat struct {
	Host        string
	Incarnation int64 // of the host's agent: rises with each start
	Seq         int64 // within the incarnation
	Healthy     bool
	Goodbye     bool // it stops in peace
}

// Ack answers a Beat.
type Ack struct {
	Seq, Epoch int64
	Lease      time.Duration // the host may run its VMs for so long after it sent the beat
}
