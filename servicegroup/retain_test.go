package servicegroup_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/db"
	"github.com/drover-cloud/drover/servicegroup/memcached"
	"github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/servicegroup/zk"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
	clocks "github.com/drover-cloud/drover/testkit"
)

const week = servicegroup.Retain

// retaining is a driver whose records can be made old: pass lets d go by.
type retaining struct {
	servicegroup.Driver
	pass func(d time.Duration)
}

func retainers() map[string]func(t *testing.T) retaining {
	env := func() (drover.Env, func(time.Duration)) {
		e, clock := clocks.Inline()
		return e, clock.Add
	}
	return map[string]func(t *testing.T) retaining{
		"memory": func(*testing.T) retaining {
			e, pass := env()
			return retaining{&memory.Driver{Env: e}, pass}
		},
		"sqlite": func(t *testing.T) retaining {
			e, pass := env()
			s := sqlite.New(testkit.OpenSQLite(t, testkit.SQLiteFile(t)), sqlite.Config{Env: e})
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			return retaining{s.Members(), pass}
		},
		"postgres": func(t *testing.T) retaining {
			server := testkit.Postgres(t)
			b := testkit.OpenPostgres(t, server.Database(t), 2)
			if err := postgres.New(b, postgres.Config{Schema: "ops"}).Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			e, pass := env() // the driver asks the server for the time, and its own clock when it is to look
			d, err := db.New(b, db.Config{Env: e, Schema: "ops"})
			if err != nil {
				t.Fatal(err)
			}
			return retaining{d, func(d time.Duration) {
				pass(d)
				if _, err := b.DB.ExecContext(t.Context(), `UPDATE ops.drover_members SET seen = seen - $1`, d.Microseconds()); err != nil {
					t.Fatal(err)
				}
			}}
		},
		"zk": func(t *testing.T) retaining { // whose servers' clock nobody can set: its week is 200 ms
			e, _ := env()
			e.Clock = passing{pass: new(time.Duration)}
			d := openZK(t, zk.Config{Env: e, Servers: []string{testkit.ZooKeeper(t).Addr}, Prefix: prefix(t), Retain: 200 * time.Millisecond})
			return retaining{d, func(d time.Duration) {
				*e.Clock.(passing).pass += d
				time.Sleep(d/(week/(200*time.Millisecond)) + 20*time.Millisecond)
			}}
		},
		"memcached": func(t *testing.T) retaining {
			server := testkit.Memcached(t)
			flush(t, server.Addr)
			e, pass := env()
			d := openMemcached(t, memcached.Config{Env: e, Servers: []string{server.Addr}})
			return retaining{d, func(d time.Duration) {
				pass(d)
				if d >= week { // their keys have expired
					for _, id := range []string{"old", "crashed"} {
						tell(t, server.Addr, "delete drover:g:"+id, "DELETED")
					}
				}
			}}
		},
	}
}

// passing is real time and what was added.
type passing struct{ pass *time.Duration }

func (p passing) Now() time.Time                         { return time.Now().Add(*p.pass) }
func (p passing) After(d time.Duration) <-chan time.Time { return time.After(d) }

// tell sends a line to memcached.
func tell(t testing.TB, addr, line, want string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, line+"\r\n")
	if got, err := bufio.NewReader(c).ReadString('\n'); err != nil || got != want+"\r\n" {
		t.Fatal(got, err)
	}
}

func TestRetention(t *testing.T) {
	for name, open := range retainers() {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			join := func(id string) servicegroup.Member {
				m, err := d.Join(t.Context(), servicegroup.Member{Group: "g", ID: id, Instance: "of " + id})
				if err != nil {
					t.Fatal(id, err)
				}
				return m
			}
			old := join("old")
			if err := d.Leave(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			if name != "zk" { // whose members are there as long as this process
				join("crashed")
			}
			marks, ok := d.Driver.(servicegroup.Marker)
			if ok && name != "memcached" {
				if err := marks.Mark(t.Context(), "g", "kept", servicegroup.MaintenanceMark); err != nil {
					t.Fatal(err)
				}
			}
			live := join("live")
			ids := func() string {
				ms, err := d.Members(t.Context(), "g")
				if err != nil {
					t.Fatal(err)
				}
				var s []string
				for _, m := range ms {
					s = append(s, m.ID)
				}
				slices.Sort(s)
				return strings.Join(s, " ")
			}
			first := ids()
			d.pass(time.Minute)
			join("live2")
			if got, want := ids(), strings.Replace(first, "live", "live live2", 1); len(got) != len(want) {
				t.Fatalf("after a minute: %s, want %s", got, want)
			}
			d.pass(week)
			beat(t, d.Driver, live)
			d.pass(time.Hour)
			join("new")
			want := map[string]string{"memcached": "live live2 new", "zk": "kept live live2 new"}[name]
			if want == "" {
				want = "kept live new"
			}
			if got := ids(); got != want {
				t.Fatalf("after a week: %s, want %s", got, want)
			}
			if m := join("old"); m.Incarnation < 1 {
				t.Fatalf("back: %+v", m)
			}
		})
	}
}

func beat(t *testing.T, d servicegroup.Driver, m servicegroup.Member) {
	t.Helper()
	if err := d.Beat(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// TestConfirmed: what one node is told reaches the others.
func TestConfirmed(t *testing.T) {
	const s = time.Second
	e, clock := clocks.Inline()
	d := &memory.Driver{Env: e}
	var all []servicegroup.Member
	for i := range 10 {
		m, err := d.Join(t.Context(), servicegroup.Member{Group: "drover", ID: fmt.Sprintf("n%d", i), Instance: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	watcher := func(id string) *servicegroup.Group {
		g, err := servicegroup.New(servicegroup.Config{Env: e, Driver: d, ID: id, Interval: -1})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	a, b := watcher("a"), watcher("b")
	after := func(dur time.Duration, from int, gs ...*servicegroup.Group) {
		t.Helper()
		for range dur / (10 * s) {
			clock.Add(10 * s)
			for _, m := range all[from:] {
				beat(t, d, m)
			}
			for _, g := range gs {
				if _, err := g.Members(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	is := func(g *servicegroup.Group, want string) {
		t.Helper()
		v := g.View()
		if got := fmt.Sprint(len(v.Up), " up ", len(v.Down), " down ", len(v.Unknown), " unknown ", v.Frozen); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	after(20*s, 0, a, b)
	after(80*s, 6, a, b)
	for _, g := range []*servicegroup.Group{a, b} {
		is(g, "4 up 0 down 6 unknown true")
	}
	if err := a.ConfirmDown(t.Context(), "n0", "n1", "n2", "n3", "n4", "n5"); err != nil {
		t.Fatal(err)
	}
	is(a, "4 up 6 down 0 unknown false")
	after(10*s, 6, a, b)
	is(b, "4 up 6 down 0 unknown false")
	if m, _ := b.View().Member("n0"); m.Mark != "" || m.Reason != servicegroup.Late {
		t.Errorf("%+v", m)
	}
	late := watcher("c") // sees them for the first time, and what was said of them
	after(10*s, 6, late)
	is(late, "4 up 6 down 0 unknown false")
	after(20*s, 0, a, b) // they beat again: what was said counts no more
	is(b, "10 up 0 down 0 unknown false")
	after(80*s, 6, a, b)
	is(b, "4 up 0 down 6 unknown true")
}
