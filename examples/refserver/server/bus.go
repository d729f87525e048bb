package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/amqp"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/bus/nats"
	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
)

const (
	busMemory = "memory"
	// What a member tells of its bus, in its Meta: which one it is, and its incarnation there.
	busKey, lifeKey = "bus", "life"
)

// remote tells whether the bus reaches other nodes.
func (c *Config) remote() bool { return c.Bus != busMemory }

// checkBus refuses what is no address of a broker. An error never shows the address, which may hold a password.
func (c *Config) checkBus() error {
	kind, rest, _ := strings.Cut(c.Bus, "://")
	switch {
	case c.Bus == busMemory:
		return nil
	case kind != "nats" && kind != "amqp" && kind != "amqps":
		return flagError("bus", "want memory, nats://HOST:PORT,… or amqp://HOST:PORT[/VHOST]")
	}
	for i, host := range strings.Split(rest, ",") { // NATS has several
		u, err := url.Parse(kind + "://" + strings.TrimPrefix(host, kind+"://"))
		if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || i > 0 && kind != "nats" {
			return flagError("bus", "want %s://[USER:PASSWORD@]HOST:PORT; part %d is none", kind, i+1)
		}
	}
	return nil
}

// busName is what all nodes of a cluster must have the same.
func (c *Config) busName() string {
	if kind, _, _ := strings.Cut(c.Bus, "://"); kind != "amqps" {
		return kind
	}
	return "amqp"
}

// connect makes the bus, after the membership. It connects when it runs, and stays connected: a node without its broker works on
// alone.
func (s *Server) connect() (err error) {
	cfg := bus.Config{Env: s.env, Incarnation: s.life, Members: bus.Ringed(s.peers, s.watchPeers), DrainTimeout: 3 * time.Second}
	var t bus.Transport
	switch s.cfg.busName() {
	case "nats":
		t, err = nats.New(nats.Config{Env: s.env, URL: s.cfg.Bus})
	case "amqp":
		t, err = amqp.New(amqp.Config{Env: s.env, URL: s.cfg.Bus})
	default:
		t = new(memory.Hub).Open(s.env.Node)
	}
	if err != nil {
		return &FlagError{"bus", err}
	}
	if s.cfg.remote() {
		cfg.Outbox, cfg.Tx, cfg.Notify = s.db.Outbox(), s.db, s.db.Notifier()
	}
	s.bus = bus.New(t, cfg)
	if s.cfg.remote() {
		s.link = &cloud.Link{Env: s.env, Bus: s.bus, Members: cfg.Members, Key: s.key}
		s.cloud.Connect(s.link)
	}
	return nil
}

// peers are the members as the ring has them: those that are up, and those of which nobody knows.
func (s *Server) peers() (up, unknown []bus.Peer) {
	v := s.members.View()
	return peersOf(v.Up), peersOf(v.Unknown)
}

func peersOf(ms []servicegroup.Member) []bus.Peer {
	out := make([]bus.Peer, len(ms))
	for i := range ms {
		life, _ := strconv.ParseInt(ms[i].Meta[lifeKey], 10, 64) // 0: not known
		out[i] = bus.Peer{Node: nodeName(&ms[i]), Incarnation: life}
	}
	return out
}

func (s *Server) watchPeers(changed func()) (stop func()) {
	return s.members.Watch(func(_, _ servicegroup.View) { changed() })
}

// sameBus refuses to join nodes that have another bus: neither could reach the other. A membership that cannot be read now
// refuses nobody.
func (s *Server) sameBus(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	ms, err := s.members.Members(ctx)
	if err != nil {
		return nil //nolint:nilerr // it is tried again, and told, for as long as the node runs
	}
	for i := range ms {
		m := &ms[i]
		if theirs := m.Meta[busKey]; m.State == servicegroup.Up && nodeName(m) != s.env.Node && theirs != "" && theirs != s.cfg.busName() {
			return flagError("bus", "node %s has %s: all nodes of a cluster have the same bus", nodeName(m), theirs)
		}
	}
	return nil
}

// jobEvent is an event of a job as the bus carries it.
type jobEvent struct {
	Type     string    `json:"type"`
	Job      string    `json:"job"`
	Kind     string    `json:"kind"`
	State    job.State `json:"state"`
	Rev      int64     `json:"rev"`
	Percent  int       `json:"percent"`
	Step     string    `json:"step,omitempty"`
	Note     string    `json:"note,omitempty"`
	Parent   string    `json:"parent,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Key      string    `json:"key,omitempty"`
	Code     string    `json:"code,omitempty"`
	Node     string    `json:"node,omitempty"`
	Account  string    `json:"account,omitempty"`
	At       time.Time `json:"at"`
}

// Publish tells of the jobs, within the transactions that change them: this node's console, which is made after the manager, and
// whoever subscribes to job on the bus. A bus of one process has nobody who does.
func (s *Server) Publish(ctx context.Context, tx store.Tx, e job.Event) error {
	if s.console != nil {
		if err := s.console.Publish(ctx, tx, e); err != nil {
			return err
		}
	}
	if !s.cfg.remote() {
		return nil
	}
	out := jobEvent{
		Type: e.Type, Job: e.JobID, Kind: e.Kind, State: e.State, Rev: e.Rev, Percent: e.Progress.Percent, Step: e.Progress.Step, Note: e.Progress.Note,
		Parent: e.Parent, Resource: e.Resource, Code: e.Code, Node: e.Node, Account: e.Account, At: e.At,
	}
	if e.Key.Kind != "" {
		out.Key = e.Key.String()
	}
	data, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("refserver: event of job %s: %w", e.JobID, err)
	}
	return s.bus.Publish(ctx, tx, bus.Event{Subject: "job." + e.Type + "." + e.Kind, Order: e.JobID, Data: data})
}
