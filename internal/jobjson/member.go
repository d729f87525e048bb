package jobjson

import (
	"slices"
	"strings"

	"github.com/drover-cloud/drover/lease"
)

// Member is a node: what membership says of it, where the host has one, and its lease session.
type Member struct {
	ID          string            `json:"id"`
	State       string            `json:"state"` // up, draining, down, unknown, left
	Reason      string            `json:"reason,omitempty"`
	Addr        string            `json:"addr,omitempty"`
	Version     string            `json:"version,omitempty"`
	Mark        string            `json:"mark,omitempty"`
	Health      string            `json:"health,omitempty"`
	Age         int64             `json:"age_ms,omitempty"` // of the last beat
	Joined      Stamp             `json:"joined,omitzero"`
	Incarnation int64             `json:"incarnation"` // of the session, else of the member
	Epoch       int64             `json:"epoch"`
	Session     string            `json:"session"` // active, draining, dead, closed, none
	Until       Stamp             `json:"until,omitzero"`
	Kinds       []string          `json:"kinds,omitempty"`
	Pools       []string          `json:"pools,omitempty"`
	Meta        map[string]string `json:"meta,omitempty"`
}

// Name is the id, for the page.
func (m Member) Name() string { return m.ID }

// Members of the cluster.
type Members struct {
	Items    []Member `json:"items"`
	Frozen   bool     `json:"frozen"`           // too many were silent at once: nobody is called down for it
	Isolated bool     `json:"isolated"`         // this node is cut off, by its own account
	Leader   string   `json:"leader,omitempty"` // a hint
}

// Lease is a session or a named lease.
type Lease struct {
	Name        string `json:"name"`
	Named       bool   `json:"named"`
	Holder      string `json:"holder"`
	Incarnation int64  `json:"incarnation"`
	Epoch       int64  `json:"epoch"`
	State       string `json:"state"`
	Closed      bool   `json:"closed,omitempty"`
	Until       Stamp  `json:"until,omitzero"`
}

// LeaseOf is one row.
func LeaseOf(i lease.Info) Lease {
	return Lease{i.Name, i.Named, i.Holder.Node, i.Holder.Incarnation, i.Holder.Epoch, i.State, i.Closed, Stamp(i.Until)}
}

// MembersOf is the latest session of each node, by name.
func MembersOf(infos []lease.Info) []Member {
	ms, at := []Member{}, map[string]int{}
	for _, i := range infos {
		if i.Named {
			continue
		}
		m := Member{
			ID: i.Name, State: "down", Session: i.State, Incarnation: i.Holder.Incarnation, Epoch: i.Holder.Epoch, Until: Stamp(i.Until),
			Kinds: i.Kinds, Pools: i.Queues,
		}
		switch {
		case i.State == lease.Active:
			m.State = "up"
		case i.State == lease.Draining:
			m.State = "draining"
		case i.Closed:
			m.State, m.Session = "left", "closed"
		}
		if n, found := at[i.Name]; !found {
			at[i.Name] = len(ms)
			ms = append(ms, m)
		} else if ms[n].Epoch < m.Epoch {
			ms[n] = m
		}
	}
	slices.SortFunc(ms, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return ms
}
