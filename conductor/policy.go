package conductor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
)

// Policy is what a host may do: what its own rows need (OwnRows), and what the fields add. Everything else is [ErrDenied],
// the whole commit refused.
//
// OwnRows: sessions named as the host, or host.<suffix>; named leases and due times under host/<host>/; beats of itself, and
// the list of its group; jobs of its queues that its sessions claim, with all that their end brings about, and reading those
// and their children; its own record and claims of the tracker; events under host.<host>.
type Policy struct {
	// TrustNames takes senders at their word where the transport proves nothing.
	TrustNames bool
	// Kinds that a host may claim; nil = all, of its queues.
	Kinds func(host string) []string
	// Queues that are a host's; nil = <host> and host/<host>.
	Queues func(host string) []string
	// Submit says which hosts may submit jobs, and then read any by its id; nil = none.
	Submit func(host string) bool
	// Allow lets a host do whatever the method of the store can; nil = nothing more.
	Allow func(host, store, method string) bool
}

// grant decides for one call of a host, within the transaction that does it.
type grant struct {
	host   string
	policy *Policy
	nodes  *nodes
	inner  inner
	tx     store.Tx
	ctx    context.Context
	ended  map[string]bool // jobs that this commit has ended, and those cancelled for it
	woken  map[string]bool // jobs that this commit may move on for it
}

func (g *grant) denied(what, row string) error {
	return fmt.Errorf("%w: %s may not %s %s", ErrDenied, g.host, what, row)
}

// may decides by the arguments.
func (g *grant) may(m *method, a any) (free bool, err error) {
	if g.policy.Allow != nil && g.policy.Allow(g.host, m.store, m.name) {
		return true, nil
	}
	if m.allow == nil {
		return false, g.denied(m.String(), "")
	}
	return false, m.allow(g, a)
}

// own says that a node's name is the host's.
func (g *grant) own(node string) bool {
	return node == g.host || strings.HasPrefix(node, g.host+".")
}

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// session refuses a token that is not one of the host's sessions. One that does not exist is the store's to refuse.
func (g *grant) session(t lease.Token) error {
	if !g.own(t.Node) {
		return g.denied("use the session of", t.Node)
	}
	return g.epoch(t.Epoch)
}

func (g *grant) epoch(epoch int64) error {
	name, ok := g.nodes.get(epoch)
	if !ok {
		ls, _ := g.inner["lease"].(lease.Store)
		if ls == nil {
			return g.denied("use sessions of", "a server without leases")
		}
		all, err := ls.List(g.ctx, g.tx)
		if err != nil {
			return err
		}
		for _, i := range all {
			if !i.Named {
				g.nodes.put(i.Holder.Epoch, i.Name)
			}
		}
		name, ok = g.nodes.get(epoch)
	}
	if ok && !g.own(name) {
		return g.denied("use the session of", name)
	}
	return nil
}

func (g *grant) ownName(name string) error {
	if !strings.HasPrefix(name, "host/"+g.host+"/") {
		return g.denied("use the name", name)
	}
	return nil
}

func mayOpen(g *grant, a openArgs) error {
	if !g.own(a.Info.Name) {
		return g.denied("open a session for", a.Info.Name)
	}
	return nil
}

func hasOpened(g *grant, a openArgs, t lease.Token) error {
	g.nodes.put(t.Epoch, a.Info.Name)
	return nil
}

func mayAcquire(g *grant, a nameArgs) error { return firstErr(g.session(a.Token), g.ownName(a.Name)) }

func mayRelease(g *grant, a nameArgs) error {
	if !g.own(a.Token.Node) {
		return g.denied("release a lease of", a.Token.Node)
	}
	return g.ownName(a.Name)
}

func mayHost(g *grant, host string) error {
	if host != g.host {
		return g.denied("use the record of", host)
	}
	return nil
}

// mayAdd looks at the subjects of events; casts are nobody's.
func mayAdd(g *grant, rows []bus.Row) error {
	for _, r := range rows {
		subject, err := bus.SubjectOf(r)
		if err != nil || !strings.HasPrefix(subject+".", "host."+g.host+".") {
			return g.denied("publish", subject)
		}
	}
	return nil
}

// member is about membership.
func (g *grant) member(method string, a *memberArgs) error {
	if method == callMembers {
		return nil
	}
	if id := servicegroup.Fold(a.Member.ID); id != servicegroup.Fold(g.host) {
		return g.denied(method+" as", a.Member.ID)
	}
	return nil
}

// holds says that a row is, or was last, run by the host.
func (g *grant) holds(r *job.Row) bool { return r.Session != "" && g.own(r.Session) }

func (g *grant) rows(ids []string) (map[string]*job.Row, error) {
	js, _ := g.inner["job"].(job.Store)
	out := map[string]*job.Row{}
	if len(ids) == 0 || js == nil {
		return out, nil
	}
	found, err := js.List(g.ctx, g.tx, job.Find{IDs: ids, Limit: len(ids)})
	for i := range found.Rows {
		out[found.Rows[i].ID] = &found.Rows[i]
	}
	return out, err
}

// mayLook is for settings, which everybody has to keep.
func mayLook(g *grant, set []job.Setting) error {
	if len(set) > 0 {
		return g.denied("change the setting", set[0].Name)
	}
	return nil
}

func mayList(g *grant, f job.Find) error {
	wide := f.Query != nil || len(f.Resources) > 0 || len(f.Count) > 0 || f.Due != "" && f.Due != "cancel"
	switch {
	case wide:
		return g.denied("list jobs of", "others")
	case len(f.Sessions) == 0 && f.Due != "":
		return g.denied("list jobs of", "all sessions")
	}
	for _, s := range f.Sessions {
		if err := g.epoch(s); err != nil {
			return err
		}
	}
	return nil
}

// mayRead holds for its own jobs and their children.
func mayRead(g *grant, f job.Find, found job.Found) error {
	g.conceal(found.Rows)
	if g.policy.Submit != nil && g.policy.Submit(g.host) && len(f.Parents) == 0 {
		return nil
	}
	return g.readable(found.Rows)
}

// conceal leaves out sealed args of jobs that the host does not run; it would need the cipher, too.
func (g *grant) conceal(rows []job.Row) {
	for i := range rows {
		if r := &rows[i]; !g.holds(r) && bytes.Contains(r.Args, []byte(`"$sealed"`)) {
			r.Args = nil
		}
	}
}

func (g *grant) readable(rows []job.Row) error {
	var parents []string
	for i := range rows {
		if r := &rows[i]; !g.holds(r) && r.Parent != "" {
			parents = append(parents, r.Parent)
		}
	}
	of, err := g.rows(parents)
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		if p := of[r.Parent]; !g.holds(r) && (p == nil || !g.holds(p)) {
			return g.denied("read job", r.ID)
		}
	}
	return nil
}

func maySubmit(g *grant, rows []job.Row) error {
	if g.policy.Submit == nil || !g.policy.Submit(g.host) {
		return g.denied("submit", rowNames(rows))
	}
	return nil
}

func rowNames(rows []job.Row) string {
	if len(rows) == 0 {
		return "jobs"
	}
	return "job " + rows[0].ID
}

func mayClaim(g *grant, c job.Claim) error {
	if err := g.session(c.Session); err != nil {
		return err
	}
	queues := []string{g.host, "host/" + g.host}
	if g.policy.Queues != nil {
		queues = g.policy.Queues(g.host)
	}
	for _, q := range sorted(c.Free) {
		if !slices.Contains(queues, q) {
			return g.denied("claim from queue", q)
		}
	}
	if g.policy.Kinds == nil {
		return nil
	}
	kinds := g.policy.Kinds(g.host)
	for _, k := range c.Kinds {
		if !slices.Contains(kinds, k) {
			return g.denied("claim jobs of kind", k)
		}
	}
	return nil
}

func hasClaimed(g *grant, c job.Claim, _ job.Claimed) error {
	g.nodes.put(c.Session.Epoch, c.Session.Node) // the store has found it live
	return nil
}

// mayMove holds for jobs that the host runs, and for those that their end moves on. What is not in that state at that epoch is
// the store's to refuse.
func mayMove(g *grant, ms []job.Move) error {
	var ids []string
	for _, m := range ms {
		if !g.woken[m.ID] {
			ids = append(ids, m.ID)
		}
	}
	of, err := g.rows(ids)
	if err != nil {
		return err
	}
	for i := range ms {
		m := &ms[i]
		r := of[m.ID]
		switch {
		case g.woken[m.ID] || r == nil || r.Epoch != m.Epoch && !g.ended[r.Parent]:
		case g.holds(r) && m.From == job.Running && m.To != "":
		case g.ended[r.Parent] && (m.To == job.Cancelled || m.Cancel != nil):
			g.ended[m.ID] = true // its children, too
		default:
			return g.denied("move job", m.ID)
		}
	}
	return nil
}

func hasMoved(g *grant, ms []job.Move, done []bool) error {
	for i, m := range ms {
		if i < len(done) && done[i] && m.To.Final() {
			g.ended[m.ID] = true
		}
	}
	return nil
}

func mayFinish(g *grant, f job.Finish) error {
	if f.Start.Max > 0 {
		if err := mayClaim(g, f.Start); err != nil {
			return err
		}
	}
	return mayMove(g, f.Moves)
}

func hasFinished(g *grant, f job.Finish, r job.Finished) error {
	for i := range r.Parked {
		g.woken[r.Parked[i].ID] = true
	}
	return hasMoved(g, f.Moves, r.Done)
}

func mayLog(g *grant, es []job.Entry) error {
	ids := make([]string, len(es))
	for i := range es {
		ids[i] = es[i].JobID
	}
	of, err := g.rows(ids)
	if err != nil {
		return err
	}
	for i := range es {
		if r := of[es[i].JobID]; r != nil && r.Epoch == es[i].Epoch && !g.holds(r) {
			return g.denied("write to job", r.ID)
		}
	}
	return nil
}

func maySignal(g *grant, s job.Signal) error {
	for _, id := range s.Ended {
		if !g.ended[id] {
			return g.denied("signal the end of job", id)
		}
	}
	if s.Topic != "" && !strings.HasPrefix(s.Topic, "job/") {
		return g.denied("signal", s.Topic)
	}
	return nil
}

func hasSignalled(g *grant, s job.Signal, r job.Signalled) error {
	if s.Topic != "" {
		if err := g.readable(r.Rows); err != nil {
			return err
		}
	}
	g.conceal(r.Rows)
	for i := range r.Rows {
		g.woken[r.Rows[i].ID] = true
	}
	return nil
}

// own stores: see Method.Allow.
func allowed[A any](f func(host string, a A) bool) func(g *grant, a any) error {
	return func(g *grant, a any) error {
		if f == nil || !f(g.host, a.(A)) {
			raw, _ := json.Marshal(fmt.Sprintf("%.80v", a))
			return g.denied("do", string(raw))
		}
		return nil
	}
}
