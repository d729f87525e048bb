package ha

import "time"

// Snapshot is all that Decide looks at. Hosts are sorted by ID, Domains by ID, Rows by ID; what is missing in Domains is new.
type Snapshot struct {
	Policy  Policy    // with its defaults
	Store   time.Time // the store's clock when the snapshot was read
	Self    Self
	Hosts   []Watched
	Domains []DomainRecord
	Rows    []Row
	Slots   int // probes that may still go out
}

// Self is what a monitor knows of itself.
type Self struct {
	Owner   string    // its session
	Good    time.Time // since when its store answers in time and its loop keeps up; silence before it counts for nothing
	Stalled bool      // they do not now
	Score   int       // 1…8: multiplies the silence that is needed; 0 is 1
}

// Watched is a host: what is stored of it, and what this monitor has seen itself.
type Watched struct {
	Record
	Mine bool   // this monitor is to act
	Off  string // why protection is off now; "" it is on
	Seen Seen
}

// Seen is what a monitor has seen of a host since it began to watch it. Instants are by the monitor's clock.
type Seen struct {
	Since  time.Time // it watches the host, without a gap
	Last   time.Time // receipt of the last beat; zero: none
	Beat   *Beat     // the last one, if it came after the last Decide
	Sick   bool      // the last one was not healthy
	Hinted bool      // a connection broke after the last Decide
	Probe  *Probe    // the last one
	Sample *Sample   // of activity, if it came after the last Decide
	Asking bool      // a sample is being taken
	Repair *Repaired // likewise
	Proof  *Proof    // a fencer, or an operator, has one

	Channels []Channel // beside the control network

	Connecting bool   // hooks and inventory are under way
	Connected  bool   // they went well, and old copies are gone
	HookError  string // they did not
	Drained    bool   // no VM is left
}

// Probe is a round of all investigators at one host.
type Probe struct {
	Attempt  string
	Began    time.Time
	Ended    time.Time // zero: it is out
	Findings []Finding // in the order of the investigators
}

// Sample is a look for activity of a host's VMs.
type Sample struct {
	At     time.Time
	Active bool // false also when the look took too long
	Err    string
}

// Repaired is what came of a repair.
type Repaired struct {
	Proof *Proof
	Err   string
}

// Channel is a way other than the control network on which a host shows life.
type Channel struct {
	Name    string
	Watched time.Time // since when, without a gap
	Moved   time.Time // last sign of life; zero: none since then
}

// Kind of an Action.
type Kind string

// Kinds of actions.
const (
	Claim   Kind = "claim"   // take over the host: save Record
	Move    Kind = "move"    // a transition: save Record, append the event, submit Order, all in one transaction
	Save    Kind = "save"    // save Record, and submit Order
	Look    Kind = "look"    // send a probe out
	Measure Kind = "measure" // take a sample of activity
	Connect Kind = "connect" // run connect hooks, reconcile the inventory
	Alarm   Kind = "alarm"   // tell a human: Text
	Pace    Kind = "pace"    // save Domain
	Recover Kind = "recover" // save Row and submit its job
	Hold    Kind = "hold"    // save Row, which waits
	Wake    Kind = "wake"    // call Decide again at At at the latest; the last Action
)

// Order is the job that an Action orders.
type Order string

// Orders.
const (
	OrderFence  Order = "fence"
	OrderRead   Order = "fence, no command" // only read the state: the last command is too recent
	OrderRepair Order = "repair"
	OrderCancel Order = "cancel fence" // jobs that have not started
	OrderRows   Order = "open rows"
)

// Action is something that Decide wants done.
type Action struct {
	Kind     Kind
	Host     string
	From, To State
	Reason   Reason
	Order    Order
	Text     string
	Record   *Record // to be saved if the stored one has still its Version
	Domain   *DomainRecord
	Row      *Row
	At       time.Time // of Wake, by the monitor's clock
}
