package ha

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestOperate(t *testing.T) {
	p := Policy{}.Defaults()
	at := storeStart
	t.Run("beats that cannot be one", func(t *testing.T) {
		for want, b := range map[string]Beat{
			"Host is empty":  {},
			"Host has":       {Host: strings.Repeat("h", 1<<20)},
			"Incarnation -1": {Host: "h", Incarnation: -1},
			"Seq -1":         {Host: "h", Seq: -1},
		} {
			if err := (Record{}).Renew(b); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 100 {
				t.Errorf("%v, want %s", err, want)
			}
		}
	})
	t.Run("who is fenced renews nothing", func(t *testing.T) {
		for _, st := range States() {
			r := Record{State: st, Reason: Exhausted, Epoch: 2, Fenced: 5}
			refused := st == Fencing || st == Fenced || st == Offline || st == Blocked
			if err := r.Renew(Beat{Host: "h", Incarnation: 5}); errors.Is(err, ErrFenced) != refused {
				t.Errorf("%s: %v", st, err)
			}
			if err := r.Renew(Beat{Host: "h", Incarnation: 6}); err != nil {
				t.Errorf("%s, the next incarnation: %v", st, err)
			}
		}
	})
	t.Run("verbs", func(t *testing.T) {
		for _, c := range []struct {
			from State
			verb Verb
			vms  int
			to   State
			err  error
		}{
			{Up, Maintain, 3, Draining, nil}, {Maintenance, Resume, 0, Rejoining, nil}, {Draining, Resume, 3, Up, nil}, {Disabled, Enable, 0, Fresh, nil},
			{Up, Disable, 3, Disabled, nil}, {Fencing, Disable, 3, Fencing, ErrNotFenced}, {Fenced, Disable, 3, Fenced, ErrNotFenced},
			{Up, Remove, 1, Up, ErrNotFenced}, {Up, Remove, 0, Removed, nil}, {Offline, Remove, 1, Removed, nil}, {Maintenance, Remove, 1, Removed, nil},
			{Fencing, Remove, 1, Fencing, ErrNotFenced}, {Suspect, Maintain, 0, Suspect, nil}, {Removed, Enable, 0, Removed, nil},
		} {
			r := Record{Host: Host{ID: "h"}, State: c.from, Epoch: 7}
			n, err := p.Operate(r, c.verb, c.vms, at)
			if n.State != c.to || n.Epoch != 7 || !errors.Is(err, c.err) {
				t.Errorf("%s %s: %s, %v", c.verb, c.from, n.State, err)
			}
		}
	})
	t.Run("confirmations", func(t *testing.T) {
		r := Record{Host: Host{ID: "h"}, State: Fencing, Epoch: 4, Fenced: 1}
		if n, err := p.Confirm(r, 3, "eve", at); !errors.Is(err, ErrStale) || n.State != Fencing {
			t.Error(n.State, err)
		}
		if _, err := p.Confirm(r, 4, "", at); err == nil {
			t.Error("nobody has confirmed it")
		}
		n, err := p.Confirm(r, 4, "eve", at)
		if err != nil || n.State != Fenced || n.Proof.By != "eve" || n.Proof.Epoch != 4 {
			t.Errorf("%+v, %v", n, err)
		}
		// One that was never fenced gets an epoch of its own.
		r = Record{Host: Host{ID: "h"}, State: Blocked, Reason: Conflict, Epoch: 4, Fenced: 1, Incarnation: 3}
		if n, err = p.Confirm(r, 4, "eve", at); err != nil || n.Epoch != 5 || n.Proof.Epoch != 5 || n.Fenced != 3 {
			t.Errorf("%+v, %v", n, err)
		}
		for _, st := range []State{Up, Suspect, Degraded, Offline, Maintenance} {
			if n, err := p.Confirm(Record{State: st, Epoch: 4}, 4, "eve", at); !errors.Is(err, ErrNotFenced) || n.State != st {
				t.Errorf("%s: %v", st, err)
			}
		}
	})
	t.Run("explanations", func(t *testing.T) {
		seen := map[string]bool{}
		for _, st := range States() {
			for _, why := range []Reason{Exhausted, Conflict, ProtectionOff} {
				text := p.Explain(Record{State: st, Reason: why, Since: at.Add(-time.Minute), Until: at.Add(30 * time.Second), Unprotected: "zone"}, at)
				if !strings.HasPrefix(text, string(st)+" for 1m0s. ") || len(text) < 30 {
					t.Errorf("%s: %q", st, text)
				}
				if st == Blocked {
					seen[text] = true
				}
			}
		}
		if len(seen) != 3 {
			t.Errorf("%d explanations of blocked", len(seen))
		}
	})
}
