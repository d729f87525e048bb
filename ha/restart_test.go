package ha

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestRestart(t *testing.T) {
	p := Policy{}.Defaults()
	now := storeStart
	type given func(r *Row, f *Facts)
	for _, c := range []struct {
		name  string
		given given
		want  string
	}{
		{"e1 newer epoch", func(_ *Row, f *Facts) { f.Newer = true }, "superseded newer epoch"},
		{"e2 turn held", func(_ *Row, f *Facts) { f.Held = true }, "waiting turn +0s"},
		{"e3 gone", func(_ *Row, f *Facts) { f.VM = nil }, "skipped gone"},
		{"e3 in error", func(_ *Row, f *Facts) { f.Error = true }, "skipped not-restartable"},
		{"e4 host is back", func(_ *Row, f *Facts) { f.Host.State, f.Host.Proof = Up, nil }, "cancelled host is up"},
		{"e4 not after a fence", func(_ *Row, f *Facts) { f.Host.State = Up }, "pending  stop"},
		{"e4 not after a stop", func(_ *Row, f *Facts) { f.Host.State, f.Host.Proof, f.Stopped = Up, nil, true }, "waiting host +1m0s alarm"},
		{"e4 not for other causes", func(r *Row, f *Facts) { r.Cause, f.Host.State, f.Host.Proof = "", Up, nil }, "waiting host +1m0s alarm"},
		{"e5 changed", func(_ *Row, f *Facts) { f.VM.Generation = 8 }, "superseded changed"},
		{"e5 own write", func(r *Row, f *Facts) { f.VM.Generation, r.Wrote = 8, 8 }, "pending  stop"},
		{"e6 moved", func(_ *Row, f *Facts) { f.VM.Host = "h2" }, "skipped moved"},
		{"e6 own move", func(r *Row, f *Facts) { f.VM.Host, f.VM.Generation, r.Wrote = "h2", 8, 8 }, "pending  stop"},
		{"e7 alive, host up", func(_ *Row, f *Facts) { f.Verdict, f.Host.State = Alive, Up }, "skipped alive on its host"},
		{"e7 alive, host not up", func(_ *Row, f *Facts) { f.Verdict = Alive }, "waiting alive +1m0s"},
		{"e8 no proof", func(_ *Row, f *Facts) { f.Host.Proof = nil }, "waiting host +1m0s alarm"},
		{"e8 proof of another epoch", func(_ *Row, f *Facts) { f.Host.Proof.Epoch = 2 }, "waiting host +1m0s alarm"},
		{"e8 contradicted", func(_ *Row, f *Facts) { f.Host.Epoch, f.Host.State, f.Host.Proof = 4, Fencing, nil }, "waiting host +1m0s alarm"},
		{"e9 not protected", func(_ *Row, f *Facts) { f.VM.Protected = false }, "skipped not-protected"},
		{"e9 forced", func(_ *Row, f *Facts) { f.VM.Protected, f.VM.Forced = false, true }, "pending  stop"},
		{"e10 local disk", func(_ *Row, f *Facts) { f.VM.Stuck = "root disk" }, "skipped local"},
		{"e11 stop", func(*Row, *Facts) {}, "pending  stop"},
		{"e11 stop fails", func(_ *Row, f *Facts) { f.StopFail = "boom" }, "waiting not due +5s"},
		{"e11 stop fails for the tenth time", func(r *Row, f *Facts) { f.StopFail, r.Attempts = "boom", 9 }, "needs-operator  alarm"},
		{"e12 start", func(_ *Row, f *Facts) { f.Stopped = true }, "placing  start"},
		{"guest gone on a living host", func(r *Row, f *Facts) {
			r.Proof, r.Cause, f.Host.State, f.Host.Proof = &Proof{Kind: GuestGone}, "", Up, nil
		}, "pending  stop"},
	} {
		t.Run("ha-21 "+c.name, func(t *testing.T) {
			vm := VM{ID: "v", Host: "h1", Generation: 7, Protected: true}
			now := vm
			r := Row{ID: "r", Kind: Restart, Host: "h1", Epoch: 3, VM: vm, State: Pending, Cause: HostDown}
			f := Facts{Now: storeStart, VM: &now, Host: Record{State: Fenced, Epoch: 3, Proof: &Proof{Kind: PowerOff, Epoch: 3}}}
			c.given(&r, &f)
			n, do, alarm := p.Next(r, f)
			got := fmt.Sprintf("%s %s", n.State, n.Reason)
			if n.State == Waiting {
				got += fmt.Sprintf(" +%v", n.Until.Sub(f.Now))
			}
			if do != Exit {
				got += " " + string(do)
			}
			if alarm {
				got += " alarm"
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if want := r.Attempts; f.StopFail == "" && n.Attempts != want {
				t.Errorf("%d attempts spent", n.Attempts-want)
			}
		})
	}
	t.Run("ha-14 the tenth failure", func(t *testing.T) {
		r := Row{}
		var waits []time.Duration
		for range 9 {
			n, _, alarm := p.failed(r, now)
			if n.State != Waiting || alarm {
				t.Fatalf("%+v", n)
			}
			r, waits = n, append(waits, n.Until.Sub(now))
		}
		if want := []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s, 300 * s}; !slices.Equal(waits, want) {
			t.Errorf("waits %v", waits)
		}
		if n, _, alarm := p.failed(r, now); n.State != NeedsOperator || !alarm || n.Attempts != 10 {
			t.Errorf("%+v", n)
		}
	})
}

// fenced gives a lab with a fenced host and rows for its VMs.
func recovering(t *testing.T, vms ...VM) *lab {
	l := newLab(t, 3, Policy{})
	l.in(0, Fenced, func(r *Record) {
		r.Epoch, r.Fenced, r.Lost, r.Proof = 1, 1, l.s.Store.Add(-time.Hour), &Proof{Kind: PowerOff, Epoch: 1}
	})
	for i, v := range vms {
		if v.ID == "" {
			v.ID = fmt.Sprintf("v%03d", i)
		}
		v.Protected = true
		l.s.Rows = append(l.s.Rows, Row{ID: v.ID, Kind: Restart, Host: "h00", Epoch: 1, VM: v, State: Pending, Opened: l.s.Store})
	}
	return l
}

func (l *lab) row(id string) *Row {
	for i := range l.s.Rows {
		if l.s.Rows[i].ID == id {
			return &l.s.Rows[i]
		}
	}
	return nil
}

func TestRows(t *testing.T) {
	t.Run("system before user, then by priority", func(t *testing.T) {
		l := recovering(t, VM{ID: "low"}, VM{ID: "high", Priority: 9}, VM{ID: "sys", Kind: System})
		l.did("recover sys", "hold high dependency", "hold low dependency")
		l.row("sys").State = RowDone
		l.did("recover high")
		l.row("high").State = NeedsOperator
		l.did("recover low")
		l.row("low").State = Skipped
		l.did("h00 fenced>offline e1")
	})
	t.Run("ha-67 dependencies", func(t *testing.T) {
		err := Acyclic([]VM{{ID: "a", After: []string{"b"}}, {ID: "b", After: []string{"c", "a"}}, {ID: "c"}})
		if !errors.Is(err, ErrCycle) || err.Error() != "ha: dependency cycle: a after b after a" {
			t.Error(err)
		}
		if err := Acyclic([]VM{{ID: "a", After: []string{"b", "c"}}, {ID: "b", After: []string{"c"}}, {ID: "c"}, {ID: "d", After: []string{"gone"}}}); err != nil {
			t.Error(err)
		}
		l := recovering(t, VM{ID: "a"}, VM{ID: "b", After: []string{"a"}})
		l.did("recover a", "hold b dependency")
		l.pass(600*s - 1)
		l.beat(1, 2)
		l.h(1).Seen.Last, l.h(2).Seen.Last = l.now, l.now
		l.did()
		l.pass(1)
		l.did("recover b")
	})
	t.Run("64 in flight", func(t *testing.T) {
		l := recovering(t, make([]VM, 500)...)
		if got := count(l.step(), "recover"); got != 64 {
			t.Errorf("%d in flight", got)
		}
		l.row("v000").State, l.row("v001").State = RowDone, Waiting
		l.row("v001").Reason, l.row("v001").Until = ForTime, l.s.Store.Add(time.Minute)
		l.did("recover v064", "recover v065")
	})
	t.Run("no proof, no start", func(t *testing.T) {
		l := recovering(t, VM{ID: "a"})
		l.h(0).Proof = &Proof{Kind: PowerOff, Epoch: 0}
		l.did("hold a host")
		l.s.Policy.Disarmed = true
		l.h(0).Proof.Epoch = 1
		l.did("hold a disarmed")
	})
}
