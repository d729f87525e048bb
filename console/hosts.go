package console

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// Hosts is what the console needs to know of the hosts that machines run on, such as package ha has them.
type Hosts interface {
	Hosts(ctx context.Context) ([]Host, error)
}

// Host is one of them.
type Host struct {
	Name, State, Reason string // State is "up" of one that is well
	Since               time.Time
}

// hostObject is a host of the API.
type hostObject struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	Since  stamp  `json:"since,omitzero"`
}

func (c *Console) hosts(ctx context.Context) ([]hostObject, error) {
	out := []hostObject{}
	if c.cfg.Hosts == nil || who(ctx).Account != "" {
		return out, nil
	}
	hs, err := shared(ctx, c.calm, "hosts", c.cfg.Hosts.Hosts)
	for _, h := range hs {
		out = append(out, hostObject{h.Name, h.State, h.Reason, stamp(h.Since)})
	}
	return out, err
}

func (c *Console) listHosts(r *http.Request) (*answer, error) {
	hs, err := c.hosts(r.Context())
	if err != nil {
		return nil, err
	}
	return ok(list[hostObject]{Items: hs})
}

// changedHosts sends a frame per host whose state has changed since last.
func (c *Console) changedHosts(ctx context.Context, last []hostObject) []hostObject {
	now, err := c.hosts(ctx)
	if err != nil {
		return last
	}
	for _, h := range now {
		if last == nil || slices.Contains(last, h) {
			continue
		}
		if data, err := json.Marshal(map[string]string{"id": h.Name, "state": h.State}); err == nil {
			c.hub.add(frame{topic: "host", data: data})
		}
	}
	return now
}
