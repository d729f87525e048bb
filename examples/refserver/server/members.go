package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/memcached"
	"github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/servicegroup/zk"
)

// nodeKey is the node's own name in a member's Meta: an ID has no slashes.
const nodeKey = "node"

// servers are the hosts and the path of a membership of its own.
type servers struct {
	scheme string
	addrs  []string // host:port
	path   string
}

// members reads -membership; nil: it is not an address of servers.
func (c *Config) members() *servers {
	u, err := url.Parse(c.Membership)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !slices.Contains(schemes, u.Scheme) {
		return nil
	}
	return &servers{u.Scheme, strings.Split(u.Host, ","), strings.Trim(u.Path, "/")}
}

var schemes = []string{"zk", "memcached"}

// join makes this node's membership; it joins when it runs.
func (s *Server) join() error {
	driver, err := s.driver()
	if err != nil {
		return &FlagError{"membership", err}
	}
	s.life = s.env.Clock.Now().UnixNano()
	s.members, err = servicegroup.New(servicegroup.Config{
		Env: s.env, Driver: driver, Group: "refserver", Addr: s.URL(), Version: version(),
		Meta:     map[string]string{nodeKey: s.env.Node, busKey: s.cfg.busName(), lifeKey: strconv.FormatInt(s.life, 10)},
		Interval: s.cfg.Beat, Down: s.cfg.Down, Health: func() drover.Health { return s.service.Health() },
	})
	return err
}

func (s *Server) driver() (servicegroup.Driver, error) {
	switch s.cfg.Membership {
	case "memory":
		return memory.New(), nil
	case "db":
		return s.db.Members(), nil
	}
	at := s.cfg.members()
	if at.scheme == "zk" {
		prefix := ""
		if at.path != "" {
			prefix = "/" + at.path
		}
		return zk.New(zk.Config{Env: s.env, Servers: at.addrs, Prefix: prefix, Session: min(max(s.cfg.Down, time.Second), time.Minute)})
	}
	cfg := memcached.Config{Env: s.env, Servers: at.addrs, Down: s.cfg.Down}
	if marks, ok := s.db.Members().(interface {
		servicegroup.Driver
		servicegroup.Marker
	}); ok {
		cfg.Marks = marks // memcached forgets
	}
	return memcached.New(cfg)
}

// leads says whether the tasks of the cluster should rather run here. Two nodes may think so, or none for a while: the ledger
// decides.
func (s *Server) leads() bool {
	m, found := s.members.View().Leader()
	return found && m.Meta[nodeKey] == s.env.Node
}

// members is the membership as the console sees it, by the names that nodes have everywhere else.
type members struct{ g *servicegroup.Group }

func (m members) View() console.MemberView {
	v := m.g.View()
	out := console.MemberView{Frozen: v.Frozen, Isolated: !v.Self}
	if l, found := v.Leader(); found {
		out.Leader = nodeName(&l)
	}
	for _, x := range v.Members() {
		out.Members = append(out.Members, console.Member{
			ID: nodeName(&x), Addr: x.Addr, Version: x.Version, State: x.State.String(), Reason: string(x.Reason), Mark: string(x.Mark),
			Health: x.Health.State, Incarnation: x.Incarnation, Joined: x.Joined, Age: x.Age, Meta: x.Meta,
		})
	}
	return out
}

func nodeName(m *servicegroup.Member) string {
	if name := m.Meta[nodeKey]; name != "" {
		return name
	}
	return m.ID
}

func (m members) Mark(ctx context.Context, id, mark string) error {
	return refused(m.g.Mark(ctx, memberID(id), servicegroup.Mark(mark)))
}

func (m members) ConfirmDown(ctx context.Context, ids ...string) error {
	own := make([]string, len(ids))
	for i, id := range ids {
		own[i] = memberID(id)
	}
	return refused(m.g.ConfirmDown(ctx, own...))
}

func (m members) Forget(ctx context.Context, id string, ban bool) error {
	return refused(m.g.Forget(ctx, memberID(id), ban))
}

// memberID is the ID that a node's name becomes.
func memberID(node string) string { return strings.ReplaceAll(node, "/", ".") }

// refused marks what the member's state does not allow.
func refused(err error) error {
	if errors.Is(err, servicegroup.ErrTaken) {
		return fmt.Errorf("%w: %w", console.ErrRefused, err)
	}
	return err
}
