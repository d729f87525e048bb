package ha

import (
	"cmp"
	"slices"
	"time"
)

// WorkKind is what a Row is about.
type WorkKind string

// Kinds of work.
const (
	Restart   WorkKind = "restart"
	Migrate   WorkKind = "migrate"
	Stop      WorkKind = "stop"
	CheckStop WorkKind = "check-stop"
	ForceStop WorkKind = "force-stop"
	Destroy   WorkKind = "destroy"
)

// RowState is the state of a Row.
type RowState string

// States of a Row; from RowDone on they are final.
const (
	Pending       RowState = "pending"
	Waiting       RowState = "waiting" // costs no attempt
	Placing       RowState = "placing"
	Starting      RowState = "starting"
	Verifying     RowState = "verifying"
	RowDone       RowState = "done"
	Skipped       RowState = "skipped"
	Superseded    RowState = "superseded"
	Cancelled     RowState = "cancelled"
	NeedsOperator RowState = "needs-operator"
)

// Closed says that nothing more happens to a row.
func (s RowState) Closed() bool {
	return s == RowDone || s == Skipped || s == Superseded || s == Cancelled || s == NeedsOperator
}

// Flying says that a job is at work on it.
func (s RowState) Flying() bool { return s == Placing || s == Starting || s == Verifying }

// Why is the reason of a Row's state.
type Why string

// Reasons of rows.
const (
	ForTurn       Why = "turn" // another operation holds the VM
	ForHost       Why = "host" // no proof yet that the old copy cannot run
	ForTime       Why = "not due"
	ForDomain     Why = "frozen"
	ForArms       Why = "disarmed"
	ForDependency Why = "dependency"
	ForCapacity   Why = "no-capacity"
	ForAlive      Why = "alive" // seen alive on a host that is not up

	Gone           Why = "gone"
	NotRestartable Why = "not-restartable"
	Changed        Why = "changed"
	Moved          Why = "moved"
	LivesOn        Why = "alive on its host"
	NotProtected   Why = "not-protected"
	LocalDisk      Why = "local"
	NewerEpoch     Why = "newer epoch"
	HostIsBack     Why = "host is up"
)

// Row is the recovery of one VM: one per VM and fence epoch.
type Row struct {
	ID       string
	Version  int64
	Kind     WorkKind
	Host     string // the old one
	Epoch    int64  // of its fencing
	VM       VM     // as it was when the row was opened
	State    RowState
	Reason   Why
	Cause    Why // why it was opened
	Target   string
	Attempts int // failures; waiting is none
	Opened   time.Time
	Begun    time.Time // when it was first placed; zero: not yet
	Until    time.Time // of Waiting
	Proof    *Proof    // GuestGone: the VM was read as not running on a living host
	Wrote    int64     // the VM's Generation after the row's own last write; that change does not count
}

// rows decides which rows may start, in their order, and which wait.
func (d *decider) rows() {
	var open []*Row
	flying := 0
	for i := range d.s.Rows {
		r := &d.s.Rows[i]
		if r.State.Flying() {
			flying++
		}
		if !r.State.Closed() && !r.State.Flying() {
			open = append(open, r)
		}
	}
	slices.SortStableFunc(open, func(a, b *Row) int { return cmp.Or(before(a, b), cmp.Compare(a.ID, b.ID)) })
	for _, r := range open {
		h := d.find(r.Host)
		if h == nil || !h.Mine || h.Owner != d.s.Self.Owner || d.moved[r.Host] {
			continue
		}
		why := d.waits(r, h)
		switch {
		case why == "" && flying >= d.p.InAll: // its turn comes when another has ended
		case why == "":
			flying++
			d.row(Recover, r, func(n *Row) {
				n.State, n.Reason, n.Until = Placing, "", time.Time{}
				if n.Begun.IsZero() {
					n.Begun = d.s.Store
				}
			})
		case r.State != Waiting || r.Reason != why:
			d.row(Hold, r, func(n *Row) { n.State, n.Reason = Waiting, why })
		}
	}
}

// byHost finds the rows of a host, in the order of the Snapshot.
type byHost map[string][]*Row

func (m byHost) add(r *Row) { m[r.Host] = append(m[r.Host], r) }

func (d *decider) row(k Kind, r *Row, change func(n *Row)) {
	n := *r
	change(&n)
	d.act(Action{Kind: k, Host: r.Host, Row: &n})
}

// before orders by group: system VMs first, then by priority.
func before(a, b *Row) int {
	return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(b.VM.Priority, a.VM.Priority))
}

func class(r *Row) int {
	if r.VM.Kind == System {
		return 0
	}
	return 1
}

func (d *decider) find(host string) *Watched {
	i, ok := slices.BinarySearchFunc(d.s.Hosts, host, func(h Watched, id string) int { return cmp.Compare(h.Host.ID, id) })
	if !ok {
		return nil
	}
	return &d.s.Hosts[i]
}

// waits tells what r waits for; "" nothing.
func (d *decider) waits(r *Row, h *Watched) Why {
	switch {
	case !proven(r, &h.Record):
		return ForHost
	case d.p.Disarmed:
		return ForArms
	case d.domain(h.Host).Mode == Frozen && d.p.FrozenProofWaits:
		return ForDomain
	case !d.due(r.Until):
		if r.Reason == "" {
			return ForTime
		}
		return r.Reason
	case !d.groups(r) || !d.dependencies(r):
		return ForDependency
	}
	return ""
}

// proven says that the old copy cannot run: the host is proved dead at the row's epoch, and has not contradicted that, or the VM is
// known to be gone.
func proven(r *Row, h *Record) bool {
	if r.Kind != Restart {
		return true
	}
	if r.Proof != nil && r.Proof.Kind == GuestGone {
		return true
	}
	return h.Proof != nil && h.Proof.Epoch == h.Epoch && h.Epoch == r.Epoch
}

// groups says that the groups before r's have ended, or begun long enough ago.
func (d *decider) groups(r *Row) bool {
	for _, o := range d.byHost[r.Host] {
		if o.Epoch == r.Epoch && o.Kind == r.Kind && !o.State.Closed() && before(o, r) < 0 && !d.due(d.began(o).Add(d.p.Timing.GroupWait)) {
			return false
		}
	}
	return true
}

// dependencies says the same of the VMs that r's comes after.
func (d *decider) dependencies(r *Row) bool {
	for _, o := range d.byHost[r.Host] {
		if o.Epoch == r.Epoch && o.State != RowDone && slices.Contains(r.VM.After, o.VM.ID) && !d.due(d.began(o).Add(d.p.Timing.GroupWait)) {
			return false
		}
	}
	return true
}

func (d *decider) began(r *Row) time.Time { return later(r.Opened, r.Begun) }

// closed says that nothing is left to recover of the host's last fencing.
func (d *decider) closed(h *Watched) bool {
	for _, r := range d.byHost[h.Host.ID] {
		if r.Epoch == h.Epoch && !r.State.Closed() {
			return false
		}
	}
	return true
}
