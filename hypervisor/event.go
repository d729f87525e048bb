package hypervisor

import (
	"context"
	"time"
)

// Eventer tells what happens on a host.
type Eventer interface {
	// Events calls f for each event until ctx ends, and returns its error; f is never called after that. It begins with an EventSync for
	// each VM and one EventSynced. f is called from one goroutine, in order, with Seq rising by one. What a slow f misses is replaced
	// by an EventResync and the present state: it loses history, never the present. A panic of f is logged, and the events go on.
	//
	// An event is a hint to look: its order against replies of calls is not promised.
	Events(ctx context.Context, f func(Event)) error
}

// Event is something that happened to a VM, or to the connection to its host.
type Event struct {
	Seq    int64 // 1, 2, …
	At     time.Time
	Kind   EventKind
	VM     VM     // as far as the event tells: at least ID, Name, Power and Incarnation; zero in events of the connection
	Detail string // the driver's word, for people
}

// EventKind is what an Event is about.
type EventKind string

// The kinds of events of a VM.
const (
	EventSync      EventKind = "sync" // it is there; comes before EventSynced
	EventDefined   EventKind = "defined"
	EventUndefined EventKind = "undefined"
	EventStarted   EventKind = "started"
	EventStopped   EventKind = "stopped" // held back for a while: a stop that a start follows is EventRebooted
	EventCrashed   EventKind = "crashed"
	EventPaused    EventKind = "paused"
	EventResumed   EventKind = "resumed"
	EventSuspended EventKind = "suspended"
	EventSaved     EventKind = "saved"
	EventRebooted  EventKind = "rebooted"
	EventMovedIn   EventKind = "moved-in"
	EventMovedOut  EventKind = "moved-out"
)

// The kinds of events of the connection.
const (
	EventSynced EventKind = "synced" // all that was to be told of the present has been
	EventSilent EventKind = "silent" // the host says nothing, and is not given up yet
	EventLost   EventKind = "lost"   // it is; once in an outage
	EventBack   EventKind = "back"   // after EventSilent or EventLost
	EventResync EventKind = "resync" // events were dropped: the present state follows
)
