package console_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store/memory"
)

// mesh reaches consoles of this process by their node's name; a frozen one never answers.
type mesh struct {
	self string
	all  map[string]*console.Console
	ice  map[string]bool
}

func (m mesh) Others(context.Context) (names []string, err error) {
	for n := range m.all {
		if n != m.self {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m mesh) Ask(ctx context.Context, node string, q []byte) ([]byte, error) {
	if m.ice[node] {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return m.all[node].Answer(ctx, q)
}

// task is a task of a node that counts its runs.
func (r *rig) task(runs *atomic.Int64, err error) *periodic.Set {
	s := &periodic.Set{Env: r.env}
	_ = s.Every(time.Hour, "audit", func(context.Context) error { runs.Add(1); return err }, periodic.Initial(time.Hour))
	return s
}

func TestPeriodic(t *testing.T) {
	t.Run("console-13 three nodes, one frozen", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db, all, ice := &memory.Store{}, map[string]*console.Console{}, map[string]bool{"ms3": true}
			var rigs []*rig
			runs := map[string]*atomic.Int64{}
			for _, name := range []string{"ms1", "ms2", "ms3"} {
				runs[name] = &atomic.Int64{}
				env := drover.Env{Node: name, Logger: quiet.Logger}
				set := (&rig{env: env}).task(runs[name], nil)
				r := newRig(t, db, name, func(c *console.Config) { c.Periodic, c.Nodes = set, mesh{name, all, ice} })
				all[name], rigs = r.c, append(rigs, r)
				r.run()
				defer r.end()
				ctx, stop := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { defer close(done); _ = set.Run(ctx) }()
				defer func() { stop(); <-done }()
			}
			r, at := rigs[0], time.Now()
			v := items(r.ask(200, "GET", "/v1/periodic", ""))
			if d := time.Since(at); d > 1100*time.Millisecond {
				t.Errorf("after %v", d)
			}
			var got []string
			for _, n := range v {
				got = append(got, fmt.Sprint(text(n, "node"), " ", len(n["tasks"].([]any)), text(n, "error")))
			}
			if want := []string{"ms1 1", "ms2 1", "ms3 0no answer"}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			page := r.do("GET", "/periodic", "").Body.String()
			for _, want := range []string{"ms3: no answer", `id="t-ms1-audit"`, `id="t-ms2-audit"`, "every 1 h"} {
				if !strings.Contains(page, want) {
					t.Errorf("the page has no %q", want)
				}
			}
			r.ask(200, "POST", "/v1/periodic/audit/trigger", `{"node":"ms2"}`)
			time.Sleep(time.Second)
			if runs["ms1"].Load() != 0 || runs["ms2"].Load() != 1 || runs["ms3"].Load() != 0 {
				t.Errorf("runs: %d %d %d, want it on ms2 once", runs["ms1"].Load(), runs["ms2"].Load(), runs["ms3"].Load())
			}
			r.ask(404, "POST", "/v1/periodic/nothing/trigger", `{"node":"ms2"}`)
			r.ask(404, "POST", "/v1/periodic/audit/trigger", `{"node":"ms9"}`)
			if v := r.ask(504, "POST", "/v1/periodic/audit/trigger", `{"node":"ms3"}`); text(v, "code") != "no-answer" {
				t.Errorf("%v", v)
			}
			done := items(r.ask(200, "POST", "/v1/periodic/audit/disable", `{}`))
			if len(done) != 3 || done[0]["done"] != true || done[1]["done"] != true || done[2]["done"] != false || !strings.Contains(text(done[2], "error"), "no answer") {
				t.Errorf("%v", done)
			}
			for _, n := range items(r.ask(200, "GET", "/v1/periodic", ""))[:2] {
				if task := n["tasks"].([]any)[0].(map[string]any); task["enabled"] != false {
					t.Errorf("%v", task)
				}
			}
			at = time.Now() // what is known is enough for the first page: a node that is stuck holds nobody up
			r.ask(200, "GET", "/v1/overview", "")
			if d := time.Since(at); d > 500*time.Millisecond {
				t.Errorf("the overview took %v", d)
			}
		})
	})
	t.Run("console-13 a live page", func(t *testing.T) {
		var runs atomic.Int64
		var set *periodic.Set
		inRig(t, func(c *console.Config) {
			set = (&rig{env: c.Env}).task(&runs, nil)
			c.Periodic = set
		}, func(r *rig) {
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = set.Run(ctx) }()
			v := view(r.c, "topics=periodic")
			time.Sleep(3 * time.Second)
			if n := len(named(v.events(), "periodic")); n != 0 {
				t.Errorf("%d frames, and nothing has happened", n)
			}
			_ = set.Trigger("audit")
			time.Sleep(1100 * time.Millisecond)
			if n := len(named(v.events(), "periodic")); n < 1 || n > 2 { // it runs, it has run
				t.Errorf("%d frames after a run", n)
			}
			v.close()
			stop()
			<-done
		})
	})
}

// group is a membership made up.
type group struct {
	console.MemberView
	did []string
}

func (g *group) View() console.MemberView { return g.MemberView }
func (g *group) Mark(_ context.Context, id, mark string) error {
	g.did = append(g.did, "mark "+id+" "+mark)
	return nil
}
func (g *group) ConfirmDown(_ context.Context, ids ...string) error {
	g.did = append(g.did, fmt.Sprint("down ", ids))
	return nil
}
func (g *group) Forget(_ context.Context, id string, ban bool) error {
	g.did = append(g.did, fmt.Sprint("forget ", id, ban))
	return nil
}

func TestMembers(t *testing.T) {
	t.Run("console-15 states", func(t *testing.T) {
		g := &group{MemberView: console.MemberView{Members: []console.Member{
			{ID: "ms1", State: "up", Reason: "beat", Addr: "10.0.0.1:8080", Version: "v1"},
			{ID: "ms2", State: "unknown", Reason: "mass", Age: time.Minute},
			{ID: "ms3", State: "down", Reason: "late", Age: time.Hour, Mark: "maintenance"},
			{ID: "ms4", State: "down", Reason: "left"},
			{ID: "ms5", State: "up", Reason: "beat"},
		}, Frozen: true}}
		drained := ""
		var all map[string]*console.Console
		inRig(t, func(c *console.Config) {
			other, err := console.New(console.Config{Env: drover.Env{Node: "ms5", Logger: quiet.Logger}, Drain: func(context.Context) error { drained = "ms5"; return nil }})
			if err != nil {
				t.Fatal(err)
			}
			all = map[string]*console.Console{"ms1": nil, "ms5": other}
			c.Members, c.Nodes = g, mesh{"ms1", all, nil}
		}, func(r *rig) {
			s5, err := lease.New(lease.Config{Env: drover.Env{Node: "ms5", Logger: quiet.Logger}, Tx: r.db, Store: r.db.Leases()})
			if err != nil {
				t.Fatal(err)
			}
			s5.Announce(context.Background(), false)
			if _, err := s5.Step(context.Background()); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"ms1": "up", "ms2": "unknown", "ms3": "down", "ms4": "left", "ms5": "draining"}
			v := r.ask(200, "GET", "/v1/members", "")
			if v["frozen"] != true {
				t.Error("not frozen")
			}
			for _, m := range items(v) {
				if text(m, "state") != want[text(m, "id")] {
					t.Errorf("%s is %s, want %s", text(m, "id"), text(m, "state"), want[text(m, "id")])
				}
			}
			page := r.do("GET", "/members", "").Body.String()
			for id, state := range want {
				row := page[strings.Index(page, `id="m-`+id+`"`):]
				row = row[:strings.Index(row, "</tr>")]
				if !strings.Contains(row, "#i-"+state) || !strings.Contains(row, ">"+state+"<") {
					t.Errorf("%s: no word and shape %q in %s", id, state, row)
				}
			}
			if !strings.Contains(page, `id="frozen"`) || !strings.Contains(page, "mass") || !strings.Contains(page, "10.0.0.1:8080") {
				t.Error("no banner, reason or address")
			}
			v = r.ask(409, "POST", "/v1/members/ms1/confirm-down", `{"confirm":"ms1"}`)
			if text(v, "code") != "wrong-state" || text(v, "current", "state") != "up" || len(g.did) > 0 {
				t.Errorf("%v %v", v, g.did)
			}
			r.ask(400, "POST", "/v1/members/ms2/confirm-down", `{}`)
			r.ask(404, "POST", "/v1/members/ms9/confirm-down", `{"confirm":"ms9"}`)
			r.ask(200, "POST", "/v1/members/ms2/confirm-down", `{"confirm":"ms2"}`)
			r.ask(200, "POST", "/v1/members/ms2/mark", `{"mark":"maintenance"}`)
			r.ask(400, "POST", "/v1/members/ms2/mark", `{"mark":"lost"}`)
			r.ask(200, "POST", "/v1/members/ms3/forget", `{"confirm":"ms3","ban":true}`)
			if got := fmt.Sprint(g.did); got != "[down [ms2] mark ms2 maintenance forget ms3true]" {
				t.Error(got)
			}
			r.ask(200, "POST", "/v1/members/ms5/drain", `{}`)
			r.ask(404, "POST", "/v1/members/ms1/drain", `{}`)
			if drained != "ms5" {
				t.Error("it was not told to drain")
			}
			o := r.ask(200, "GET", "/v1/members/owner?key=vm/42", "")
			if owners := o["owners"].([]any); len(owners) != 3 || slices.Contains(owners, any("ms3")) || slices.Contains(owners, any("ms4")) {
				t.Errorf("%v", o)
			}
		})
	})
	t.Run("console-15 a clean stop is no failure", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			env := drover.Env{Node: "ms2", Logger: quiet.Logger}
			ctx, stop := context.WithCancel(context.Background())
			s, err := lease.New(lease.Config{Env: env, Tx: r.db, Store: r.db.Leases()})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); _ = s.Run(ctx) }()
			synctest.Wait()
			stop()
			<-done
			for range 2 {
				time.Sleep(time.Minute)
				if m := items(r.ask(200, "GET", "/v1/members", ""))[1]; text(m, "state") != "left" {
					t.Errorf("%v", m)
				}
				if v := r.ask(200, "GET", "/v1/overview", ""); v["well"] != true || v["members_up"] != 1.0 {
					t.Errorf("%v", v)
				}
			}
		})
	})
}

// hosts are made up.
type hosts []console.Host

func (h hosts) Hosts(context.Context) ([]console.Host, error) { return h, nil }

func TestOverview(t *testing.T) {
	t.Run("console-16 what is wrong is named", func(t *testing.T) {
		var runs atomic.Int64
		var set *periodic.Set
		fencing := hosts{{Name: "host-a", State: "up"}, {Name: "host-b", State: "fencing", Reason: "no heartbeat, power is being cut", Since: time.Now()}}
		inRig(t, func(c *console.Config) {
			set = (&rig{env: c.Env}).task(&runs, errors.New("ledger: disk full"))
			c.Periodic, c.Hosts = set, fencing
		}, func(r *rig) {
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = set.Run(ctx) }()
			defer func() { stop(); <-done }()
			h := r.submit("work", args{Name: "h"}, on("1"))
			w := r.submit("work", args{Name: "w"}, on("1"))
			synctest.Wait()
			_ = set.Trigger("audit")
			time.Sleep(15 * time.Minute)
			v := r.ask(200, "GET", "/v1/overview", "")
			if v["well"] != false {
				t.Error("all is well, it says")
			}
			tasks, blocked, bad := v["tasks"].([]any), v["blocked"].([]any), v["hosts"].([]any)
			if len(tasks) != 1 || text(tasks[0].(map[string]any), "error") != "ledger: disk full" || text(tasks[0].(map[string]any), "node") != "ms1" {
				t.Errorf("tasks: %v", tasks)
			}
			if len(bad) != 1 || text(bad[0].(map[string]any), "name") != "host-b" || !strings.Contains(text(bad[0].(map[string]any), "reason"), "power") {
				t.Errorf("hosts: %v", bad)
			}
			found := false
			for _, b := range blocked {
				b := b.(map[string]any)
				found = found || text(b, "job", "id") == w.ID && text(b, "why") == "turn" && text(b, "holder") == h.ID
			}
			if !found {
				t.Errorf("blocked: %v", blocked)
			}
			page := r.do("GET", "/", "").Body.String()
			for _, want := range []string{"ledger: disk full", "host-b", "power is being cut", "/jobs/" + w.ID, "held by", "Needs attention"} {
				if !strings.Contains(page, want) {
					t.Errorf("the page has no %q", want)
				}
			}
			for _, path := range []string{"/hosts", "/periodic"} {
				if w := r.do("GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), "failing") && !strings.Contains(w.Body.String(), "fencing") {
					t.Errorf("%s: %d", path, w.Code)
				}
			}
		})
	})
	t.Run("console-16 a healthy cluster is one line", func(t *testing.T) {
		inRig(t, func(c *console.Config) {
			c.Periodic, c.Hosts = (&rig{env: c.Env}).task(&atomic.Int64{}, nil), hosts{{Name: "host-a", State: "up"}}
		}, func(r *rig) {
			j := r.submit("work", args{Name: "!a"})
			time.Sleep(time.Second)
			if r.get(j.ID).State != job.Succeeded {
				t.Fatal("not done")
			}
			page := r.do("GET", "/", "").Body.String()
			health := page[strings.Index(page, `id="health"`):]
			health = health[:strings.Index(health, "</div>")]
			if strings.Count(health, "<p") != 1 || !strings.Contains(health, "All is well: 1 node up") || strings.Contains(page, "Needs attention") {
				t.Errorf("%s", health)
			}
		})
	})
}
