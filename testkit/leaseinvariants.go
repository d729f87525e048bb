package testkit

import (
	"fmt"
	"time"

	"github.com/drover-cloud/drover/lease"
)

// LeaseInvariants watches every transaction on sessions, leases and claims from now on and fails the world when an epoch
// does not rise, a name has two holders by the store's clock, or a session that is over acts.
func (w *World) LeaseInvariants() {
	w.use("World.LeaseInvariants")
	w.watch(&leaseEye{sessions: map[int64]*seenSession{}, names: map[string]int64{}, leases: map[string]*seenLease{}})
}

type leaseEye struct {
	sessions map[int64]*seenSession // by epoch
	names    map[string]int64       // the youngest session of a node
	leases   map[string]*seenLease
	epoch    int64 // the highest seen
	broken   string
}

type seenSession struct {
	until time.Time
	over  bool
}

type seenLease struct {
	token  lease.Token
	holder int64 // session
	free   bool
}

func (e *leaseEye) breaks(format string, a ...any) {
	if e.broken == "" {
		e.broken = "lease invariant broken: " + fmt.Sprintf(format, a...)
	}
}

func (e *leaseEye) look() string { return e.broken }

func (e *leaseEye) committed(t *tx) {
	now := t.inner.Now()
	for _, event := range t.events {
		switch v := event.(type) {
		case opened:
			e.rises(v.token.Epoch, "session of "+v.token.Node)
			if old := e.sessions[e.names[v.token.Node]]; old != nil {
				old.over = true
			}
			e.names[v.token.Node] = v.token.Epoch
			e.sessions[v.token.Epoch] = &seenSession{until: now.Add(v.ttl)}
		case renewed:
			e.acts(v.token.Epoch, now, "was renewed")
			if s := e.sessions[v.token.Epoch]; s != nil {
				s.until = now.Add(v.ttl)
			}
		case closed:
			if s := e.sessions[v.token.Epoch]; s != nil {
				s.over = true
			}
		case acquired:
			e.acquired(v, now)
		case released:
			if l := e.leases[v.name]; l != nil && l.token.Epoch == v.token.Epoch {
				l.free = true
			}
		case claimed:
			e.acts(v.by.Session.Epoch, now, "claimed jobs")
			e.rises(v.rows[0].Epoch, "claim of "+v.by.Session.Node)
		}
	}
}

func (e *leaseEye) acquired(v acquired, now time.Time) {
	e.acts(v.holder.Epoch, now, "acquired "+v.name)
	old := e.leases[v.name]
	if old != nil && old.token.Epoch == v.token.Epoch {
		if old.holder != v.holder.Epoch {
			e.breaks("lease %s: epoch %d was given to sessions %d and %d", v.name, v.token.Epoch, old.holder, v.holder.Epoch)
		}
		return
	}
	e.rises(v.token.Epoch, "lease "+v.name)
	if old != nil && !old.free && e.live(old.holder, now) {
		e.breaks("lease %s: session %d got it while session %d holds it", v.name, v.holder.Epoch, old.holder)
	}
	e.leases[v.name] = &seenLease{token: v.token, holder: v.holder.Epoch}
}

func (e *leaseEye) rises(epoch int64, what string) {
	if epoch <= e.epoch {
		e.breaks("%s got epoch %d after %d", what, epoch, e.epoch)
	}
	e.epoch = max(e.epoch, epoch)
}

// live reports of a session, as far as it is known, that it is not over.
func (e *leaseEye) live(epoch int64, now time.Time) bool {
	s := e.sessions[epoch]
	return s != nil && !s.over && s.until.After(now)
}

func (e *leaseEye) acts(epoch int64, now time.Time, what string) {
	if e.sessions[epoch] != nil && !e.live(epoch, now) {
		e.breaks("session %d %s although it is over", epoch, what)
	}
}
