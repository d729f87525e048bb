package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/ring"
)

// Members is membership as the host has wired it, such as package servicegroup: who is in the group, and is it up.
type Members interface {
	// View is what this node knows now. It reads no store and does not wait.
	View() MemberView
	// Mark sets what an operator says of a member: "maintenance", "forced-down", or "" to take that back.
	Mark(ctx context.Context, id, mark string) error
	// ConfirmDown says of members that are held unknown, or late, that they are down.
	ConfirmDown(ctx context.Context, ids ...string) error
	// Forget removes a member's record; banned, it may not come back.
	Forget(ctx context.Context, id string, ban bool) error
}

// MemberView is a snapshot of the group.
type MemberView struct {
	Members  []Member // by ID
	Frozen   bool     // too many were silent at once: nobody is called down for being late
	Isolated bool     // this node is cut off, by its own account
	Leader   string   // a hint; "" = none
}

// Member is one of the group.
type Member struct {
	ID, Addr, Version string
	State             string // up, down, unknown
	Reason            string // such as beat, late, left, mass; "left" is a stop in good order
	Mark, Health      string
	Incarnation       int64
	Joined            time.Time
	Age               time.Duration // of the last beat
	Meta              map[string]string
}

// ErrRefused is wrapped by a [Members] for what the member's state does not allow.
var ErrRefused = errors.New("console: refused")

func (c *Console) leases(ctx context.Context) ([]lease.Info, error) {
	if c.cfg.Leases == nil {
		return nil, nil
	}
	return shared(ctx, c.calm, "leases", c.cfg.Leases.List)
}

// members joins membership, if there is one, with the sessions.
func (c *Console) members(ctx context.Context) (jobjson.Members, error) {
	infos, err := c.leases(ctx)
	if err != nil {
		return jobjson.Members{}, err
	}
	out := jobjson.Members{Items: jobjson.MembersOf(infos)}
	if c.cfg.Members == nil {
		return out, nil
	}
	v := c.cfg.Members.View()
	out.Frozen, out.Isolated, out.Leader = v.Frozen, v.Isolated, v.Leader
	sessions := map[string]memberObject{}
	for _, m := range out.Items {
		sessions[m.ID] = m
	}
	out.Items = []memberObject{}
	for _, m := range v.Members {
		s, has := sessions[m.ID]
		delete(sessions, m.ID)
		out.Items = append(out.Items, joined(m, s, has))
	}
	for _, id := range sortedKeys(sessions) { // a session without membership is told all the same
		if s := sessions[id]; s.State == "up" || s.State == "draining" {
			s.State, s.Reason = "unknown", "never"
			out.Items = append(out.Items, s)
		}
	}
	slices.SortFunc(out.Items, func(a, b memberObject) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func joined(m Member, s memberObject, has bool) memberObject {
	o := s
	if !has {
		o.Session, o.Incarnation = "none", m.Incarnation
	}
	o.ID, o.State, o.Reason, o.Addr, o.Version = m.ID, m.State, m.Reason, m.Addr, m.Version
	o.Mark, o.Health, o.Age, o.Joined, o.Meta = m.Mark, m.Health, m.Age.Milliseconds(), stamp(m.Joined), m.Meta
	switch {
	case m.State == "down" && m.Reason == "left":
		o.State = "left"
	case m.State == "up" && s.State == "draining":
		o.State = "draining"
	}
	return o
}

func (c *Console) listMembers(r *http.Request) (*answer, error) {
	ms, err := c.members(r.Context())
	if err != nil {
		return nil, err
	}
	return ok(ms)
}

// ownerObject says who owns a key.
type ownerObject struct {
	Key    string   `json:"key"`
	Owners []string `json:"owners"` // the owner, then who follows
}

// owner answers by the ring of those that are up or unknown.
func (c *Console) owner(r *http.Request) (*answer, error) {
	if err := only(r, []string{"key"}); err != nil {
		return nil, err
	}
	key := r.URL.Query().Get("key")
	if key == "" {
		return nil, bad("key: is missing")
	}
	ms, err := c.members(r.Context())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range ms.Items {
		if m.State == "up" || m.State == "draining" || m.State == "unknown" {
			names = append(names, m.ID)
		}
	}
	return ok(ownerObject{key, ring.New(names).Owners(key, 3)})
}

type markBody struct {
	Mark string `json:"mark"`
	Back string `json:"back"`
}

type confirmBody struct {
	Confirm string `json:"confirm"`
	Back    string `json:"back"`
}

type forgetBody struct {
	Confirm string `json:"confirm"`
	Ban     bool   `json:"ban"`
	Back    string `json:"back"`
}

// member answers the members after a verb on one, which only who sees all accounts may do.
func (c *Console) member(r *http.Request, in any, notice string, do func(ctx context.Context, m memberObject) error) (*answer, error) {
	if err := body(r, in); err != nil {
		return nil, err
	}
	if who(r.Context()).Account != "" {
		return nil, notFound("the member")
	}
	ms, err := c.members(r.Context())
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(ms.Items, func(m memberObject) bool { return m.ID == r.PathValue("id") })
	if at < 0 {
		return nil, notFound("member " + r.PathValue("id"))
	}
	m := ms.Items[at]
	if err := do(r.Context(), m); err != nil {
		p := problemOf(err)
		if errors.Is(err, ErrRefused) {
			p = &problem{Status: http.StatusConflict, Code: "wrong-state", Detail: err.Error()}
		}
		if p.Status == http.StatusConflict {
			p.Current = m
		}
		return nil, p
	}
	c.forget()
	c.hub.add(frame{topic: "member", data: fmt.Appendf(nil, `{"id":%q,"state":%q}`, m.ID, m.State)})
	a, err := c.listMembers(r)
	if a != nil {
		a.notice = notice
	}
	return a, err
}

func (c *Console) markMember(r *http.Request) (*answer, error) {
	var in markBody
	return c.member(r, &in, "mark", func(ctx context.Context, m memberObject) error {
		if !slices.Contains([]string{"", "maintenance", "forced-down"}, in.Mark) {
			return bad(fmt.Sprintf("mark: %q: must be maintenance, forced-down or empty", in.Mark))
		}
		return c.cfg.Members.Mark(ctx, m.ID, in.Mark)
	})
}

func (c *Console) confirmDown(r *http.Request) (*answer, error) {
	var in confirmBody
	return c.member(r, &in, "confirm-down", func(ctx context.Context, m memberObject) error {
		if m.State == "up" || m.State == "draining" {
			return fmt.Errorf("%s is up: only who is silent is confirmed to be down: %w", m.ID, ErrRefused)
		}
		if in.Confirm != m.ID {
			return bad("confirm: must be the member's id")
		}
		return c.cfg.Members.ConfirmDown(ctx, m.ID)
	})
}

func (c *Console) forgetMember(r *http.Request) (*answer, error) {
	var in forgetBody
	return c.member(r, &in, "forget", func(ctx context.Context, m memberObject) error {
		if in.Confirm != m.ID {
			return bad("confirm: must be the member's id")
		}
		return c.cfg.Members.Forget(ctx, m.ID, in.Ban)
	})
}

// telling is a route that has a node drain itself, or take work again.
func telling(verb string) func(*Console, *http.Request) (*answer, error) {
	notice := map[string]string{"drain": "drain", "resume": "undrain"}[verb]
	return func(c *Console, r *http.Request) (*answer, error) {
		return c.member(r, &emptyBody{}, notice, func(ctx context.Context, m memberObject) error {
			_, err := c.tellNode(ctx, m.ID, question{Do: verb, By: who(ctx).Name})
			return err
		})
	}
}

func (c *Console) listLeases(r *http.Request) (*answer, error) {
	infos, err := c.leases(r.Context())
	if err != nil {
		return nil, err
	}
	out := list[jobjson.Lease]{Items: []jobjson.Lease{}}
	for _, i := range infos {
		out.Items = append(out.Items, jobjson.LeaseOf(i))
	}
	return ok(out)
}

// changedMembers sends a frame per node whose state has changed since last.
func (c *Console) changedMembers(ctx context.Context, last map[string]string) map[string]string {
	ms, err := c.members(ctx)
	if err != nil {
		return last
	}
	now, fs := map[string]string{"": fmt.Sprint(ms.Frozen, ms.Isolated)}, []frame(nil)
	for _, m := range ms.Items {
		now[m.ID] = m.State + " " + m.Mark
	}
	for _, id := range sortedKeys(now) {
		if last == nil || last[id] == now[id] {
			continue
		}
		state, _, _ := strings.Cut(now[id], " ")
		if id == "" {
			state = "changed"
		}
		if data, err := json.Marshal(map[string]string{"id": id, "state": state}); err == nil {
			fs = append(fs, frame{topic: "member", data: data})
		}
	}
	c.hub.add(fs...)
	return now
}
